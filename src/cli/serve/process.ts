import type { Logger } from "pino";

const EXIT_AT_ONCE = 1;
/** EX_SOFTWARE in sysexits.h. */
const EXIT_BUG = 70;

/** The first SIGTERM, SIGINT or SIGHUP (the terminal is gone) calls `stop`, a second one ends it. */
export function stopOnSignals(stop: () => void, logger: Logger): void {
  let signalled = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (signalled) {
      logger.fatal({ signal }, "stopped at once: the next start resyncs what was in use");
      process.exit(EXIT_AT_ONCE);
    }
    signalled = true;
    logger.info({ signal }, "stopping: finishing requests, marking arrays clean");
    stop();
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, onSignal);
}

/**
 * A bug ends the process before it writes anything more; the next start resyncs. (A rejection
 * that nobody handles is an uncaught exception too.)
 */
export function exitOnBugs(logger: Logger): void {
  process.on("uncaughtException", (error) => {
    logger.fatal({ err: error }, "stopped by a bug: the next start resyncs what was in use");
    process.exit(EXIT_BUG);
  });
}
