/**
 * Whole reads and writes with plain blocking calls, for threads that have nothing else to do.
 * `path` names the member in errors. Offsets and lengths are bytes.
 */
import { readSync, readvSync, writeSync, writevSync } from "node:fs";
import { willNeedNow } from "../platform/prefetch.ts";
import { MemberError } from "./member.ts";
import { nextBuffers, totalLength } from "./vectors.ts";

/** Fills `into` from `offset`; throws a MemberError, also where the file ends first. */
export function readFully(fd: number, path: string, into: Uint8Array, offset: number): void {
  transfer("read", path, into.length, offset, (done) =>
    readSync(fd, into, done, into.length - done, offset + done),
  );
}

/** Writes all of `from` at `offset`; throws a MemberError. */
export function writeFully(fd: number, path: string, from: Uint8Array, offset: number): void {
  transfer("write", path, from.length, offset, (done) =>
    writeSync(fd, from, done, from.length - done, offset + done),
  );
}

/** The same for one range that goes to several buffers. */
export function readvFully(
  fd: number,
  path: string,
  into: readonly Uint8Array[],
  offset: number,
): void {
  transfer("read", path, totalLength(into), offset, (done) =>
    readvSync(fd, nextBuffers(into, done), offset + done),
  );
}

/** The same for one range that comes from several buffers. */
export function writevFully(
  fd: number,
  path: string,
  from: readonly Uint8Array[],
  offset: number,
): void {
  transfer("write", path, totalLength(from), offset, (done) =>
    writevSync(fd, nextBuffers(from, done), offset + done),
  );
}

/** Starts to read a range into the cache: a hint, which nothing comes of if it fails. */
export function prefetchNow(fd: number, offset: number, length: number): void {
  willNeedNow(fd, offset, length);
}

/** Calls until `length` bytes are done; `call` is told how many are, and says how many it adds. */
function transfer(
  operation: "read" | "write",
  path: string,
  length: number,
  offset: number,
  call: (done: number) => number,
): void {
  try {
    for (let done = 0; done < length;) {
      const count = call(done);
      if (count === 0) throw new Error(`nothing left at offset ${offset + done}`);
      done += count;
    }
  } catch (error) {
    throw new MemberError(path, operation, error);
  }
}
