import { spawn, type SpawnOptions } from "node:child_process";
import { text } from "node:stream/consumers";

export interface CommandResult {
  /** The exit code; a signal that ended the command counts as 128. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type CommandOptions = Pick<SpawnOptions, "cwd" | "env"> & { readonly input?: string };

// Python modules of the distribution (libnbd's) belong to the distribution's own interpreter.
const path = `/usr/bin:/usr/sbin:${process.env["PATH"] ?? ""}`;

/** Runs a command to its end and returns what it said; any exit code is an answer. */
export async function attempt(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = spawn(command, args, {
    ...options,
    env: { ...process.env, PATH: path, ...options.env },
    stdio: "pipe",
  });
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 128));
  });
  child.stdin.on("error", () => undefined); // a command need not read its input
  child.stdin.end(options.input ?? "");
  const [code, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { code, stdout, stderr };
}

/** Runs a command that must succeed, and returns its stdout. */
export async function run(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await attempt(command, args, options);
  if (code === 0) return stdout;
  throw new Error(`${command} ${args.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
}
