/** The members among the files of a directory. */
import { access, constants, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { NbdRaidError } from "../errors.ts";
import { FileMember } from "../member/file.ts";
import { findSuperblocks } from "./blank.ts";

export interface DirectoryContent {
  /** Absolute paths of image files with an md superblock, in the order of their names. */
  readonly members: readonly string[];
  /** Names of everything else. */
  readonly others: readonly string[];
}

/** A file system of its own has it from the start. */
const NOTHING = ["lost+found"];

/**
 * Looks at what is directly in `directory` and changes nothing. What cannot be read might be a
 * member: throws "directory-denied" for it, and "member-unreadable" if there is no such directory.
 */
export async function findMembers(directory: string): Promise<DirectoryContent> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EACCES" || error.code === "EPERM") throw denied("read", directory, error);
    throw new NbdRaidError("member-unreadable", error.message, { cause: error });
  });
  const found = { members: [] as string[], others: [] as string[] };
  for (const name of names.sort()) {
    if (NOTHING.includes(name)) continue;
    const path = join(directory, name);
    if (await isMember(path)) found.members.push(path);
    else found.others.push(name);
  }
  return found;
}

/** Throws "directory-denied" for the first of `paths` that this process may not write to. */
export async function assertWritable(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await access(path, constants.R_OK | constants.W_OK).catch((error: NodeJS.ErrnoException) => {
      throw denied("write to", path, error);
    });
  }
}

async function isMember(path: string): Promise<boolean> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ELOOP") return null; // a link to nowhere
    throw error;
  });
  if (found?.isFile() !== true) return false;
  await access(path, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    throw denied("read", path, error);
  });
  const member = await FileMember.openUnlocked(path);
  try {
    return (await findSuperblocks(member)).length > 0;
  } finally {
    await member.close();
  }
}

function denied(verb: string, path: string, cause: NodeJS.ErrnoException): NbdRaidError {
  const user = `user ${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`;
  return new NbdRaidError("directory-denied", `${user} may not ${verb} ${path}: ${cause.code}`, {
    cause,
  });
}
