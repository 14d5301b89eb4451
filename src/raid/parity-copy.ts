import { assert } from "../errors.ts";
import type { Kernels } from "../parity/kernels.ts";
import { type SyncControl, SyncRole } from "../sync/control.ts";
import type { CopyResult, RangeCopier, SyncFailure, SyncRange, SyncSteps } from "../sync/engine.ts";
import type { ParityGeometry, StripeMap } from "./geometry/geometry.ts";
import { FALLBACK_BLOCK_BYTES } from "./level.ts";
import { NamedSlots } from "./named-slots.ts";
import { type ParityRules, judgeStripe, rulesFor, type StripeFate } from "./parity-rules.ts";
import { blockEnd, merge, type Placed, readOne, report, transfer, writeAll } from "./sync-io.ts";

/** md compares parity, and counts where it is wrong, in units of this (RAID5_STRIPE_SIZE). */
const COMPARE_UNIT_BYTES = 4096;
/** Shorter chunks are read together with what lies between them that nobody needs. */
const GAP_BYTES_MIN = 64 * 1024;
/** Buffers together, unless there are very many slots: as much as kernels allocate. */
const BUFFERS_BYTES_MAX = 32 * 1024 * 1024;
const PIECE_BYTES_MIN = 64 * 1024;

/**
 * Levels 4, 5 and 6. A resync computes P and Q of the data, never data of parity, and writes what
 * differs; a recovery computes what its targets lack. A check counts where parity is not as the
 * data say; a repair writes it anew. What cannot be read is recovered where enough is left, and
 * written anew.
 */
export function parityCopier(
  geometry: ParityGeometry,
  kernels: Kernels,
  windowBytes: number,
): RangeCopier {
  const share = Math.floor(BUFFERS_BYTES_MAX / (geometry.raidDisks + 2) / PIECE_BYTES_MIN);
  const pieceBytes = Math.min(windowBytes, Math.max(1, share) * PIECE_BYTES_MIN);
  const buffers = new StripeBuffers(kernels, geometry.raidDisks, pieceBytes);
  const named = new NamedSlots();
  return function* (control, range) {
    const judged = judgeRange(geometry, control, range);
    if (judged !== "work") return judged;
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end; offset += pieceBytes) {
      const length = Math.min(pieceBytes, end - offset);
      const ahead = range.ahead || offset + length < end;
      const piece = new Piece(geometry, kernels, buffers, named, {
        ...range,
        offset,
        length,
        ahead,
      });
      const result = yield* piece.copy(control);
      if (result !== "copied") return result;
    }
    const isOver = range.action === "recovery" && control.slots(SyncRole.Target).length === 0;
    return isOver ? "no-targets" : "copied";
  };
}

/** True if no data of these tracked bytes is lost, so that their parity can be made right. */
export function hasAllData(
  geometry: ParityGeometry,
  offset: number,
  length: number,
  has: (slot: number) => boolean,
): boolean {
  for (const map of distinctStripes(geometry, offset, length)) {
    if (!map.data.every(has)) return false;
  }
  return true;
}

/** Roles go round with the number of slots: more stripes than that are the same again. */
function distinctStripes(geometry: ParityGeometry, offset: number, length: number): StripeMap[] {
  const first = Math.floor(offset / geometry.chunkBytes);
  const last = Math.floor((offset + length - 1) / geometry.chunkBytes);
  const count = Math.min(last - first + 1, geometry.raidDisks);
  return Array.from({ length: count }, (_, index) => geometry.stripe(first + index));
}

/** What to do with a range, judged by the roles of the slots alone. */
function judgeRange(
  geometry: ParityGeometry,
  control: SyncControl,
  range: SyncRange,
): CopyResult | "work" {
  const { action, everywhere } = range;
  const isLost = (slot: number): boolean => control.role(slot) !== SyncRole.InSync;
  let works = false;
  for (const map of distinctStripes(geometry, range.offset, range.length)) {
    const plan = judgeStripe(map, isLost, rulesFor(range));
    if (typeof plan === "string") return plan;
    works ||= hasWork(control, map, plan);
  }
  if (works) return "work";
  if (action === "recovery") return "no-targets";
  // Nothing can be compared; where data is all there is, nothing is in doubt either.
  return everywhere && action !== "check" ? "copied" : "unknown";
}

