/** Opening the file behind a member: what it is, whether we may have it, and its descriptors. */
import { constants, statSync } from "node:fs";
import type { BigIntStats } from "node:fs";
import { resolve } from "node:path";
import { NbdRaidError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import { punchHole } from "../platform/fallocate.ts";
import { isOnMemoryFileSystem } from "../platform/file-system.ts";
import { lockImage } from "../platform/lock.ts";
import type { Unlock } from "../platform/lock.ts";
import { seekEnd } from "../platform/seek.ts";
import { closeDescriptor, openDescriptor, statDescriptor } from "./pooled.ts";

export interface OpenFile {
  readonly descriptor: number;
  /** Opened O_DSYNC: a write is on stable storage when it returns. Null if read-only. */
  readonly durableDescriptor: number | null;
  readonly sizeBytes: number;
  /** Equal for the same storage, whatever the path. */
  readonly identity: string;
  /** On tmpfs or ramfs: nothing waits for a device. */
  readonly inMemory: boolean;
  /** The file system makes holes. */
  readonly punches: boolean;
  /** To be called before the descriptors are closed. */
  readonly unlock: Unlock;
}

const URI = /^[a-z+]+:\/\//;

/** The absolute path of a file. Throws member-not-file for a URI, which is no name of one. */
export function absoluteFile(given: string): string {
  if (URI.test(given)) throw new NbdRaidError("member-not-file", `${given} is not a file`);
  return resolve(given);
}

const { O_RDONLY, O_RDWR, O_DSYNC, O_EXCL } = constants;

/**
 * Opens and locks a regular file or a block device; with `unlocked` only opens it. `path` is
 * absolute. Throws an NbdRaidError: member-not-file, member-unreadable, member-in-use.
 */
export async function openFile(
  path: string,
  readOnly: boolean,
  unlocked = false,
): Promise<OpenFile> {
  const descriptors: number[] = [];
  try {
    const expected = statSync(path, { bigint: true });
    const identity = identityOf(path, expected); // before open, which for some things does things
    const open = async (flags: number): Promise<number> => {
      const fd = await openDescriptor(path, flags);
      descriptors.push(fd);
      if (identityOf(path, await statDescriptor(fd)) !== identity) {
        throw new Error("it was replaced while it was opened");
      }
      return fd;
    };
    // For block devices O_EXCL keeps out of mounted ones, and of md's and dm's.
    const exclusive = expected.isBlockDevice() ? O_EXCL : 0;
    const descriptor = await open(readOnly ? O_RDONLY : O_RDWR | exclusive);
    const durableDescriptor = readOnly ? null : await open(O_RDWR | O_DSYNC);
    const isFile = expected.isFile();
    const sizeBytes = isFile ? Number(expected.size) : await seekEnd(descriptor);
    const inMemory = isFile && isOnMemoryFileSystem(path);
    const punches = isFile && !readOnly && (await canPunch(descriptor, sizeBytes));
    // Last: nothing may fail after it.
    const unlock = unlocked ? () => undefined : lockImage(descriptor, path, readOnly);
    if (unlock === null) throw new NbdRaidError("member-in-use", `${path} is in use`);
    return { descriptor, durableDescriptor, sizeBytes, identity, inMemory, punches, unlock };
  } catch (error) {
    await Promise.all(descriptors.map((fd) => closeDescriptor(fd)));
    throw openError(path, error);
  }
}

/** Tries it behind the end of the file, where there is nothing to lose. */
async function canPunch(descriptor: number, sizeBytes: number): Promise<boolean> {
  try {
    await punchHole(descriptor, Math.ceil(sizeBytes / 4096) * 4096, 4096);
    return true;
  } catch {
    return false;
  }
}

/** Equal for the same storage. Throws member-not-file for what cannot be a member. */
export function identityOf(path: string, stat: BigIntStats): string {
  if (stat.isFile()) return `${stat.dev}:${stat.ino}`;
  if (stat.isBlockDevice()) return `block:${stat.rdev}`;
  throw new NbdRaidError("member-not-file", `${path} is neither a file nor a block device`);
}

function openError(path: string, error: unknown): NbdRaidError {
  if (error instanceof NbdRaidError) return error;
  const busy = (error as NodeJS.ErrnoException).code === "EBUSY";
  const code: ErrorCode = busy ? "member-in-use" : "member-unreadable";
  const reason = error instanceof Error ? error.message : String(error);
  return new NbdRaidError(code, `cannot open ${path}: ${reason}`, { cause: error });
}
