import { tmpdir } from "node:os";
import { resolve } from "node:path";
import { InvalidArgumentError, Option } from "commander";
import { ControlClient } from "../control/client.ts";
import { controlPath } from "../control/path.ts";
import type { Terminal } from "./terminal.ts";

/** What every command is given, and where it leaves its exit code. */
export interface Context {
  readonly terminal: Terminal;
  /** Relative members are in this one. Without: in the working directory. */
  readonly directory?: string;
  exitCode: number;
  /** What the command prints is for onlookers: it goes on without them. */
  mayLoseOutput?: true;
}

/** Options that many commands have, each time anew: commander keeps state in them. */
export const jsonOption = (): Option => new Option("--json", "print one JSON document");
export const controlOption = (): Option =>
  pathOption("--control <path>", "the server's control socket (also $NBD_RAID_CONTROL)");

/** An option whose value names something: an empty one is a variable that was never set. */
export function pathOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((path) => {
    if (path === "") throw new InvalidArgumentError("It is empty.");
    return path;
  });
}

/** Where the control socket is for this process. */
export function ownControlPath({ terminal }: Context, given?: string): string {
  return controlPath(given, {
    env: terminal.env,
    uid: process.getuid?.() ?? 0,
    temporaryFolder: tmpdir(),
  });
}

export function connectControl(context: Context, options: { control?: string }): ControlClient {
  return new ControlClient(ownControlPath(context, options.control));
}

/** The server's working directory is another: paths travel absolute. URIs stay as they are. */
export function absoluteMember(member: string): string {
  return memberIn(".", member);
}

/** The same, relative to a directory. */
export function memberIn(directory: string, member: string): string {
  return /^nbd(s|\+unix|s\+unix)?:\/\//.test(member) ? member : resolve(directory, member);
}

/** A member of a running array: a slot number too. (A file named 0 is ./0.) */
export function runningMember(member: string): string {
  return /^\d+$/.test(member) ? member : absoluteMember(member);
}