function hasWork(control: SyncControl, map: StripeMap, { p, q }: StripeFate): boolean {
  if (p === "verified" || q === "verified") return true;
  const isTarget = (slot: number): boolean => slot >= 0 && control.role(slot) === SyncRole.Target;
  return isTarget(map.p) || isTarget(map.q) || map.data.some(isTarget);
}

/** Room for one piece of every slot, and for P and Q as they should be. */
class StripeBuffers {
  readonly slots: readonly Uint8Array[];
  readonly p: Uint8Array;
  readonly q: Uint8Array;

  constructor(kernels: Kernels, raidDisks: number, bytes: number) {
    this.slots = Array.from({ length: raidDisks }, () => kernels.allocate(bytes));
    this.p = kernels.allocate(bytes);
    this.q = kernels.allocate(bytes);
  }
}

/** Part of one stripe, of which the same slots are lost. Offsets are bytes of the piece. */
interface Strip {
  readonly start: number;
  readonly end: number;
  readonly map: StripeMap;
  readonly plan: StripeFate;
}

/** What could not be read: by slot, the blocks, named by where they start in the piece. */
type BadBlocks = ReadonlyMap<number, ReadonlySet<number>>;

/** The same range of every slot: one contiguous read a slot, as far as it is needed. */
class Piece {
  private readonly geometry: ParityGeometry;
  private readonly kernels: Kernels;
  private readonly buffers: StripeBuffers;
  private readonly named: NamedSlots;
  private readonly range: SyncRange;
  private readonly rules: ParityRules;
  private readonly writes: Placed[] = [];
  private readonly failed = new Map<number, SyncFailure>();

  constructor(
    geometry: ParityGeometry,
    kernels: Kernels,
    buffers: StripeBuffers,
    named: NamedSlots,
    range: SyncRange,
  ) {
    this.geometry = geometry;
    this.kernels = kernels;
    this.buffers = buffers;
    this.named = named;
    this.range = range;
    this.rules = rulesFor(range);
  }

  *copy(control: SyncControl): SyncSteps<CopyResult> {
    const inSync = new Set(control.slots(SyncRole.InSync));
    let strips = this.strips(Infinity, (slot) => !inSync.has(slot));
    if (typeof strips === "string") return strips;
    strips = strips.filter(({ map, plan }) => hasWork(control, map, plan));
    const reads = merge("read", this.reads(strips, inSync));
    const replies = yield* transfer(control, reads, this.range.ahead);
    for (const [index, failure] of replies.entries()) {
      if (failure !== null) this.failed.set(reads[index]!.slot, failure);
    }
    if (this.failed.size > 0) {
      const bad = yield* this.readByBlocks(control, inSync);
      strips = this.strips(
        FALLBACK_BLOCK_BYTES,
        (slot, at) => !inSync.has(slot) || bad.get(slot)?.has(at) === true,
      );
      if (typeof strips === "string") {
        yield* report(control, this.named.add(control, this.failed));
        return "unreadable";
      }
      yield* report(control, this.failed);
    }
    for (const strip of strips) this.solve(control, strip);
    const written = yield* writeAll(control, this.range, this.writes);
    return written === "written" ? "copied" : written;
  }

  /** The piece in strips no longer than a chunk and no longer than blocks of this length. */
  private strips(
    blockBytes: number,
    isLost: (slot: number, at: number) => boolean,
  ): Strip[] | "unknown" | "unreadable" {
    const { chunkBytes } = this.geometry;
    const { offset, length } = this.range;
    const strips: Strip[] = [];
    for (let start = 0; start < length;) {
      const map = this.geometry.stripe(Math.floor((offset + start) / chunkBytes));
      const next = blockEnd(offset + start, Math.min(chunkBytes, blockBytes)) - offset;
      const end = Math.min(length, next);
      const at = start;
      const plan = judgeStripe(map, (slot) => isLost(slot, at), this.rules);
      if (typeof plan === "string") return plan;
      strips.push({ start, end, map, plan });
      start = end;
    }
    return strips;
  }

