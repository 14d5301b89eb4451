/**
 * Space behind a range of a file or block device: fallocate(2). All run in the thread pool.
 * Offsets and lengths are bytes. Where the file system cannot do it, they reject with an error
 * that {@link isUnsupported} knows; nothing has changed then.
 */
import { bind, callInPool } from "./libc.ts";

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;

const fallocate = bind("int fallocate(int fd, int mode, int64_t offset, int64_t length)");

async function change(fd: number, mode: number, offset: number, length: number): Promise<void> {
  await callInPool(fallocate, "fallocate", fd, mode, offset, length);
}

/** The range reads as zeroes and its space is given back. */
export function punchHole(fd: number, offset: number, length: number): Promise<void> {
  return change(fd, PUNCH_HOLE | KEEP_SIZE, offset, length);
}

/** The range reads as zeroes and has space behind it. */
export function zeroRange(fd: number, offset: number, length: number): Promise<void> {
  return change(fd, ZERO_RANGE | KEEP_SIZE, offset, length);
}

/** Holes in the range get space and read as zeroes; data stays. A file that is shorter grows. */
export function allocate(fd: number, offset: number, length: number): Promise<void> {
  return change(fd, 0, offset, length);
}

/**
 * True for an error that says "not here" (no native call, file system, device) or "not this range"
 * (EINVAL: block devices want whole logical blocks), so that plain writes should be used instead.
 */
export function isUnsupported(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOTSUP" || code === "ENOSYS" || code === "EINVAL" || code === "ENODEV";
}
