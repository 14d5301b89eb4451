import { run } from "../../src/cli/main.ts";

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

interface Capture {
  env?: NodeJS.ProcessEnv;
  isTTY?: boolean;
  /** After so many writes to stdout its reader is gone. */
  writesMax?: number;
}

/** Runs one command line inside this process and collects what it prints. */
export async function nbdRaid(args: string[], options: Capture = {}): Promise<Result> {
  const { env = {}, isTTY = false, writesMax = Infinity } = options;
  const written: string[] = [];
  let stderr = "";
  const stdout = {
    isTTY,
    get writable() {
      return written.length < writesMax;
    },
    write: (text: string) => written.push(text),
  };
  const code = await run(["node", "nbd-raid", ...args], {
    stdout,
    stderr: { writable: true, write: (text: string) => (stderr += text) },
    env,
  });
  return { code, stdout: written.join(""), stderr };
}
