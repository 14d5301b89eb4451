import { writeSync } from "node:fs";
import { type DestinationStream, type Logger, pino } from "pino";
import { printableLines } from "../render/printable.ts";
import type { Terminal } from "../terminal.ts";
import type { LogLevel } from "./log-levels.ts";

const STDERR = 2;

/** To stderr: JSON lines, or text if a person reads it. Never throws, see {@link writerTo}. */
export async function createLogger(
  level: LogLevel,
  { stderr, env }: Pick<Terminal, "stderr" | "env">,
  out = writerTo(STDERR),
): Promise<Logger> {
  if (!stderr.isTTY) return pino({ level }, out);
  const { prettyFactory } = await import("pino-pretty");
  const inWords = prettyFactory({ colorize: !env["NO_COLOR"], ignore: "pid,hostname" });
  const show = (line: string): string => inWords(printableLines(JSON.parse(line)));
  return pino({ level }, { write: (line) => out.write(show(line)) });
}

/**
 * Writes lines at once, so that the last words before an exit are not lost. What the descriptor
 * does not take is: no line is worth the arrays that it tells of, so a full disk, a terminal that
 * is gone and a reader that does not read (EAGAIN) are no errors. Lines come again when there is
 * room again, and none is appended to half of another.
 */
export function writerTo(fd: number): DestinationStream {
  let torn = false;
  return {
    write(line) {
      const bytes = Buffer.from(torn ? `\n${line}` : line);
      let written = 0;
      try {
        while (written < bytes.length) written += writeSync(fd, bytes, written);
      } catch {
        // lost, as told above
      }
      if (written > 0) torn = written < bytes.length;
    },
  };
}
