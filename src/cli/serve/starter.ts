import type { Logger } from "pino";
import { notify } from "../../platform/notify.ts";
import type { ServeEvents } from "./serve.ts";

/** Tells a service manager that waits for it (systemd's Type=notify) how far the server is. */
export function tellStarter(
  notifySocket: string | undefined,
  logger: Logger,
): Pick<ServeEvents, "ready" | "stopping"> {
  const tell = (state: string): void => {
    if (notifySocket === undefined || notify(notifySocket, state)) return;
    logger.warn({ notifySocket, state }, "the service manager cannot be told: see Type=exec");
  };
  return { ready: () => tell("READY=1"), stopping: () => tell("STOPPING=1") };
}
