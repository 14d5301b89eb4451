import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { Kernels } from "../parity/kernels.ts";
import type { ParityGeometry, StripeMap } from "./geometry/geometry.ts";
import type { Leg, LegFailure, Legs, LevelHost, StripeWrites } from "./level.ts";
import type { Scratch } from "./scratch.ts";
import {
  type Columns,
  type Piece,
  planStripe,
  type Segment,
  type SlotAccess,
} from "./stripe-plan.ts";
import { unknownData } from "./unknown-data.ts";

/** More than this is not read or written inline: it would keep the event loop for too long. */
const INLINE_BYTES_MAX = 128 * 1024;

/** What updates of stripes work with. */
export interface StripeParts<L extends Leg> {
  readonly geometry: ParityGeometry;
  readonly legs: Legs<L>;
  readonly host: LevelHost<L>;
  readonly kernels: Kernels;
  readonly scratch: Scratch;
  readonly writes: StripeWrites;
}

/** Columns of one slot. */
interface SlotColumns extends Columns {
  readonly slot: number;
}

/**
 * One update of one stripe: reads what it must, makes parity of bytes that nobody else can change,
 * and writes data and parity to every slot that takes writes. Resolves to the legs that failed;
 * rejects, with nothing written, if what is to be written could not be given back.
 */
export class StripeUpdate<L extends Leg> {
  private readonly parts: StripeParts<L>;
  private readonly map: StripeMap;
  private readonly pieces: readonly Piece[];
  /** Where the stripe starts on every member's data area. */
  private readonly base: number;
  /** The first column that is written; how many there are, which is how long all buffers are. */
  private readonly start: number;
  private width = 0;
  /** By slot: old bytes, and what was made of them. */
  private readonly columns = new Map<number, Uint8Array>();
  /** Slots that could not be read for this update. */
  private readonly unreadable = new Map<number, MemberError>();
  /** By slot, as they were when this was planned: one that joins later is rebuilt after this. */
  private readable: (L | null)[] = [];
  private writable: (L | null)[] = [];

  constructor(parts: StripeParts<L>, stripe: number, pieces: readonly Piece[]) {
    this.parts = parts;
    this.map = parts.geometry.stripe(stripe);
    this.base = stripe * parts.geometry.chunkBytes;
    this.pieces = [...pieces].sort((a, b) => a.index - b.index || a.start - b.start);
    this.start = Math.min(...pieces.map(({ start }) => start));
  }

  async run(): Promise<LegFailure<L>[]> {
    try {
      let segments = this.plan();
      while (!(await this.readFor(segments))) segments = this.plan();
      this.count(segments);
      for (const segment of segments) this.compute(segment);
      return await this.writeOut(segments);
    } finally {
      this.giveBack();
    }
  }

  /**
   * The same without waiting. False, with nothing written, if something has to be waited for; a
   * promise if a leg failed when others were written already: then that goes on as `run` does.
   */
  tryRun(): boolean | Promise<LegFailure<L>[]> {
    let waits = false;
    try {
      const segments = this.plan();
      if (!this.needsOf(segments).every((range) => this.tryRead(range))) return false;
      this.count(segments);
      for (const segment of segments) this.compute(segment);
      const { failures, pending } = this.issue(this.writesOf(segments), true);
      waits = pending.length > 0;
      return waits ? this.settle(failures, pending) : true;
    } catch (error) {
      // Refused: `run` says so to the client.
      if (error instanceof NbdRaidError) return false;
      throw error;
    } finally {
      if (!waits) this.giveBack();
    }
  }

  private async settle(
    failures: LegFailure<L>[],
    pending: readonly Promise<void>[],
  ): Promise<LegFailure<L>[]> {
    try {
      await settleAll(pending);
      return failures;
    } finally {
      this.giveBack();
    }
  }

  private giveBack(): void {
    for (const buffer of this.columns.values()) this.parts.scratch.give(buffer);
  }

  private plan(): Segment[] {
    const { geometry, legs, host } = this.parts;
    for (let slot = 0; slot < geometry.raidDisks; slot++) {
      this.readable[slot] = this.unreadable.has(slot) ? null : legs.inSyncAt(slot);
      this.writable[slot] = legs.writableAt(slot);
    }
    const access: SlotAccess = {
      isInSync: (slot) => legs.inSyncAt(slot) !== null,
      isReadable: (slot) => this.readable[slot] !== null,
      isWritable: (slot) => this.writable[slot] !== null,
    };
    const segments = planStripe(this.map, this.pieces, access, (start, end) => ({
      trusted: !host.isSuspect(this.base + start, this.base + end),
      built: !host.isDoubtful(this.base + start, this.base + end),
    }));
    if (segments !== null) {
      // The same in every plan: it follows from the pieces alone.
      this.width = segments.reduce((sum, { start, end }) => sum + end - start, 0);
      return segments;
    }
    const [failure] = this.unreadable.values();
    throw failure ?? unknownData(this.base + this.start);
  }

