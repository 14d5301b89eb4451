import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import { createKernels } from "../parity/create.ts";
import type { ParityGeometry } from "./geometry/geometry.ts";
import {
  FALLBACK_BLOCK_BYTES,
  type Leg,
  type LegFailure,
  type Legs,
  type Level,
  type LevelHost,
  type StripeWrites,
  type UnreadBlock,
} from "./level.ts";
import { allRead, INLINE_READ_BYTES_MAX, onEach } from "./legs.ts";
import { Scratch } from "./scratch.ts";
import { type SlotRange, SlotRanges } from "./slot-ranges.ts";
import { StripeQueue } from "./stripe-queue.ts";
import type { Piece } from "./stripe-plan.ts";
import { decodeStripe } from "./stripe-read.ts";
import { type StripeParts, StripeUpdate } from "./stripe-write.ts";
import { unknownData } from "./unknown-data.ts";

/** Longer writes are not made inline: a stripe takes reads, parity and several writes. */
const INLINE_BYTES_MAX = 16 * 1024;
/** Longer zeroes at the edges of a range are written in pieces of this length. */
const ZEROES = new Uint8Array(1024 * 1024);

/** Part of a data chunk and the part of a client's buffer that belongs there. */
interface ChunkPart {
  /** Which data chunk of the stripe. */
  readonly index: number;
  /** Offset in the chunk. */
  readonly start: number;
  readonly bytes: Uint8Array;
}

/**
 * Levels 4, 5 and 6: stripes of data chunks and one or two of parity. Knows how to read what is
 * lost through the others, and to write so that parity always fits the data.
 */
export class Parity<L extends Leg> implements Level<L> {
  readonly stripeWrites: StripeWrites = { full: 0, reconstruct: 0, modify: 0 };
  private readonly geometry: ParityGeometry;
  private readonly legs: Legs<L>;
  private readonly host: LevelHost<L>;
  private readonly parts: StripeParts<L>;
  private readonly queue: StripeQueue<L>;
  /** Where the last write ended: one that starts there belongs to a stream. */
  private tail = 0;

  constructor(geometry: ParityGeometry, legs: Legs<L>, host: LevelHost<L>) {
    this.geometry = geometry;
    this.legs = legs;
    this.host = host;
    const kernels = createKernels();
    const scratch = new Scratch(kernels);
    this.parts = { geometry, legs, host, kernels, scratch, writes: this.stripeWrites };
    this.queue = new StripeQueue<L>(
      geometry.stripeBytes,
      geometry.chunkBytes,
      (stripe, pieces) => this.update(stripe, pieces),
      host.clock,
    );
  }

  /** Every member is read alike: data has one place, and only parity another. */
  sources(): L[] {
    return [...this.legs.inSync];
  }

  // ---- reads

  tryRead(into: Uint8Array, offset: number): boolean {
    const { chunkBytes, stripeBytes } = this.geometry;
    const start = offset % chunkBytes;
    if (start + into.length <= chunkBytes) {
      const stripe = Math.floor(offset / stripeBytes);
      const index = Math.floor((offset % stripeBytes) / chunkBytes);
      const leg = this.legs.inSyncAt(this.geometry.stripe(stripe).data[index]!);
      if (leg === null) return false;
      return leg.member.tryRead(into, leg.dataOffset + stripe * chunkBytes + start);
    }
    if (into.length > INLINE_READ_BYTES_MAX) return false;
    const ranges = new SlotRanges();
    for (const [stripe, chunks] of this.stripesOf(into, offset)) {
      if (!this.gather(ranges, stripe, chunks)) return false;
    }
    return ranges.ranges.every(({ slot, offset: from, parts }) => {
      const leg = this.legs.inSyncAt(slot)!;
      return leg.member.tryReadv(parts, leg.dataOffset + from);
    });
  }

  async read(into: Uint8Array, offset: number): Promise<UnreadBlock<L>[]> {
    const ranges = new SlotRanges();
    const waits: Promise<UnreadBlock<L>[]>[] = [];
    for (const [stripe, chunks] of this.stripesOf(into, offset)) {
      if (!this.gather(ranges, stripe, chunks)) waits.push(this.readLost(stripe, chunks));
    }
    for (const range of ranges.ranges) waits.push(this.readRange(range));
    return allRead(waits);
  }

