import { existsSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import type { Logger } from "pino";
import { assertWritable, type DirectoryContent, findMembers } from "../../array/find-members.ts";
import { NbdRaidError } from "../../errors.ts";
import { addCreate } from "../commands/create.ts";
import { asFailure } from "../failure.ts";
import type { Terminal } from "../terminal.ts";

const CONFIG_NAME = "nbd-raid.yaml";

/** What `serve --directory` found: a configuration file, or else a way to the members. */
export interface DirectorySource {
  readonly config?: string;
  readonly members?: (surroundings: Surroundings) => Promise<string[]>;
}

interface Surroundings {
  readonly terminal: Terminal;
  readonly readOnly: boolean;
  readonly logger: Logger;
}

/** `directory` is absolute. Nothing but a name is looked at yet. */
export function lookInDirectory(directory: string): DirectorySource {
  const config = join(directory, CONFIG_NAME);
  if (existsSync(config)) return { config };
  return { members: (surroundings) => membersIn(directory, surroundings) };
}

/**
 * The members in a directory. If it is empty and $NBD_RAID_CREATE has the arguments of `create`,
 * an array is made in it first; nothing is ever written where something is. Throws "no-members"
 * or "directory-denied", or what `create` throws.
 */
async function membersIn(
  directory: string,
  { terminal, readOnly, logger }: Surroundings,
): Promise<string[]> {
  let content = await findMembers(directory);
  const create = terminal.env["NBD_RAID_CREATE"]?.trim() ?? "";
  if (isEmpty(content) && create !== "") {
    await assertWritable([directory]);
    await createIn(directory, create.split(/\s+/), { terminal, logger });
    content = await findMembers(directory);
  }
  const { members, others } = content;
  if (members.length === 0) throw noMembers(directory, others);
  if (others.length > 0) logger.info({ directory, others }, "left alone: no members of arrays");
  if (!readOnly) await assertWritable(members);
  return [...members];
}

function isEmpty({ members, others }: DirectoryContent): boolean {
  return members.length === 0 && others.length === 0;
}

function noMembers(directory: string, [first, ...more]: readonly string[]): NbdRaidError {
  if (first === undefined) return new NbdRaidError("no-members", `${directory} is empty`);
  const rest = more.length === 0 ? "" : ` and ${more.length} more`;
  const message = `${directory} holds no member of an array, but ${first}${rest}`;
  return new NbdRaidError("no-members", message);
}

/** As `nbd-raid create` with these words, which may name nothing outside the directory. */
async function createIn(
  directory: string,
  words: readonly string[],
  { terminal, logger }: Omit<Surroundings, "readOnly">,
): Promise<void> {
  const toLog = { writable: true, write: (text: string) => logger.info(`made ${text.trim()}`) };
  const silent = { writeOut: () => undefined, writeErr: () => undefined };
  const program = new Command().exitOverride().configureOutput(silent);
  addCreate(program, { terminal: { ...terminal, stdout: toLog }, directory, exitCode: 0 });
  try {
    const path = words.find((word) => word.includes("/"));
    if (path !== undefined)
      throw new NbdRaidError("usage", `a name of a file in ${directory} is meant, not ${path}`);
    await program.parseAsync(["create", ...words], { from: "user" });
  } catch (error) {
    const { code, message } = isHelp(error) ? HELP_ASKED : asFailure(error);
    throw new NbdRaidError(code, `NBD_RAID_CREATE: ${message}`, { cause: error });
  }
}

const HELP_ASKED = { code: "usage", message: "--help is no array to be made" } as const;

/** Commander's way to end what it has printed help for. */
function isHelp(error: unknown): boolean {
  return error instanceof CommanderError && error.exitCode === 0;
}
