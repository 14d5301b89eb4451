import { CommanderError } from "commander";
import { errorDocument, operatingError } from "../control/failure.ts";
import { type ErrorCode, NbdRaidError } from "../errors.ts";
import { printable, printableLines } from "./render/printable.ts";
import { printJson, type Terminal } from "./terminal.ts";

export const EXIT_USAGE = 64;
export const EXIT_ERROR = 4;

const EXIT_CODES: Partial<Record<ErrorCode, number>> = { usage: EXIT_USAGE, "no-server": 3 };

/**
 * Says what went wrong, in one line on stderr, and as a document on stdout if `json`. Returns
 * the exit code. A bug shows its stack too.
 */
export function reportFailure(
  thrown: unknown,
  json: boolean,
  { stdout, stderr }: Terminal,
): number {
  const error = asFailure(thrown);
  stderr.write(`nbd-raid: ${printable(error.message)} (${error.remedy})\n`);
  if (error.code === "internal") stderr.write(`${printableLines(stackOf(thrown))}\n`);
  if (json) printJson(stdout, { version: 1, error: errorDocument(error) });
  return exitCodeOf(error);
}

export function exitCodeOf({ code }: NbdRaidError): number {
  return EXIT_CODES[code] ?? EXIT_ERROR;
}

/** Anything thrown, as an entry of the catalogue with a message of one line. */
export function asFailure(thrown: unknown): NbdRaidError {
  const message = oneLine(thrown instanceof Error ? thrown.message : String(thrown));
  if (thrown instanceof CommanderError) return new NbdRaidError("usage", usageMessage(thrown));
  const code = operatingError(thrown)?.code ?? "internal";
  return new NbdRaidError(code, message, { cause: thrown });
}

function usageMessage({ code, message }: CommanderError): string {
  // Without a verb commander has printed the help, and its error says only so.
  return code === "commander.help"
    ? "a command is missing"
    : oneLine(message.replace(/^error: /, ""));
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, " ");
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
