import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { Kernels } from "../parity/kernels.ts";
import type { ParityGeometry, StripeMap } from "./geometry/geometry.ts";
import type { Leg, LegFailure, Legs, LevelHost, StripeWrites } from "./level.ts";
import type { Scratch } from "./scratch.ts";
import { type Piece, planStripe, type Segment, type SlotAccess } from "./stripe-plan.ts";
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

/** A range of a slot's columns; offsets in the chunk. */
interface Columns {
  readonly slot: number;
  start: number;
  end: number;
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
  /** Columns that the update is about: all buffers of slots hold these. */
  private readonly start: number;
  private readonly end: number;
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
    this.end = Math.max(...pieces.map(({ start, bytes }) => start + bytes.length));
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
    if (segments !== null) return segments;
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

  private needsOf(segments: readonly Segment[]): Columns[] {
    return merged(segments.flatMap((segment) => this.needs(segment)));
  }

  private needs({ start, end, fresh, strategy }: Segment): Columns[] {
    const { data } = this.map;
    const range = (slot: number): Columns => ({ slot, start, end });
    const readable = ({ slot }: Columns): boolean => this.readable[slot] !== null;
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

  private tryRead({ slot, start, end }: Columns): boolean {
    const leg = this.readable[slot]!;
    return leg.member.tryRead(this.column(slot, start, end), leg.dataOffset + this.base + start);
  }

  private async read({ slot, start, end }: Columns): Promise<boolean> {
    const leg = this.readable[slot]!;
    try {
      await leg.member.read(this.column(slot, start, end), leg.dataOffset + this.base + start);
      return true;
    } catch (error) {
      if (!(error instanceof MemberError)) throw error;
      this.unreadable.set(slot, error);
      this.parts.host.readFailed(leg, error.message);
      return false;
    }
  }

  /** Columns [start, end) of a slot; `slot` may be any number that names a buffer. */
  private column(slot: number, start: number, end: number): Uint8Array {
    let buffer = this.columns.get(slot);
    if (buffer === undefined) {
      buffer = this.parts.scratch.take(this.end - this.start);
      this.columns.set(slot, buffer);
    }
    return buffer.subarray(start - this.start, end - this.start);
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
  private encode({ start, end, fresh }: Segment): void {
    const { kernels } = this.parts;
    const { data, exponents, p, q } = this.map;
    const blocks = data.map((slot, index) => fresh[index] ?? this.column(slot, start, end));
    const intoP = this.column(p, start, end);
    if (q >= 0 && this.writable[q] !== null) {
      kernels.pq(intoP, this.column(q, start, end), blocks, exponents);
    } else {
      kernels.xor(intoP, blocks);
    }
  }

  /** Old parity and the difference between old and new data. */
  private modify({ start, end, fresh }: Segment): void {
    const { kernels } = this.parts;
    const { data, exponents, p, q } = this.map;
    const deltas: Uint8Array[] = [];
    for (const [index, bytes] of fresh.entries()) {
      if (bytes === null) continue;
      const delta = this.column(data[index]!, start, end);
      kernels.xorInto(delta, [bytes]);
      deltas.push(delta);
      if (q >= 0 && this.isModified(q)) {
        kernels.multiplyInto(this.column(q, start, end), delta, exponents[index]!);
      }
    }
    if (this.isModified(p)) kernels.xorInto(this.column(p, start, end), deltas);
  }

  private isModified(slot: number): boolean {
    return this.readable[slot] !== null && this.writable[slot] !== null;
  }

  /** Old bytes of the data chunks that are lost, from what was read. */
  private decode({ start, end }: Segment): void {
    const { kernels } = this.parts;
    const { data, exponents, p, q } = this.map;
    const read = (slot: number): boolean => slot >= 0 && this.readable[slot] !== null;
    const blocks = data.map((slot) => this.column(slot, start, end));
    const lost = [...data.keys()].filter((index) => !read(data[index]!));
    const oldOf = (slot: number) => (read(slot) ? this.column(slot, start, end) : null);
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
  private rewritten(segments: readonly Segment[]): Columns[] {
    if (this.unreadable.size === 0) return [];
    return segments.flatMap(({ start, end, fresh, strategy }) =>
      this.map.data
        .filter((slot, index) => fresh[index] === null && this.unreadable.has(slot))
        .filter(() => strategy === "anew")
        .map((slot) => ({ slot, start, end })),
    );
  }

  private newParity(segments: readonly Segment[]): Columns[] {
    const isMade = (slot: number, strategy: Segment["strategy"]): boolean =>
      strategy === "modify" ? this.isModified(slot) : strategy !== "data";
    return this.parity().flatMap((slot) =>
      segments
        .filter(({ strategy }) => isMade(slot, strategy))
        .map(({ start, end }) => ({ slot, start, end })),
    );
  }

  private columnWrites(ranges: Columns[]): SlotWrite<L>[] {
    return merged(ranges).flatMap(({ slot, start, end }) => {
      const leg = this.writable[slot];
      if (leg == null) return [];
      const bytes = this.column(slot, start, end);
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

/** Adjacent and overlapping ranges of a slot become one. */
function merged(ranges: Columns[]): Columns[] {
  const sorted = ranges.sort((a, b) => a.slot - b.slot || a.start - b.start);
  const result: Columns[] = [];
  for (const { slot, start, end } of sorted) {
    const last = result.at(-1);
    if (last?.slot === slot && start <= last.end) last.end = Math.max(last.end, end);
    else result.push({ slot, start, end });
  }
  return result;
}

/** Waits for all of them, whether or not one is rejected: their buffers are in use until then. */
async function settleAll(waits: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(waits)) {
    if (result.status === "rejected") throw result.reason;
  }
}
