/**
 * What lseek(2) knows of a file. The descriptor's own position moves; nothing here uses it, as all
 * I/O names its offset.
 */
import { bind, callInPool } from "./libc.ts";

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const lseek = bind("int64_t lseek(int fd, int64_t offset, int whence)");

/**
 * The first offset >= `offset` that is not in a hole, or null: only holes up to the end.
 * Where holes cannot be seen everything is data.
 */
export async function seekData(fd: number, offset: number): Promise<number | null> {
  try {
    return await callInPool(lseek, "lseek", fd, offset, SEEK_DATA);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENXIO" ? null : offset;
  }
}

/**
 * The first offset >= `offset` that is in a hole, or null: none, or it cannot be told. The end of
 * a file counts as a hole.
 */
export async function seekHole(fd: number, offset: number): Promise<number | null> {
  try {
    return await callInPool(lseek, "lseek", fd, offset, SEEK_HOLE);
  } catch {
    return null;
  }
}

/** Size in bytes; for block devices, whose stat says 0. Rejects with ENOTSUP without libc. */
export function seekEnd(fd: number): Promise<number> {
  return callInPool(lseek, "lseek", fd, 0, SEEK_END);
}
