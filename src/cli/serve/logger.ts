import { type Logger, destination, pino } from "pino";
import type { Terminal } from "../terminal.ts";
import type { LogLevel } from "./log-levels.ts";

const STDERR = 2;

/**
 * To stderr: JSON lines, or text if a person reads it. Written at once, so that the last words
 * before an exit are not lost.
 */
export async function createLogger(level: LogLevel, { stderr, env }: Terminal): Promise<Logger> {
  if (!stderr.isTTY) return pino({ level }, destination({ fd: STDERR, sync: true }));
  const { PinoPretty } = await import("pino-pretty");
  return pino(
    { level },
    PinoPretty({
      destination: STDERR,
      sync: true,
      colorize: !env["NO_COLOR"],
      ignore: "pid,hostname",
    }),
  );
}
