import { type SyncControl, SyncRole } from "../sync/control.ts";
import type { CopyResult, RangeCopier, SyncFailure, SyncRange, SyncSteps } from "../sync/engine.ts";
import { FALLBACK_BLOCK_BYTES } from "./level.ts";
import { NamedSlots } from "./named-slots.ts";
import type { Copies, Placement } from "./placement.ts";
import {
  blockEnd,
  hasTargets,
  merge,
  type Merged,
  type Placed,
  readOne,
  report,
  transfer,
  writeAll,
} from "./sync-io.ts";

/** md compares copies, and counts where they differ, in units of this (RESYNC_BLOCK_SIZE). */
const COMPARE_UNIT_BYTES = 64 * 1024;
/** Buffers for copies that are compared never take more than this. */
const COMPARE_BYTES_MAX = 32 * 1024 * 1024;

/** One piece of the range at work. */
interface Piece extends Copies {
  /** What it holds, once it was read. */
  readonly data: Uint8Array;
  /** Places in sync: the source first. */
  readonly holders: Copies["places"];
}

/** A copy that is compared with its piece. */
interface OtherCopy extends Placed {
  readonly piece: Piece;
}

/** What became of reads: members to report, and blocks of them that are to be written anew. */
interface Trouble {
  readonly failed: Map<number, SyncFailure>;
  readonly rewrites: Placed[];
}

/**
 * Levels 1 and 10. A resync reads each piece from the first source that holds it (next ones where
 * that one cannot be read) and writes the other copies; a recovery writes the targets. A check
 * reads all copies and counts those that are not like the first; a repair makes them so, and so
 * does a resync of what is not known to differ.
 */
export function copiesCopier(placement: Placement, windowBytes: number): RangeCopier {
  const window = new Uint8Array(windowBytes);
  let spare = new Uint8Array(0);
  const buffers = (bytes: number): Uint8Array => {
    if (spare.length < bytes) spare = new Uint8Array(bytes);
    return spare;
  };
  const named = new NamedSlots();
  return function* (control, range) {
    const all = placement(range.offset, range.length);
    const pieces = piecesAtWork(control, range, all, window);
    const trouble: Trouble = { failed: new Map(), rewrites: [] };
    if (!(yield* readSources(control, range, pieces, trouble))) {
      yield* report(control, named.add(control, trouble.failed));
      return "unreadable";
    }
    return comparesCopies(range)
      ? yield* compare(control, range, pieces, trouble, buffers)
      : yield* copy(control, range, pieces, trouble);
  };
}

/** A resync where copies are not known to differ is a comparison first: it rarely has to write. */
function comparesCopies({ action, everywhere }: SyncRange): boolean {
  return action === "check" || action === "repair" || (action === "resync" && !everywhere);
}

/** The pieces in which there is something to do. */
function piecesAtWork(
  control: SyncControl,
  range: SyncRange,
  all: readonly Copies[],
  window: Uint8Array,
): Piece[] {
  const rank = new Map(control.slots(SyncRole.InSync).map((slot, index) => [slot, index]));
  const targets = new Set(control.slots(SyncRole.Target));
  const pieces: Piece[] = [];
  for (const copies of all) {
    const holders = copies.places
      .filter(({ slot }) => rank.has(slot))
      .sort((a, b) => rank.get(a.slot)! - rank.get(b.slot)!);
    const isTarget = copies.places.some(({ slot }) => targets.has(slot));
    const isCompared = holders.length > 1 && (range.action !== "recovery" || range.everywhere);
    if (!isTarget && !isCompared) continue;
    const at = copies.offset - range.offset;
    pieces.push({ ...copies, holders, data: window.subarray(at, at + copies.length) });
  }
  return pieces;
}

// ---- reading the sources

/** Fills the pieces, each from its first source, by blocks if need be. False: one is nowhere. */
function* readSources(
  control: SyncControl,
  { ahead }: SyncRange,
  pieces: readonly Piece[],
  trouble: Trouble,
): SyncSteps<boolean> {
  const firsts: OtherCopy[] = [];
  for (const piece of pieces) {
    const [first] = piece.holders;
    if (first === undefined) return false;
    firsts.push({ ...first, buffer: piece.data, piece });
  }
  const reads = merge("read", firsts);
  const replies = yield* transfer(control, reads, ahead);
  for (const [index, failure] of replies.entries()) {
    if (failure === null) continue;
    const { slot, parts } = reads[index]!;
    trouble.failed.set(slot, failure);
    for (const { piece } of parts) {
      if (!(yield* readByBlocks(control, piece, trouble))) return false;
    }
  }
  return true;
}

/** Each block from the first source that can give it. */
function* readByBlocks(control: SyncControl, piece: Piece, trouble: Trouble): SyncSteps<boolean> {
  for (let at = 0; at < piece.length;) {
    const stop = Math.min(
      piece.length,
      blockEnd(piece.offset + at, FALLBACK_BLOCK_BYTES) - piece.offset,
    );
    const buffer = piece.data.subarray(at, stop);
    const unread: Placed[] = [];
    let found = false;
    for (const { slot, offset } of piece.holders) {
      if (control.role(slot) !== SyncRole.InSync) continue;
      const failure = yield* readOne(control, { slot, offset: offset + at, buffer });
      found = failure === null;
      if (failure === null) break;
      trouble.failed.set(slot, failure);
      unread.push({ slot, offset: offset + at, buffer });
    }
    if (!found) return false;
    trouble.rewrites.push(...unread);
    at = stop;
  }
  return true;
}

