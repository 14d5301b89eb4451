/**
 * node:fs's thread-pool calls on plain descriptors, as promises. (FileHandle's own are slower and
 * would own the descriptor.) They reject with the system's error.
 */
import { close, fdatasync, fstat, open, read, readv, write, writev } from "node:fs";
import { promisify } from "node:util";
import type { BigIntStats } from "node:fs";
import { nextBuffers, totalLength } from "./vectors.ts";

export const openDescriptor: (path: string, flags: number) => Promise<number> = promisify(open);
export const closeDescriptor: (fd: number) => Promise<void> = promisify(close);
export const syncData: (fd: number) => Promise<void> = promisify(fdatasync);

/** With 64-bit inode numbers. */
export function statDescriptor(fd: number): Promise<BigIntStats> {
  return promisify(fstat)(fd, { bigint: true });
}

/** Fills `into` from `offset`; a file that ends first is an error. */
export function readInPool(fd: number, into: Uint8Array, offset: number): Promise<void> {
  return transfer(into.length, offset, (done, callback) =>
    read(fd, into, done, into.length - done, offset + done, callback),
  );
}

/** Writes all of `from` at `offset`. */
export function writeInPool(fd: number, from: Uint8Array, offset: number): Promise<void> {
  return transfer(from.length, offset, (done, callback) =>
    write(fd, from, done, from.length - done, offset + done, callback),
  );
}

/** The same for one range that goes to several buffers. */
export function readvInPool(
  fd: number,
  into: readonly Uint8Array[],
  offset: number,
): Promise<void> {
  return transfer(totalLength(into), offset, (done, callback) =>
    readv(fd, nextBuffers(into, done), offset + done, callback),
  );
}

/** The same for one range that comes from several buffers. */
export function writevInPool(
  fd: number,
  from: readonly Uint8Array[],
  offset: number,
): Promise<void> {
  return transfer(totalLength(from), offset, (done, callback) =>
    writev(fd, nextBuffers(from, done), offset + done, callback),
  );
}

type Callback = (error: NodeJS.ErrnoException | null, count: number) => void;

/** Calls until `length` bytes are done; `call` is told how many are, and says how many it adds. */
function transfer(
  length: number,
  offset: number,
  call: (done: number, callback: Callback) => void,
): Promise<void> {
  if (length === 0) return Promise.resolve(); // an empty vector is EINVAL to libuv
  return new Promise((resolve, reject) => {
    let done = 0;
    const onCount: Callback = (error, count) => {
      if (error !== null) return reject(error);
      if (count === 0) {
        return reject(new Error(`nothing left at offset ${offset + done}`));
      }
      done += count;
      if (done < length) return call(done, onCount);
      resolve();
    };
    call(0, onCount);
  });
}
