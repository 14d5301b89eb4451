/**
 * Whole reads and writes with plain blocking calls, for threads that have nothing else to do.
 * `path` names the member in errors. Offsets and lengths are bytes.
 */
import { readSync, writeSync } from "node:fs";
import { MemberError } from "./member.ts";

/** Fills `into` from `offset`; throws a MemberError, also where the file ends first. */
export function readFully(fd: number, path: string, into: Uint8Array, offset: number): void {
  transfer(readSync, "read", fd, path, into, offset);
}

/** Writes all of `from` at `offset`; throws a MemberError. */
export function writeFully(fd: number, path: string, from: Uint8Array, offset: number): void {
  transfer(writeSync, "write", fd, path, from, offset);
}

type Call = (fd: number, buffer: Uint8Array, at: number, length: number, offset: number) => number;

function transfer(
  call: Call,
  operation: "read" | "write",
  fd: number,
  path: string,
  buffer: Uint8Array,
  offset: number,
): void {
  try {
    for (let done = 0; done < buffer.length;) {
      const count = call(fd, buffer, done, buffer.length - done, offset + done);
      if (count === 0) throw new Error(`nothing left at offset ${offset + done}`);
      done += count;
    }
  } catch (error) {
    throw new MemberError(path, operation, error);
  }
}
