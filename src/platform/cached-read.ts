/**
 * Reads that take only what is in the page cache: preadv2(2) with RWF_NOWAIT. A miss starts
 * readahead and says so, instead of putting the event loop to sleep.
 */
import { addressOf, bind, lastErrno } from "./libc.ts";

const RWF_NOWAIT = 8;

const preadv2 = bind("int64_t preadv2(int fd, void *iov, int count, int64_t offset, int flags)");

/** One `struct iovec` (address, length), filled anew for every call: calls are synchronous. */
const iovec = new BigUint64Array(2);

/** -ENOTSUP: what {@link cachedRead} gives where there is no such read. */
export const UNSUPPORTED = -95;

/**
 * Bytes read from `offset` into the start of `into` (fewer than asked where the cache or the file
 * ends), or a negative errno: -EAGAIN where nothing is cached, {@link UNSUPPORTED} where the file
 * system or the machine has no such reads, or an error of the device.
 */
export function cachedRead(fd: number, into: Uint8Array, offset: number): number {
  if (preadv2 === null) return UNSUPPORTED;
  iovec[0] = addressOf(into);
  iovec[1] = BigInt(into.length);
  const count = preadv2(fd, iovec, 1, offset, RWF_NOWAIT);
  return count === -1 ? -lastErrno() : count;
}