// ---- resync and recovery

function* copy(
  control: SyncControl,
  range: SyncRange,
  pieces: readonly Piece[],
  { failed, rewrites }: Trouble,
): SyncSteps<CopyResult> {
  yield* report(control, failed);
  const writes: Placed[] = [];
  for (const { places, holders, data } of pieces) {
    for (const { slot, offset } of places) {
      const role = control.role(slot);
      const isOther = role === SyncRole.InSync && slot !== holders[0]?.slot;
      if (role === SyncRole.Target || (range.everywhere && isOther)) {
        writes.push({ slot, offset, buffer: data });
      }
    }
  }
  const written = yield* writeAll(control, range, writes);
  if (written !== "written") return written;
  const rewritten = yield* writeAll(control, range, rewrites);
  if (rewritten !== "written") return rewritten;
  return hasTargets(control, range.everywhere) ? "copied" : "no-targets";
}

// ---- check and repair

function* compare(
  control: SyncControl,
  range: SyncRange,
  pieces: readonly Piece[],
  trouble: Trouble,
  buffers: (bytes: number) => Uint8Array,
): SyncSteps<CopyResult> {
  // With one copy left there is nothing to compare, but nothing to doubt either.
  if (pieces.length === 0) {
    return range.everywhere && range.action !== "check" ? "copied" : "unknown";
  }
  const { rewrites } = trouble;
  for (const others of otherCopies(pieces, buffers)) {
    yield* readOthers(control, range, others, trouble);
    for (const other of others) {
      const differing = [...unitsThatDiffer(other)];
      for (const { buffer } of differing) control.countMismatch(buffer.length);
      if (range.action !== "check") rewrites.push(...differing);
    }
  }
  yield* report(control, trouble.failed);
  const written = yield* writeAll(control, range, rewrites);
  return written === "written" ? "copied" : written;
}

/** The copies other than the first of each piece, as many at a time as the buffers hold. */
function* otherCopies(
  pieces: readonly Piece[],
  buffers: (bytes: number) => Uint8Array,
): Iterable<OtherCopy[]> {
  const all = pieces.flatMap((piece) =>
    piece.holders.slice(1).map((holder) => ({ holder, piece })),
  );
  const total = all.reduce((sum, { piece }) => sum + piece.length, 0);
  const longest = Math.max(...pieces.map(({ length }) => length));
  const buffer = buffers(Math.min(total, Math.max(COMPARE_BYTES_MAX, longest)));
  let batch: OtherCopy[] = [];
  let used = 0;
  for (const { holder, piece } of all) {
    if (used + piece.length > buffer.length) {
      yield batch;
      batch = [];
      used = 0;
    }
    batch.push({ ...holder, piece, buffer: buffer.subarray(used, used + piece.length) });
    used += piece.length;
  }
  yield batch;
}

/** Fills the copies; a block that cannot be read counts as equal, and is to be written anew. */
function* readOthers(
  control: SyncControl,
  { ahead }: SyncRange,
  others: readonly OtherCopy[],
  { failed, rewrites }: Trouble,
): SyncSteps<void> {
  const reads: Merged<OtherCopy>[] = merge("read", others);
  const replies = yield* transfer(control, reads, ahead);
  for (const [index, failure] of replies.entries()) {
    if (failure === null) continue;
    const { slot, parts } = reads[index]!;
    failed.set(slot, failure);
    for (const { offset, buffer, piece } of parts) {
      for (let at = 0; at < piece.length;) {
        const end = blockEnd(piece.offset + at, FALLBACK_BLOCK_BYTES) - piece.offset;
        const stop = Math.min(piece.length, end);
        const block = buffer.subarray(at, stop);
        const good = piece.data.subarray(at, stop);
        const unread = yield* readOne(control, { slot, offset: offset + at, buffer: block });
        if (unread !== null) {
          failed.set(slot, unread);
          block.set(good);
          rewrites.push({ slot, offset: offset + at, buffer: good });
        }
        at = stop;
      }
    }
  }
}

/** Where the copy has to be written to be like its piece. */
function* unitsThatDiffer({ slot, offset, buffer, piece }: OtherCopy): Iterable<Placed> {
  if (Buffer.compare(buffer, piece.data) === 0) return;
  for (let at = 0; at < piece.length;) {
    const end = blockEnd(piece.offset + at, COMPARE_UNIT_BYTES) - piece.offset;
    const stop = Math.min(piece.length, end);
    const good = piece.data.subarray(at, stop);
    if (Buffer.compare(buffer.subarray(at, stop), good) !== 0) {
      yield { slot, offset: offset + at, buffer: good };
    }
    at = stop;
  }
}
