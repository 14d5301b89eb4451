/**
 * node:fs's thread-pool calls on plain descriptors, as promises. (FileHandle's own are slower and
 * would own the descriptor.) They reject with the system's error.
 */
import { close, fdatasync, fstat, open, read, write } from "node:fs";
import { promisify } from "node:util";
import type { BigIntStats } from "node:fs";

export const openDescriptor: (path: string, flags: number) => Promise<number> = promisify(open);
export const closeDescriptor: (fd: number) => Promise<void> = promisify(close);
export const syncData: (fd: number) => Promise<void> = promisify(fdatasync);

/** With 64-bit inode numbers. */
export function statDescriptor(fd: number): Promise<BigIntStats> {
  return promisify(fstat)(fd, { bigint: true });
}

/** Fills `into` from `offset`; a file that ends first is an error. */
export function readInPool(fd: number, into: Uint8Array, offset: number): Promise<void> {
  return transfer(read, fd, into, offset);
}

/** Writes all of `from` at `offset`. */
export function writeInPool(fd: number, from: Uint8Array, offset: number): Promise<void> {
  return transfer(write, fd, from, offset);
}

type Callback = (error: NodeJS.ErrnoException | null, count: number) => void;
type Call = (
  fd: number,
  buffer: Uint8Array,
  at: number,
  length: number,
  offset: number,
  callback: Callback,
) => void;

function transfer(call: Call, fd: number, buffer: Uint8Array, offset: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const step = (): void => {
      call(fd, buffer, done, buffer.length - done, offset + done, (error, count) => {
        if (error !== null) return reject(error);
        if (count === 0 && done < buffer.length) {
          return reject(new Error(`nothing left at offset ${offset + done}`));
        }
        done += count;
        if (done < buffer.length) return step();
        resolve();
      });
    };
    step();
  });
}
