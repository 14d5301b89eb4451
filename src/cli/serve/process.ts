import { isatty } from "node:tty";
import type { Logger } from "pino";
import type { ServeActions } from "./serve.ts";

const EXIT_AT_ONCE = 1;
/** EX_SOFTWARE in sysexits.h. */
const EXIT_BUG = 70;
const STANDARD_STREAMS = [0, 1, 2];

/**
 * The first SIGTERM or SIGINT stops the server, a second one ends it. SIGHUP reads its keys and
 * certificates again, unless it means that the terminal the server was started on is gone: that
 * stops it too. `isTerminal` tells whether a descriptor is one, still.
 */
export function actOnSignals(
  { stop, reload }: ServeActions,
  logger: Logger,
  isTerminal: (fd: number) => boolean = isatty,
): void {
  let signalled = false;
  const onStop = (signal: NodeJS.Signals): void => {
    if (signalled) {
      logger.fatal({ signal }, "stopped at once: the next start resyncs what was in use");
      process.exit(EXIT_AT_ONCE);
    }
    signalled = true;
    logger.info({ signal }, "stopping: finishing requests, marking arrays clean");
    stop();
  };
  const terminals = STANDARD_STREAMS.filter(isTerminal);
  const isGone = (): boolean => terminals.length > 0 && !terminals.some(isTerminal);
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, onStop);
  process.on("SIGHUP", (signal) => {
    if (isGone()) onStop(signal);
    else reload();
  });
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