  private count(segments: readonly Segment[]): void {
    const { writes } = this.parts;
    const uses = (...strategies: Segment["strategy"][]): boolean =>
      segments.some(({ strategy }) => strategies.includes(strategy));
    if (uses("modify")) writes.modify++;
    else if (uses("reconstruct", "decode", "anew")) writes.reconstruct++;
    else writes.full++;
  }

  // ---- reading

  /** False if a slot turned out to be unreadable: it is planned again without it. */
  private async readFor(segments: readonly Segment[]): Promise<boolean> {
    const ranges = this.needsOf(segments);
    const bytes = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    const inline = bytes <= INLINE_BYTES_MAX;
    const waits: Promise<boolean>[] = [];
    for (const range of ranges) {
      if (!inline || !this.tryRead(range)) waits.push(this.read(range));
    }
    if (waits.length === 0) return true;
    return (await Promise.all(waits)).every((read) => read);
  }

  private needsOf(segments: readonly Segment[]): SlotColumns[] {
    return merged(segments.flatMap((segment) => this.needs(segment)));
  }

  private needs({ start, end, at, fresh, strategy }: Segment): SlotColumns[] {
    const { data } = this.map;
    const range = (slot: number): SlotColumns => ({ slot, start, end, at });
    const readable = ({ slot }: SlotColumns): boolean => this.readable[slot] !== null;
    switch (strategy) {
      case "full":
      case "data":
        return [];
      case "reconstruct":
        return data.filter((_, index) => fresh[index] === null).map(range);
      case "modify": {
        const old = data.filter((_, index) => fresh[index] !== null);
        return [...old, ...this.parity()].map(range).filter(readable);
      }
      case "decode":
      case "anew":
        return [...data, ...this.parity()].map(range).filter(readable);
    }
  }

  private parity(): number[] {
    return this.map.q < 0 ? [this.map.p] : [this.map.p, this.map.q];
  }

  private tryRead(range: SlotColumns): boolean {
    const { slot, start } = range;
    const leg = this.readable[slot]!;
    return leg.member.tryRead(this.column(slot, range), leg.dataOffset + this.base + start);
  }

  private async read(range: SlotColumns): Promise<boolean> {
    const { slot, start } = range;
    const leg = this.readable[slot]!;
    try {
      await leg.member.read(this.column(slot, range), leg.dataOffset + this.base + start);
      return true;
    } catch (error) {
      if (!(error instanceof MemberError)) throw error;
      this.unreadable.set(slot, error);
      this.parts.host.readFailed(leg, error.message);
      return false;
    }
  }

  /** These columns of a slot; `slot` may be any number that names a buffer. */
  private column(slot: number, { start, end, at }: Columns): Uint8Array {
    let buffer = this.columns.get(slot);
    if (buffer === undefined) {
      buffer = this.parts.scratch.take(this.width);
      this.columns.set(slot, buffer);
    }
    return buffer.subarray(at, at + end - start);
  }

  // ---- computing

  private compute(segment: Segment): void {
    switch (segment.strategy) {
      case "data":
        return;
      case "modify":
        this.modify(segment);
        return;
      case "decode":
      case "anew":
        this.decode(segment);
        this.encode(segment);
        return;
      default:
        this.encode(segment);
    }
  }

  /** Parity of all the data: what is new, and what was read. */
  private encode(segment: Segment): void {
    const { kernels } = this.parts;
    const { data, exponents, p, q } = this.map;
    const blocks = data.map((slot, index) => segment.fresh[index] ?? this.column(slot, segment));
    const intoP = this.column(p, segment);
    if (q >= 0 && this.writable[q] !== null) {
      kernels.pq(intoP, this.column(q, segment), blocks, exponents);
    } else {
      kernels.xor(intoP, blocks);
    }
  }

  /** Old parity and the difference between old and new data. */
  private modify(segment: Segment): void {
    const { kernels } = this.parts;
    const { data, exponents, p, q } = this.map;
    const deltas: Uint8Array[] = [];
    for (const [index, bytes] of segment.fresh.entries()) {
      if (bytes === null) continue;
      const delta = this.column(data[index]!, segment);
      kernels.xorInto(delta, [bytes]);
      deltas.push(delta);
      if (q >= 0 && this.isModified(q)) {
        kernels.multiplyInto(this.column(q, segment), delta, exponents[index]!);
      }
    }
    if (this.isModified(p)) kernels.xorInto(this.column(p, segment), deltas);
  }

  private isModified(slot: number): boolean {
    return this.readable[slot] !== null && this.writable[slot] !== null;
  }