  /** The parts of a range of the array by stripe. */
  private *stripesOf(bytes: Uint8Array, offset: number): Iterable<[number, ChunkPart[]]> {
    const { chunkBytes, stripeBytes } = this.geometry;
    for (let at = 0; at < bytes.length;) {
      const stripe = Math.floor((offset + at) / stripeBytes);
      const end = Math.min(bytes.length, (stripe + 1) * stripeBytes - offset);
      const chunks: ChunkPart[] = [];
      while (at < end) {
        const inStripe = (offset + at) % stripeBytes;
        const start = inStripe % chunkBytes;
        const part = bytes.subarray(at, Math.min(end, at + chunkBytes - start));
        chunks.push({ index: Math.floor(inStripe / chunkBytes), start, bytes: part });
        at += part.length;
      }
      yield [stripe, chunks];
    }
  }

  /** Adds the parts of a stripe to what is read of slots; false, and nothing, if one is lost. */
  private gather(ranges: SlotRanges, stripe: number, chunks: readonly ChunkPart[]): boolean {
    const { data } = this.geometry.stripe(stripe);
    if (chunks.some(({ index }) => this.legs.inSyncAt(data[index]!) === null)) return false;
    const base = stripe * this.geometry.chunkBytes;
    for (const { index, start, bytes } of chunks) ranges.add(data[index]!, base + start, bytes);
    return true;
  }

  /** A stripe of which something is lost: read and decoded while nothing changes it. */
  private readLost(stripe: number, chunks: readonly ChunkPart[]): Promise<UnreadBlock<L>[]> {
    const { data } = this.geometry.stripe(stripe);
    const isLost = ({ index }: ChunkPart): boolean => this.legs.inSyncAt(data[index]!) === null;
    return this.exclusively(stripe, async () => {
      const done = new Set<ChunkPart>();
      for (const part of chunks) {
        if (!done.has(part) && isLost(part)) await this.decodeFor(stripe, part, chunks, done);
      }
      const unread: UnreadBlock<L>[] = [];
      for (const part of chunks) {
        if (done.has(part)) continue;
        const ranges = new SlotRanges();
        ranges.add(data[part.index]!, this.base(stripe) + part.start, part.bytes);
        unread.push(...(await this.readRange(ranges.ranges[0]!, true)));
      }
      return unread;
    });
  }

  /**
   * Fills a part that is lost. Reads the others over the same columns; those that the client asks
   * for just so are done with it.
   */
  private async decodeFor(
    stripe: number,
    { start, bytes }: ChunkPart,
    chunks: readonly ChunkPart[],
    done: Set<ChunkPart>,
  ): Promise<void> {
    this.refuseSuspect(stripe, start, bytes.length);
    const alike = chunks.filter(
      (part) => part.start === start && part.bytes.length === bytes.length,
    );
    const wanted = new Array<Uint8Array | null>(this.geometry.dataDisks).fill(null);
    for (const part of alike) wanted[part.index] = part.bytes;
    await this.decode(stripe, start, bytes.length, wanted, NOBODY);
    for (const part of alike) done.add(part);
  }

  private async decode(
    stripe: number,
    start: number,
    length: number,
    wanted: readonly (Uint8Array | null)[],
    without: ReadonlySet<number>,
  ): Promise<void> {
    const failures = await decodeStripe(this.parts, stripe, start, length, wanted, without);
    for (const { leg, error } of failures) this.host.readFailed(leg, error.message);
  }

  /** `held`: the caller holds the stripe that the range is in. */
  private async readRange(range: SlotRange, held = false): Promise<UnreadBlock<L>[]> {
    const { slot, offset, length, parts } = range;
    const leg = this.legs.inSyncAt(slot);
    if (leg === null) return this.readBlocks(range, null, held);
    try {
      await leg.member.readv(parts, leg.dataOffset + offset);
      return [];
    } catch (error) {
      if (!(error instanceof MemberError)) throw error;
      const unread = await this.readBlocks(range, leg, held);
      // It may have failed but for once: that counts too, and there is nothing to repair.
      if (unread.length > 0) return unread;
      return [{ leg, error, offset: this.arrayOffset(slot, offset), length: Math.min(length, 1) }];
    }
  }

