/**
 * READs that are answered in several chunks: holes between data, and data that could not be read
 * to its end (NBD protocol, "Structured replies" of NBD_CMD_READ). A read that is all data and is
 * there at once has a shorter way, in the transmission.
 */
import { Errno, errnoOf } from "../errors.ts";
import type { BlockDevice } from "./block-device.ts";
import { ChunkFlag, ChunkType } from "./constants.ts";
import {
  CHUNK_OFFSET_BYTES,
  errorChunk,
  HOLE_PAYLOAD_BYTES,
  type ChunkFormat,
  type Origin,
} from "./reply-format.ts";
import type { Piece } from "./reply-queue.ts";
import type { Slab } from "./slab.ts";

/** Part of a READ that becomes one chunk. */
export interface Part {
  readonly offset: number;
  readonly length: number;
  readonly hole: boolean;
}

/** A part that could not be read: from `offset` on. */
export interface ReadFailure {
  readonly offset: number;
  readonly error: unknown;
}

/** From so many parts on, the rest is one, holes written out: a reply must not be all headers. */
const PARTS_MAX = 512;
/** Data that cannot be read as a whole is read again by blocks of this length. */
const BLOCK_BYTES = 4096;

/** The range as it falls into holes and data; `first` is what the device says of its start. */
export function partsOf(
  device: Pick<BlockDevice, "zeroesAt">,
  offset: number,
  length: number,
  first: number,
): Part[] {
  const parts: Part[] = [];
  const end = offset + length;
  let run = first;
  for (let at = offset; at < end;) {
    const whole = parts.length === PARTS_MAX - 1;
    const bytes = whole ? end - at : Math.abs(run);
    parts.push({ offset: at, length: bytes, hole: run > 0 && !whole });
    at += bytes;
    if (at < end) run = device.zeroesAt(at, end - at);
  }
  return parts;
}

/** The length of the whole reply to parts without errors. */
export function partsBytes(format: ChunkFormat, parts: readonly Part[]): number {
  let bytes = 0;
  for (const part of parts) bytes += chunkBytes(format, part);
  return bytes;
}

function chunkBytes(format: ChunkFormat, { hole, length }: Part): number {
  return format.headerBytes + (hole ? HOLE_PAYLOAD_BYTES : CHUNK_OFFSET_BYTES + length);
}

/**
 * Writes the chunks of all parts, one behind the other from `start` on, the data where the device
 * has it at once; the last is marked as such.
 */
export function encodeParts(
  format: ChunkFormat,
  device: Pick<BlockDevice, "tryRead">,
  { view, bytes }: Slab,
  start: number,
  origin: Origin,
  parts: readonly Part[],
): PlacedParts {
  const missing: PlacedPart[] = [];
  let at = start;
  let lastAt = start;
  for (const [index, part] of parts.entries()) {
    const { offset, length, hole } = part;
    const next = at + chunkBytes(format, part);
    const payloadAt = at + format.headerBytes;
    const flags = index === parts.length - 1 ? ChunkFlag.DONE : 0;
    const type = hole ? ChunkType.OFFSET_HOLE : ChunkType.OFFSET_DATA;
    format.encodeHeader(view, at, origin, flags, type, next - payloadAt);
    encodeOffset(view, payloadAt, offset);
    const dataAt = payloadAt + CHUNK_OFFSET_BYTES;
    if (hole) view.setUint32(dataAt, length);
    else if (!device.tryRead(bytes.subarray(dataAt, next), offset)) {
      missing.push({ offset, length, dataAt });
    }
    lastAt = at;
    at = next;
  }
  return { missing, lastAt };
}

export interface PlacedParts {
  /** Parts whose data the device did not have at once. */
  readonly missing: readonly PlacedPart[];
  /** Where the last chunk starts. */
  readonly lastAt: number;
}

/** Shorter zeroes are not worth looking for: a hole's chunk is nearly as long. */
const HOLE_BYTES_MIN = 512;
const ZEROES = Buffer.alloc(256 * 1024);

/** True if a range of a slab is all zeroes, and long enough to be sent as a hole. */
export function holdsZeroes({ bytes, view }: Slab, start: number, length: number): boolean {
  if (length < HOLE_BYTES_MIN || view.getUint32(start) !== 0) return false;
  const end = start + length;
  for (let at = start; at < end; at += ZEROES.length) {
    const next = Math.min(end, at + ZEROES.length);
    if (bytes.compare(ZEROES, 0, next - at, at, next) !== 0) return false;
  }
  return true;
}

/** Writes a whole reply that is one hole; returns its length. */
export function encodeHole(
  format: ChunkFormat,
  view: DataView,
  at: number,
  origin: Origin,
  offset: number,
  length: number,
): number {
  const type = ChunkType.OFFSET_HOLE;
  format.encodeHeader(view, at, origin, ChunkFlag.DONE, type, HOLE_PAYLOAD_BYTES);
  const payloadAt = at + format.headerBytes;
  encodeOffset(view, payloadAt, offset);
  view.setUint32(payloadAt + CHUNK_OFFSET_BYTES, length);
  return format.headerBytes + HOLE_PAYLOAD_BYTES;
}

function encodeOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / 2 ** 32));
  view.setUint32(at + 4, offset % 2 ** 32);
}

/** A part whose data belongs at `dataAt` of a slab. */
export interface PlacedPart {
  readonly offset: number;
  readonly length: number;
  readonly dataAt: number;
}

/**
 * Reads what is missing. A part that fails is read again by blocks up to the one that cannot be
 * read: what is before it stays, and the rest becomes zeroes.
 */
export async function readParts(
  device: Pick<BlockDevice, "read">,
  { bytes }: Slab,
  missing: readonly PlacedPart[],
): Promise<ReadFailure[]> {
  const failures = await Promise.all(
    missing.map(async ({ offset, length, dataAt }) => {
      const into = bytes.subarray(dataAt, dataAt + length);
      try {
        await device.read(into, offset);
        return null;
      } catch (error) {
        return readUpToError(device, into, offset, error);
      }
    }),
  );
  return failures.filter((failure) => failure !== null);
}

/** What {@link readParts} does with a part that failed; null: this time all of it was read. */
export async function readUpToError(
  device: Pick<BlockDevice, "read">,
  into: Uint8Array,
  offset: number,
  error: unknown,
): Promise<ReadFailure | null> {
  let good = 0;
  let failure = error;
  // Only storage fails in places; whatever else is wrong is so everywhere.
  const inPlaces = errnoOf(error) === Errno.EIO;
  while (inPlaces && good < into.length) {
    const end = Math.min(into.length, good + BLOCK_BYTES - ((offset + good) % BLOCK_BYTES));
    try {
      await device.read(into.subarray(good, end), offset + good);
      good = end;
    } catch (again) {
      failure = again;
      break;
    }
  }
  if (good === into.length) return null;
  into.fill(0, good);
  return { offset: offset + good, error: failure };
}

/**
 * The error chunks that end a reply whose content chunks are in `piece`: the last of these is no
 * longer the last of the reply.
 */
export function errorChunks(
  format: ChunkFormat,
  piece: Piece,
  lastChunkAt: number,
  origin: Origin,
  failures: readonly ReadFailure[],
  textOf: (error: unknown) => string,
): Buffer[] {
  piece.slab.view.setUint16(lastChunkAt + 4, 0);
  return failures.map(({ offset, error }, index) => {
    const flags = index === failures.length - 1 ? ChunkFlag.DONE : 0;
    return errorChunk(format, origin, flags, errnoOf(error), textOf(error), offset);
  });
}