  /** Old bytes of the data chunks that are lost, from what was read. */
  private decode(segment: Segment): void {
    const { kernels } = this.parts;
    const { data, exponents, p, q } = this.map;
    const read = (slot: number): boolean => slot >= 0 && this.readable[slot] !== null;
    const blocks = data.map((slot) => this.column(slot, segment));
    const lost = [...data.keys()].filter((index) => !read(data[index]!));
    const oldOf = (slot: number) => (read(slot) ? this.column(slot, segment) : null);
    kernels.recover(blocks, lost, oldOf(p), oldOf(q), exponents);
  }

  // ---- writing

  private async writeOut(segments: readonly Segment[]): Promise<LegFailure<L>[]> {
    const writes = this.writesOf(segments);
    const bytes = writes.reduce((sum, { length }) => sum + length, 0);
    const inline =
      bytes <= INLINE_BYTES_MAX &&
      writes.every(({ leg, length }) => leg.member.writesInline(length));
    const { failures, pending } = this.issue(writes, inline);
    if (pending.length > 0) await settleAll(pending);
    return failures;
  }

  private writesOf(segments: readonly Segment[]): SlotWrite<L>[] {
    return [
      ...this.dataWrites(),
      ...this.columnWrites(this.rewritten(segments)),
      ...this.columnWrites(this.newParity(segments)),
    ];
  }

  /** What was not done inline goes on; `failures` is whole once all of that has ended. */
  private issue(writes: readonly SlotWrite<L>[], inline: boolean) {
    const failures: LegFailure<L>[] = [];
    const pending: Promise<void>[] = [];
    for (const { leg, offset, parts } of writes) {
      if (inline && leg.member.tryWritev(parts, offset)) continue;
      const written = leg.member.writev(parts, offset).catch((error: unknown) => {
        if (!(error instanceof MemberError)) throw error;
        failures.push({ leg, error });
      });
      pending.push(written);
    }
    return { failures, pending };
  }

  /** New data, adjacent pieces of a chunk in one write. Pieces are sorted. */
  private dataWrites(): SlotWrite<L>[] {
    const writes: SlotWrite<L>[] = [];
    let last: SlotWrite<L> | undefined;
    for (const { index, start, bytes } of this.pieces) {
      const leg = this.writable[this.map.data[index]!];
      if (leg == null) continue;
      const offset = leg.dataOffset + this.base + start;
      if (last?.leg !== leg || last.offset + last.length !== offset) {
        last = { leg, offset, length: 0, parts: [] };
        writes.push(last);
      }
      last.parts.push(bytes);
      last.length += bytes.length;
    }
    return writes;
  }

  /** What could not be read, and was made of a parity that need not fit it. */
  private rewritten(segments: readonly Segment[]): SlotColumns[] {
    if (this.unreadable.size === 0) return [];
    return segments.flatMap(({ start, end, at, fresh, strategy }) =>
      this.map.data
        .filter((slot, index) => fresh[index] === null && this.unreadable.has(slot))
        .filter(() => strategy === "anew")
        .map((slot) => ({ slot, start, end, at })),
    );
  }

  private newParity(segments: readonly Segment[]): SlotColumns[] {
    const isMade = (slot: number, strategy: Segment["strategy"]): boolean =>
      strategy === "modify" ? this.isModified(slot) : strategy !== "data";
    return this.parity().flatMap((slot) =>
      segments
        .filter(({ strategy }) => isMade(slot, strategy))
        .map(({ start, end, at }) => ({ slot, start, end, at })),
    );
  }

  private columnWrites(ranges: SlotColumns[]): SlotWrite<L>[] {
    return merged(ranges).flatMap((range) => {
      const { slot, start } = range;
      const leg = this.writable[slot];
      if (leg == null) return [];
      const bytes = this.column(slot, range);
      const offset = leg.dataOffset + this.base + start;
      return [{ leg, offset, length: bytes.length, parts: [bytes] }];
    });
  }
}

interface SlotWrite<L> {
  readonly leg: L;
  readonly offset: number;
  length: number;
  readonly parts: Uint8Array[];
}

/** Adjacent and overlapping ranges of a slot become one: where columns are adjacent buffers are. */
function merged(ranges: SlotColumns[]): SlotColumns[] {
  const sorted = ranges.sort((a, b) => a.slot - b.slot || a.start - b.start);
  const result: { slot: number; start: number; end: number; at: number }[] = [];
  for (const { slot, start, end, at } of sorted) {
    const last = result.at(-1);
    if (last?.slot === slot && start <= last.end) last.end = Math.max(last.end, end);
    else result.push({ slot, start, end, at });
  }
  return result;
}

/** Waits for all of them, whether or not one is rejected: their buffers are in use until then. */
async function settleAll(waits: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(waits)) {
    if (result.status === "rejected") throw result.reason;
  }
}