  private async readBlocks(
    { slot, offset, parts }: SlotRange,
    leg: L | null,
    held: boolean,
  ): Promise<UnreadBlock<L>[]> {
    const unread: UnreadBlock<L>[] = [];
    let at = offset;
    for (const part of parts) {
      for (let done = 0; done < part.length;) {
        const toBoundary = FALLBACK_BLOCK_BYTES - (at % FALLBACK_BLOCK_BYTES);
        const block = part.subarray(done, done + toBoundary);
        const error = leg === null ? null : await readError(leg, block, at);
        if (leg === null || error !== null) {
          await this.decodeBlock(slot, at, block, held, error);
          if (leg !== null && error !== null) {
            const where = this.arrayOffset(slot, at);
            unread.push({ leg, error, offset: where, length: block.length });
          }
        }
        at += block.length;
        done += block.length;
      }
    }
    return unread;
  }

  /** Part of one data chunk, from the rest of its stripe. */
  private async decodeBlock(
    slot: number,
    offset: number,
    into: Uint8Array,
    held: boolean,
    error: MemberError | null,
  ): Promise<void> {
    const { chunkBytes } = this.geometry;
    const stripe = Math.floor(offset / chunkBytes);
    const work = async (): Promise<void> => {
      const start = offset % chunkBytes;
      if (error !== null && this.isSuspect(stripe, start, into.length)) throw error;
      this.refuseSuspect(stripe, start, into.length);
      const { data } = this.geometry.stripe(stripe);
      const wanted = data.map((other) => (other === slot ? into : null));
      try {
        await this.decode(stripe, start, into.length, wanted, new Set([slot]));
      } catch (lost) {
        // The others cannot stand in for it either: what its own member said is why.
        throw error !== null && lost instanceof NbdRaidError ? error : lost;
      }
    };
    if (held) await work();
    else await this.exclusively(stripe, work);
  }

  async prefetch(offset: number, length: number): Promise<void> {
    const { chunkBytes, stripeBytes } = this.geometry;
    const first = Math.floor(offset / stripeBytes) * chunkBytes;
    const end = Math.ceil((offset + length) / stripeBytes) * chunkBytes;
    await Promise.all(
      this.legs.inSync.map((leg) => leg.member.prefetch(leg.dataOffset + first, end - first)),
    );
  }

  // ---- writes

  /** Short scattered writes: those of a stream wait for their neighbours in the stripe. */
  writesInline(offset: number, length: number): boolean {
    const { chunkBytes, stripeBytes } = this.geometry;
    if (length > INLINE_BYTES_MAX || (offset % chunkBytes) + length > chunkBytes) return false;
    if (offset === this.tail || !this.queue.isIdle(Math.floor(offset / stripeBytes))) return false;
    return this.legs.writable.every(({ member }) => member.writesInline(length));
  }

  tryWrite(from: Uint8Array, offset: number): boolean | Promise<LegFailure<L>[]> {
    const { chunkBytes, stripeBytes } = this.geometry;
    const stripe = Math.floor(offset / stripeBytes);
    const index = Math.floor((offset % stripeBytes) / chunkBytes);
    const piece = { index, start: offset % chunkBytes, bytes: from };
    const outcome = new StripeUpdate(this.parts, stripe, [piece]).tryRun();
    if (outcome === false) return false;
    this.tail = offset + from.length;
    if (outcome === true) return true;
    const judged = outcome.then((failures) => this.judged(stripe, [piece], failures));
    this.queue.occupy(stripe, judged);
    return judged;
  }

  write(from: Uint8Array, offset: number): Promise<LegFailure<L>[]> {
    this.tail = offset + from.length;
    return this.queue.add(from, offset);
  }

  private async update(stripe: number, pieces: readonly Piece[]): Promise<LegFailure<L>[]> {
    return this.judged(stripe, pieces, await new StripeUpdate(this.parts, stripe, pieces).run());
  }

  /** Legs that failed are out before the next update of the stripe, which would read from them. */
  private judged(
    stripe: number,
    pieces: readonly Piece[],
    failures: LegFailure<L>[],
  ): LegFailure<L>[] {
    if (failures.length > 0) {
      const base = this.base(stripe);
      const changed = pieces.map(({ start, bytes }) => {
        return { start: base + start, end: base + start + bytes.length };
      });
      this.host.writeFailed(failures, changed);
    }
    return failures;
  }

  punch(offset: number, length: number): Promise<LegFailure<L>[]> {
    return this.zeroStripes(offset, length, (leg, from, count) => leg.member.punch(from, count));
  }

