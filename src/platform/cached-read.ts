/**
 * Reads that take only what is in the page cache: preadv2(2) with RWF_NOWAIT. A miss starts
 * readahead and says so, instead of putting the event loop to sleep.
 */
import { addressOf, bind, lastErrno } from "./libc.ts";

const RWF_NOWAIT = 8;

const preadv2 = bind("int64_t preadv2(int fd, void *iov, int count, int64_t offset, int flags)");

/** Buffers that one call takes (IOV_MAX). */
const BUFFERS_MAX = 1024;
/** `struct iovec`s (address, length), filled anew for every call: calls are synchronous. */
const iovecs = new BigUint64Array(2 * BUFFERS_MAX);

/** -ENOTSUP: what {@link cachedRead} gives where there is no such read. */
export const UNSUPPORTED = -95;

/**
 * Bytes read from `offset` into the start of `into` (fewer than asked where the cache or the file
 * ends), or a negative errno: -EAGAIN where nothing is cached, {@link UNSUPPORTED} where the file
 * system or the machine has no such reads, or an error of the device.
 */
export function cachedRead(fd: number, into: Uint8Array, offset: number): number {
  if (preadv2 === null) return UNSUPPORTED;
  point(0, into);
  return result(preadv2(fd, iovecs, 1, offset, RWF_NOWAIT));
}

/** The same for one range that goes to several buffers; those after the 1024th are left alone. */
export function cachedReadv(fd: number, into: readonly Uint8Array[], offset: number): number {
  if (preadv2 === null) return UNSUPPORTED;
  const count = Math.min(into.length, BUFFERS_MAX);
  for (let index = 0; index < count; index++) point(index, into[index]!);
  return result(preadv2(fd, iovecs, count, offset, RWF_NOWAIT));
}

function point(index: number, into: Uint8Array): void {
  iovecs[2 * index] = addressOf(into);
  iovecs[2 * index + 1] = BigInt(into.length);
}

function result(count: number): number {
  return count === -1 ? -lastErrno() : count;
}
