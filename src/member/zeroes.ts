/**
 * Ranges of an open file that shall read as zeroes, in the best way its file system has: a hole,
 * zeroed space, or plain zeroes. Offsets and lengths are bytes. Rejects with the system's error.
 */
import { performance } from "node:perf_hooks";
import { isUnsupported, punchHole, zeroRange } from "../platform/fallocate.ts";
import { writeInPool } from "./pooled.ts";

const MiB = 1024 * 1024;
/**
 * The kernel keeps writers out of the file during each call (about 0.2 ms for a MiB of data), inline
 * ones too, so long ranges go in pieces; longer ones where there is little to do, as in holes.
 */
const PIECE_MIN = 16 * MiB;
const PIECE_MAX = 256 * MiB;
const PIECE_QUICK_MS = 1;

const ZEROES = new Uint8Array(MiB);

/** Gives the space back where that is possible. */
export async function makeHole(fd: number, offset: number, length: number): Promise<void> {
  if (!(await changeInPieces(punchHole, fd, offset, length))) await makeZero(fd, offset, length);
}

/** Keeps space behind the range. */
export async function makeZero(fd: number, offset: number, length: number): Promise<void> {
  if (await changeInPieces(zeroRange, fd, offset, length)) return;
  const end = offset + length;
  for (let at = offset; at < end; at += ZEROES.length) {
    await writeInPool(fd, ZEROES.subarray(0, end - at), at);
  }
}

type Change = (fd: number, offset: number, length: number) => Promise<void>;

/** False if there is no such change here; a part of the range may be zero already. */
async function changeInPieces(
  change: Change,
  fd: number,
  offset: number,
  length: number,
): Promise<boolean> {
  const end = offset + length;
  let piece = PIECE_MIN;
  try {
    for (let at = offset; at < end;) {
      const count = Math.min(piece, end - at);
      const startMs = performance.now();
      await change(fd, at, count);
      const quick = performance.now() - startMs < PIECE_QUICK_MS;
      piece = quick ? Math.min(piece * 2, PIECE_MAX) : PIECE_MIN;
      at += count;
    }
    return true;
  } catch (error) {
    if (isUnsupported(error)) return false;
    throw error;
  }
}
