/** Readahead into the page cache: posix_fadvise(2) WILLNEED. A hint, so it never fails. */
import { bind, callInPool } from "./libc.ts";

const POSIX_FADV_WILLNEED = 3;

const fadvise = bind("int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)");

/** The same on this thread: returns once the reads are under way, so it is not for the main one. */
export function willNeedNow(fd: number, offset: number, length: number): void {
  fadvise?.(fd, offset, length, POSIX_FADV_WILLNEED);
}

/** Resolves once the reads are under way (at once where there is no such call). */
export async function willNeed(fd: number, offset: number, length: number): Promise<void> {
  if (fadvise === null) return;
  // It returns an error number instead of setting errno; there is nothing to do about one.
  await callInPool(fadvise, "posix_fadvise", fd, offset, length, POSIX_FADV_WILLNEED);
}
