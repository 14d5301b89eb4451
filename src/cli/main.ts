import { closeSync, readFileSync } from "node:fs";
import { isatty } from "node:tty";
import { Command, CommanderError } from "commander";
import { addAssemble } from "./commands/assemble.ts";
import { addConvert } from "./commands/convert.ts";
import { addCreate } from "./commands/create.ts";
import { addExamine } from "./commands/examine.ts";
import { addMemberVerbs } from "./commands/members.ts";
import { addServe } from "./commands/serve.ts";
import { addSet } from "./commands/set.ts";
import { addStatus } from "./commands/status.ts";
import { addSyncVerbs } from "./commands/syncs.ts";
import { addStop } from "./commands/stop.ts";
import { addWait } from "./commands/wait.ts";
import { addZeroSuperblock } from "./commands/zero-superblock.ts";
import type { Context } from "./context.ts";
import { NbdRaidError } from "../errors.ts";
import { reportFailure } from "./failure.ts";
import type { Output, Terminal } from "./terminal.ts";

/** The program: `argv` as process.argv has it. Ends the process. */
export async function main(argv: string[]): Promise<void> {
  const exitCode = await run(argv, {
    stdout: outputTo(process.stdout),
    stderr: outputTo(process.stderr),
    env: process.env,
  });
  await Promise.all([process.stdout, process.stderr].map(flushed));
  leaveLostTerminal();
  process.exit(exitCode);
}

/** At its exit Node gives terminals their settings back, and aborts if it cannot. */
function leaveLostTerminal(): void {
  const lost = [process.stdout, process.stderr].some(({ isTTY, fd }) => isTTY && !isatty(fd));
  if (lost) for (const fd of [0, 1, 2]) closeSync(fd);
}

/** `process.exit` drops what a pipe has not taken yet. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write("", () => resolve()));
}

/** Runs one command and resolves to its exit code; never rejects. */
export async function run(argv: string[], terminal: Terminal): Promise<number> {
  const context: Context = { terminal, exitCode: 0 };
  try {
    await parse(buildProgram(context), argv);
    if (!context.mayLoseOutput) await assertPrinted(terminal.stdout);
    return context.exitCode;
  } catch (error) {
    return reportFailure(error, argv.includes("--json"), terminal);
  }
}

/** Runs the command, or prints what --help and --version ask for. */
async function parse(program: Command, argv: string[]): Promise<void> {
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (!(error instanceof CommanderError && error.exitCode === 0)) throw error;
  }
}

/** Half a document, as on a full disk, is no success. */
async function assertPrinted({ failure }: Output): Promise<void> {
  const cause = await failure?.();
  if (cause) throw new NbdRaidError("io-error", `stdout: ${cause.message}`, { cause });
}

/** Each command adds itself, in the order that help shows. */
const COMMANDS: readonly ((program: Command, context: Context) => void)[] = [
  addCreate,
  addExamine,
  addAssemble,
  addConvert,
  addZeroSuperblock,
  addServe,
  addStatus,
  addMemberVerbs,
  addSyncVerbs,
  addSet,
  addWait,
  addStop,
];

/** The command tree; throws CommanderError where commander would end the process. */
export function buildProgram(context: Context): Command {
  const { stdout } = context.terminal;
  const program = new Command("nbd-raid")
    .description("Serves RAID arrays of image files over NBD, in md's on-disk format.")
    .version(packageVersion())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: () => undefined, // the one line is written by reportFailure
    })
    .addHelpText("after", HELP);
  for (const add of COMMANDS) add(program, context);
  return program;
}

const HELP = `
Sizes are 512, 64K, 10M, 1G, 2T. MEMBER is a path or, for a running array, a slot number.
Exit codes: 0, 3 (no server runs), 4 (an error), 64 (usage); status has its own.

Examples:
  nbd-raid create data --level 1 --size 10G a.img b.img
  nbd-raid serve a.img b.img
  nbd-raid status
`;

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/**
 * A write that fails ends nothing: of what is lost of stderr there is no telling, and what is lost
 * of stdout {@link run} asks for when all is done.
 */
function outputTo(stream: NodeJS.WriteStream): Output {
  let lost: Error | null = null;
  stream.on("error", () => undefined);
  return {
    isTTY: stream.isTTY,
    get writable() {
      return lost === null;
    },
    write: (text) => stream.write(text, (error) => (lost ??= error ?? null)),
    async failure() {
      await flushed(stream);
      return lost === null || isReaderGone(lost, stream) ? null : lost;
    },
  };
}

/** One that has seen enough (head), or a terminal that is gone: no error. */
function isReaderGone({ code }: NodeJS.ErrnoException, { isTTY }: NodeJS.WriteStream): boolean {
  return code === "EPIPE" || (code === "EIO" && isTTY);
}
