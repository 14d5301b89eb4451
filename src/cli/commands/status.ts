import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { ArrayStatus } from "../../array/status.ts";
import type { StatusDocument } from "../../control/api.ts";
import { connectControl, type Context, controlOption, jsonOption } from "../context.ts";
import { asFailure, exitCodeOf } from "../failure.ts";
import { renderStatus } from "../render/status.ts";
import { paintFor, printJson, type Terminal } from "../terminal.ts";

const WATCH_INTERVAL_MS = 1000;
/** Cursor to the top left, clear from there to the end of the screen. */
const REDRAW = "\x1b[H\x1b[J";

interface StatusOptions {
  control?: string;
  json?: true;
  watch?: true;
  quiet?: true;
}

export function addStatus(program: Command, context: Context): void {
  program
    .command("status")
    .description("show arrays, their members, bitmaps and syncs, and who is connected")
    .argument("[array]")
    .addOption(controlOption())
    .addOption(jsonOption())
    .option("--watch", "show it again each second; with --json a document a line")
    .option("--quiet", "print nothing: only the exit code")
    .addHelpText("after", HELP)
    .action(async (array: string | undefined, options: StatusOptions) => {
      const client = connectControl(context, options);
      const fetch = (): Promise<StatusDocument> => client.status(array);
      if (options.quiet) context.exitCode = await quietExitCode(fetch);
      else if (options.watch) await watch(fetch, context, options);
      else {
        const document = await fetch();
        print(document, context.terminal, options);
        context.exitCode = healthExitCode(document.arrays);
      }
    });
}

const HELP = `
Exit codes: 0 healthy, 1 degraded, 2 failed (the worst of several), 3 no server runs, 4 an error.

Examples:
  nbd-raid status
  nbd-raid status data --json
  nbd-raid status --quiet || echo look here
`;

/** 0 healthy, 1 degraded, 2 failed; of several arrays the worst. */
export function healthExitCode(arrays: readonly ArrayStatus[]): number {
  return Math.max(0, ...arrays.map(({ state, degraded }) => healthOf(state, degraded)));
}

function healthOf(state: ArrayStatus["state"], degraded: number): number {
  if (state === "failed") return 2;
  return degraded > 0 ? 1 : 0;
}

async function quietExitCode(fetch: () => Promise<StatusDocument>): Promise<number> {
  try {
    return healthExitCode((await fetch()).arrays);
  } catch (error) {
    return exitCodeOf(asFailure(error));
  }
}

/** Until the server goes (an error then), or the reader of the output does. */
async function watch(
  fetch: () => Promise<StatusDocument>,
  context: Context,
  options: StatusOptions,
): Promise<void> {
  const { stdout } = context.terminal;
  while (stdout.writable) {
    const document = await fetch();
    if (options.json) stdout.write(`${JSON.stringify(document)}\n`);
    else {
      if (stdout.isTTY) stdout.write(REDRAW);
      print(document, context.terminal, options);
    }
    context.exitCode = healthExitCode(document.arrays);
    await sleep(WATCH_INTERVAL_MS);
  }
}

function print(document: StatusDocument, { stdout, env }: Terminal, { json }: StatusOptions): void {
  if (json) printJson(stdout, document);
  else stdout.write(renderStatus(document, paintFor(stdout, env)));
}
