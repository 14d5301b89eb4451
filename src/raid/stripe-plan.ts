/** How part of a stripe is to be written: which bytes are read first, and what parity is made of. */
import type { StripeMap } from "./geometry/geometry.ts";

/** New bytes for part of one data chunk of a stripe. Pieces of one stripe never overlap. */
export interface Piece {
  /** Which data chunk, in the order of the array's bytes. */
  readonly index: number;
  /** Offset in the chunk. */
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** What may be done with the slots of a stripe now. */
export interface SlotAccess {
  /** What the slot holds counts: also where it cannot be read now, but may be later. */
  isInSync(slot: number): boolean;
  /** In sync, and nothing of it was found unreadable. */
  isReadable(slot: number): boolean;
  isWritable(slot: number): boolean;
}

/** How far parity is believed in a range of columns. */
export interface ParityTrust {
  /** What it implies of chunks that are lost is what they held. */
  readonly trusted: boolean;
  /** It matches the data, also where nothing was ever written. */
  readonly built: boolean;
}

/**
 * `full`: every data chunk is new. `reconstruct`: the data chunks that are not new are read.
 * `modify`: the old bytes of the new chunks and of the parity that can be read are; what follows
 * from parity about the other chunks stays what it was. `decode`: all there is is read, for data
 * that is lost goes into the new parity. `anew`: the same where parity was never made: what it
 * implies of a chunk that is there, but cannot be read, need not be what that holds, so it is
 * written too. `data`: there is no parity that says anything.
 */
export type Strategy = "full" | "reconstruct" | "modify" | "decode" | "anew" | "data";

/** A range of columns. */
export interface Columns {
  /** Offsets in the chunk. */
  readonly start: number;
  readonly end: number;
  /** Where they begin in a buffer that holds the columns of all segments, and nothing between them. */
  readonly at: number;
}

/** Columns in which the same data chunks are new. */
export interface Segment extends Columns {
  /** By data chunk: its new bytes in this range, or null. */
  readonly fresh: readonly (Uint8Array | null)[];
  readonly strategy: Strategy;
}

/**
 * Cuts the pieces into segments and chooses for each the way that reads the least. `trustIn` is asked
 * for ranges of columns, as offsets in the chunk. Null: somewhere the new bytes could not be given
 * back, so nothing may be written.
 */
export function planStripe(
  map: StripeMap,
  pieces: readonly Piece[],
  access: SlotAccess,
  trustIn: (start: number, end: number) => ParityTrust,
): Segment[] | null {
  const edges = new Set<number>();
  for (const { start, bytes } of pieces) edges.add(start).add(start + bytes.length);
  const sorted = [...edges].sort((a, b) => a - b);
  const segments: Segment[] = [];
  let at = 0;
  for (let edge = 0; edge + 1 < sorted.length; edge++) {
    const [start, end] = [sorted[edge]!, sorted[edge + 1]!];
    const fresh = freshIn(map, pieces, start, end);
    if (fresh === null) continue;
    const strategy = chooseStrategy(map, fresh, access, trustIn(start, end));
    if (strategy === null) return null;
    segments.push({ start, end, at, fresh, strategy });
    at += end - start;
  }
  return segments;
}

/** Null: nothing is new between two pieces. */
function freshIn(
  map: StripeMap,
  pieces: readonly Piece[],
  start: number,
  end: number,
): (Uint8Array | null)[] | null {
  let found: (Uint8Array | null)[] | null = null;
  for (const piece of pieces) {
    if (piece.start >= end || piece.start + piece.bytes.length <= start) continue;
    found ??= new Array<Uint8Array | null>(map.data.length).fill(null);
    found[piece.index] = piece.bytes.subarray(start - piece.start, end - piece.start);
  }
  return found;
}

/** Null: a chunk that is new can neither be written nor follow from the others. */
export function chooseStrategy(
  { data, p, q }: StripeMap,
  fresh: readonly (Uint8Array | null)[],
  access: SlotAccess,
  { trusted, built }: ParityTrust,
): Strategy | null {
  let freshCount = 0;
  let lost = 0;
  let freshUnreadable = 0;
  let freshUnwritable = 0;
  for (const [index, slot] of data.entries()) {
    const readable = access.isReadable(slot);
    if (!readable) lost++;
    if (fresh[index] === null) continue;
    freshCount++;
    if (!readable) freshUnreadable++;
    if (!access.isWritable(slot)) freshUnwritable++;
  }
  // What is new on a slot that is gone is read back through parity, which must be trusted for that.
  if (freshUnwritable > 0 && !trusted) return null;
  const parity = q < 0 ? [p] : [p, q];
  const written = parity.filter((slot) => access.isWritable(slot));
  if (written.length === 0) return freshUnwritable > 0 ? null : "data";
  const stale = data.length - freshCount;
  if (stale === 0) return "full";
  const staleLost = lost - freshUnreadable;
  const readableParity = parity.filter((slot) => access.isReadable(slot)).length;
  const modifies = freshUnreadable === 0 && written.every((slot) => access.isReadable(slot));
  if (staleLost === 0) {
    const fewer = freshCount + written.length < stale;
    return built && modifies && fewer ? "modify" : "reconstruct";
  }
  if (!trusted) return inDoubt(parity, freshUnreadable, access);
  if (modifies && built) return "modify";
  if (lost > readableParity) return null;
  // Where parity was never made P and Q imply different bytes: one of them is taken for both.
  return built ? "decode" : "anew";
}

/**
 * Data is lost that is not new, and what parity says of it may be wrong but has to stay what it was,
 * also when what cannot be read now can be read again: all parity that counts is modified, or nothing
 * is written.
 */
function inDoubt(
  parity: readonly number[],
  freshUnreadable: number,
  access: SlotAccess,
): Strategy | null {
  const counts = parity.filter((slot) => access.isInSync(slot));
  // Then all data is in sync: what is lost of it cannot be read, and nothing follows from elsewhere.
  if (counts.length === 0) return "data";
  const modifies = freshUnreadable === 0 && counts.every((slot) => access.isReadable(slot));
  return modifies ? "modify" : null;
}
