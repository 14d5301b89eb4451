/**
 * One program at a time on an image: flock(2) on its descriptor, which the kernel releases with
 * the descriptor. Where that cannot be had, a lock file beside the image that holds the owner's
 * process id.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { bind, lastErrno } from "./libc.ts";

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const EWOULDBLOCK = 11;

const flock = bind("int flock(int fd, int operation)");

/** Call before the descriptor is closed. */
export type Unlock = () => void;

const releasedWithDescriptor: Unlock = () => {};

/**
 * Locks the open file; a shared lock only keeps exclusive ones out. Null: somebody else has it,
 * in this process or another. Throws what node:fs throws if a lock file cannot be made.
 */
export function lockImage(fd: number, path: string, shared: boolean): Unlock | null {
  if (flock !== null) {
    if (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) === 0) return releasedWithDescriptor;
    if (lastErrno() === EWOULDBLOCK) return null;
  }
  return lockBeside(path); // no flock on this machine or this file system
}

/** The lock files of this process: one with our id that is not here was left by a predecessor. */
const held = new Set<string>();

/** The plain way: always exclusive, as a lock file cannot be counted. */
function lockBeside(path: string): Unlock | null {
  const lockPath = `${path}.lock`;
  const ownPath = `${lockPath}.${process.pid}`;
  writeFileSync(ownPath, String(process.pid));
  try {
    if (!linkTo(ownPath, lockPath)) {
      if (!removeStale(lockPath, `${ownPath}.stale`) || !linkTo(ownPath, lockPath)) return null;
    }
  } finally {
    rmSync(ownPath, { force: true });
  }
  held.add(lockPath);
  return () => {
    held.delete(lockPath);
    rmSync(lockPath, { force: true });
  };
}

/** Makes `to` appear with its content, unless it exists: only one process succeeds. */
function linkTo(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Takes away a lock whose owner has died; false if the owner lives. The lock is renamed first and
 * judged again after, so that of two processes doing this one gets it; what turns out to be alive
 * is put back.
 */
function removeStale(lockPath: string, asidePath: string): boolean {
  if (held.has(lockPath) || isOwnerAlive(lockPath)) return false;
  try {
    renameSync(lockPath, asidePath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return true; // another was quicker
    throw error;
  }
  const stale = !isOwnerAlive(asidePath);
  if (!stale) linkTo(asidePath, lockPath);
  rmSync(asidePath, { force: true });
  return stale;
}

function isOwnerAlive(lockFile: string): boolean {
  try {
    const pid = Number(readFileSync(lockFile, "utf8"));
    if (!(pid > 0) || pid === process.pid) return false; // torn by a power cut; a predecessor's
    process.kill(pid, 0);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code !== "ESRCH" && code !== "ENOENT";
  }
}