  zero(offset: number, length: number): Promise<LegFailure<L>[]> {
    return this.zeroStripes(offset, length, (leg, from, count) => leg.member.zero(from, count));
  }

  /** Zero data has zero parity: whole stripes become zero on every leg; the edges are written. */
  private async zeroStripes(
    offset: number,
    length: number,
    change: (leg: L, offset: number, length: number) => Promise<void>,
  ): Promise<LegFailure<L>[]> {
    const { chunkBytes, stripeBytes } = this.geometry;
    const end = offset + length;
    const first = Math.ceil(offset / stripeBytes);
    const last = Math.floor(end / stripeBytes);
    if (first >= last) return this.writeZeroes(offset, end);
    const whole = onEach(this.legs.writable, (leg) =>
      change(leg, leg.dataOffset + first * chunkBytes, (last - first) * chunkBytes),
    ).then((failures) => {
      const changed = { start: first * chunkBytes, end: last * chunkBytes };
      if (failures.length > 0) this.host.writeFailed(failures, [changed]);
      return failures;
    });
    const [before, behind] = [
      this.writeZeroes(offset, first * stripeBytes),
      this.writeZeroes(last * stripeBytes, end),
    ];
    const results = await Promise.allSettled([whole, before, behind]);
    return results.flatMap((result) => {
      if (result.status === "rejected") throw result.reason;
      return result.value;
    });
  }

  private async writeZeroes(offset: number, end: number): Promise<LegFailure<L>[]> {
    const failures: LegFailure<L>[] = [];
    for (let at = offset; at < end; at += ZEROES.length) {
      failures.push(...(await this.queue.add(ZEROES.subarray(0, end - at), at)));
    }
    return failures;
  }

  get syncsInline(): boolean {
    return this.legs.writable.every(({ member }) => member.syncsInline);
  }

  sync(): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.sync());
  }

  // ---- repair

  async repair(leg: L, offset: number, length: number): Promise<LegFailure<L>[]> {
    const { chunkBytes, stripeBytes } = this.geometry;
    const stripe = Math.floor(offset / stripeBytes);
    const start = offset % chunkBytes;
    const { data } = this.geometry.stripe(stripe);
    const at = this.base(stripe) + start;
    if (leg.slot === null || this.legs.inSyncAt(leg.slot) !== leg) return [];
    const block = new Uint8Array(length);
    if ((await readError(leg, block, at)) === null) return [];
    if (this.isSuspect(stripe, start, length)) return [];
    const wanted = data.map((slot) => (slot === leg.slot ? block : null));
    try {
      await this.decode(stripe, start, length, wanted, new Set([leg.slot]));
    } catch (error) {
      if (error instanceof MemberError || error instanceof NbdRaidError) return [];
      throw error;
    }
    try {
      await leg.member.write(block, leg.dataOffset + at);
      await leg.member.read(new Uint8Array(length), leg.dataOffset + at);
      return [];
    } catch (error) {
      if (!(error instanceof MemberError)) throw error;
      return [{ leg, error }];
    }
  }

  // ---- places

  /** Where a stripe starts on every member's data area. */
  private base(stripe: number): number {
    return stripe * this.geometry.chunkBytes;
  }

  private arrayOffset(slot: number, offset: number): number {
    const { chunkBytes, stripeBytes } = this.geometry;
    const stripe = Math.floor(offset / chunkBytes);
    const index = this.geometry.stripe(stripe).data.indexOf(slot);
    return stripe * stripeBytes + index * chunkBytes + (offset % chunkBytes);
  }

  private isSuspect(stripe: number, start: number, length: number): boolean {
    const from = this.base(stripe) + start;
    return this.host.isSuspect(from, from + length);
  }

  private refuseSuspect(stripe: number, start: number, length: number): void {
    if (this.isSuspect(stripe, start, length)) throw unknownData(this.base(stripe) + start);
  }

  private exclusively<T>(stripe: number, work: () => Promise<T>): Promise<T> {
    const { stripeBytes } = this.geometry;
    return this.host.exclusively(stripe * stripeBytes, stripeBytes, work);
  }
}

const NOBODY: ReadonlySet<number> = new Set();

/** Null: the block was read. */
async function readError(leg: Leg, block: Uint8Array, offset: number): Promise<MemberError | null> {
  try {
    await leg.member.read(block, leg.dataOffset + offset);
    return null;
  } catch (error) {
    if (error instanceof MemberError) return error;
    throw error;
  }
}