  /** What of the members in sync is needed. */
  private reads(strips: readonly Strip[], inSync: ReadonlySet<number>): Placed[] {
    if (strips.length > 0 && this.geometry.chunkBytes < GAP_BYTES_MIN) {
      return [...inSync].map((slot) => this.place(slot, 0, this.range.length));
    }
    return strips.flatMap(({ start, end, map, plan }) => {
      const slots = [...map.data];
      if (plan.p === "needed" || plan.p === "verified") slots.push(map.p);
      if (plan.q === "needed" || plan.q === "verified") slots.push(map.q);
      return slots.filter((slot) => inSync.has(slot)).map((slot) => this.place(slot, start, end));
    });
  }

  private place(slot: number, start: number, end: number): Placed {
    return { slot, offset: this.range.offset + start, buffer: this.view(slot, start, end) };
  }

  private view(slot: number, start: number, end: number): Uint8Array {
    return this.buffers.slots[slot]!.subarray(start, end);
  }

  /** All that members in sync hold of the piece: what was not needed may be needed now. */
  private *readByBlocks(control: SyncControl, inSync: ReadonlySet<number>): SyncSteps<BadBlocks> {
    const { offset, length } = this.range;
    const bad = new Map<number, Set<number>>();
    for (const slot of inSync) {
      const whole = yield* readOne(control, this.place(slot, 0, length));
      if (whole === null) continue;
      const blocks = new Set<number>();
      this.failed.set(slot, whole);
      bad.set(slot, blocks);
      for (let start = 0; start < length;) {
        const end = Math.min(length, blockEnd(offset + start, FALLBACK_BLOCK_BYTES) - offset);
        const failure = yield* readOne(control, this.place(slot, start, end));
        if (failure !== null) blocks.add(start);
        start = end;
      }
    }
    return bad;
  }

  // ---- the arithmetic

  /** Computes what is lost of a strip and what its parity should be; notes what is to be written. */
  private solve(control: SyncControl, { start, end, map, plan }: Strip): void {
    const { kernels, buffers } = this;
    const data = map.data.map((slot) => this.view(slot, start, end));
    const p = this.view(map.p, start, end);
    const q = map.q < 0 ? null : this.view(map.q, start, end);
    if (plan.lostData.length > 0) {
      const goodP = plan.p === "needed" ? p : null;
      const goodQ = plan.q === "needed" ? q : null;
      kernels.recover(data, plan.lostData, goodP, goodQ, map.exponents);
    }
    const lost = plan.lostData.map((index) => map.data[index]!);
    if (plan.p === "lost") lost.push(map.p);
    if (plan.q === "lost") lost.push(map.q);
    // Whoever is lost and takes part: a target, or a member that could not read it.
    const wanted = lost.filter((slot) => control.role(slot) !== SyncRole.None);
    const intoP = wanted.includes(map.p) ? p : buffers.p.subarray(start, end);
    if (plan.q === "verified" || wanted.includes(map.q)) {
      assert(q !== null, "what is compared or wanted is there");
      const intoQ = plan.q === "lost" ? q : buffers.q.subarray(start, end);
      kernels.pq(intoP, intoQ, data, map.exponents);
    } else if (plan.p === "verified" || wanted.includes(map.p)) {
      kernels.xor(intoP, data);
    }
    for (const slot of wanted) this.writes.push(this.place(slot, start, end));
    this.verify(control, { start, end, map, plan });
  }

  private verify(control: SyncControl, { start, end, map, plan }: Strip): void {
    const { buffers, range, rules } = this;
    const compared: { slot: number; expected: Uint8Array }[] = [];
    if (plan.p === "verified") compared.push({ slot: map.p, expected: buffers.p });
    if (plan.q === "verified") compared.push({ slot: map.q, expected: buffers.q });
    const differing = (from: number, to: number): typeof compared =>
      compared.filter(({ slot, expected }) => {
        const actual = this.view(slot, from, to);
        return Buffer.compare(actual, expected.subarray(from, to)) !== 0;
      });
    if (differing(start, end).length === 0) return;
    for (let at = start; at < end;) {
      const stop = Math.min(end, blockEnd(range.offset + at, COMPARE_UNIT_BYTES) - range.offset);
      const wrong = differing(at, stop);
      if (wrong.length > 0 && range.action !== "recovery") control.countMismatch(stop - at);
      for (const { slot, expected } of rules.corrects ? wrong : []) {
        const buffer = expected.subarray(at, stop);
        this.writes.push({ slot, offset: range.offset + at, buffer });
      }
      at = stop;
    }
  }
}
