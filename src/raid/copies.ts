import { assert } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import { copyRanges } from "./copy-ranges.ts";
import { CopyReads } from "./copy-reads.ts";
import type { CopiesGeometry } from "./geometry/geometry.ts";
import { INLINE_COPY_BYTES_MAX, onEach, onRanges } from "./legs.ts";
import type { Leg, LegFailure, Legs, Level, UnreadBlock } from "./level.ts";
import { mergeRanges } from "./merge-ranges.ts";
import { type SlotRange, SlotRanges } from "./slot-ranges.ts";

/** A hint is not worth more than this of the array. */
const PREFETCH_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Level 10: each chunk lies on several legs. Knows how to read it from one of them and to write
 * it to all; what becomes of a leg that fails is the caller's policy.
 */
export class Copies<L extends Leg> implements Level<L> {
  private readonly geometry: CopiesGeometry;
  private readonly legs: Legs<L>;
  private readonly reads: CopyReads<L>;

  constructor(geometry: CopiesGeometry, legs: Legs<L>) {
    this.geometry = geometry;
    this.legs = legs;
    this.reads = new CopyReads(geometry, legs);
  }

  /** A chunk's source is the first of these that has a copy of it. */
  sources(): L[] {
    return [...this.reads.order.ranked()];
  }

  // ---- reads

  tryRead(into: Uint8Array, offset: number, pinned: boolean): boolean {
    return this.reads.tryRead(into, offset, pinned);
  }

  read(into: Uint8Array, offset: number, pinned: boolean): Promise<UnreadBlock<L>[]> {
    return this.reads.read(into, offset, pinned);
  }

  async prefetch(offset: number, length: number): Promise<void> {
    const { chunkBytes } = this.geometry;
    const ranges: SlotRange[] = [];
    const end = offset + Math.min(length, PREFETCH_BYTES_MAX);
    for (let at = offset; at < end;) {
      const start = at % chunkBytes;
      const count = Math.min(end - at, chunkBytes - start);
      const source = this.reads.sourceOf(this.geometry.locate((at - start) / chunkBytes));
      const { slot } = source;
      ranges.push({ slot, offset: source.offset + start, length: count, parts: [] });
      at += count;
    }
    const hints = mergeRanges(ranges).map(async (range) => {
      const leg = this.legs.inSyncAt(range.slot);
      await leg?.member.prefetch(leg.dataOffset + range.offset, range.length);
    });
    await Promise.all(hints);
  }

  // ---- writes

  writesInline(offset: number, length: number): boolean {
    const { chunkBytes } = this.geometry;
    if (length > INLINE_COPY_BYTES_MAX) return false;
    const start = offset % chunkBytes;
    if (start + length > chunkBytes) {
      return this.legs.writable.every(({ member }) => member.writesInline(length));
    }
    for (const { slot } of this.geometry.locate((offset - start) / chunkBytes)) {
      if (this.legs.writableAt(slot)?.member.writesInline(length) === false) return false;
    }
    return true;
  }

  tryWrite(from: Uint8Array, offset: number): boolean {
    const { chunkBytes } = this.geometry;
    const start = offset % chunkBytes;
    if (start + from.length > chunkBytes) {
      return this.rangesOf(from, offset).every((range) => {
        const leg = this.legAt(range.slot);
        return leg.member.tryWritev(range.parts, leg.dataOffset + range.offset);
      });
    }
    let copies = 0;
    for (const place of this.geometry.locate((offset - start) / chunkBytes)) {
      const leg = this.legs.writableAt(place.slot);
      if (leg === null) continue;
      if (!leg.member.tryWrite(from, leg.dataOffset + place.offset + start)) return false;
      copies++;
    }
    assert(copies > 0, WRITABLE);
    return true;
  }

  write(from: Uint8Array, offset: number): Promise<LegFailure<L>[]> {
    return this.onCopies(this.rangesOf(from, offset), (leg, range) =>
      leg.member.writev(range.parts, leg.dataOffset + range.offset),
    );
  }

  punch(offset: number, length: number): Promise<LegFailure<L>[]> {
    return this.onCopies(this.writableRanges(offset, length), (leg, range) =>
      leg.member.punch(leg.dataOffset + range.offset, range.length),
    );
  }

  zero(offset: number, length: number): Promise<LegFailure<L>[]> {
    return this.onCopies(this.writableRanges(offset, length), (leg, range) =>
      leg.member.zero(leg.dataOffset + range.offset, range.length),
    );
  }

  /** Every fdatasync is a no-op: what is written is as durable as it gets. */
  get syncsInline(): boolean {
    return this.legs.writable.every(({ member }) => member.syncsInline);
  }

  sync(): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.sync());
  }

  // ---- repair

  /** Only what `leg` has of the range; chunks that it has no copy of are nothing to it. */
  async repair(leg: L, offset: number, length: number): Promise<LegFailure<L>[]> {
    const { chunkBytes } = this.geometry;
    const end = offset + length;
    for (let at = offset; at < end;) {
      const start = at % chunkBytes;
      const count = Math.min(end - at, chunkBytes - start);
      const error = await this.repairPart(leg, at, count);
      if (error !== null) return [{ leg, error }];
      at += count;
    }
    return [];
  }

  /** A range within one chunk. */
  private async repairPart(leg: L, offset: number, length: number): Promise<MemberError | null> {
    const { chunkBytes } = this.geometry;
    const start = offset % chunkBytes;
    const copies = this.reads.copiesOf((offset - start) / chunkBytes);
    const broken = copies.find((copy) => copy.leg === leg);
    if (broken === undefined) return null;
    const bytes = new Uint8Array(length);
    const readError = (copy: { readonly leg: L; readonly offset: number }) =>
      errorOf(copy.leg.member.read(bytes, copy.leg.dataOffset + copy.offset + start));
    if ((await readError(broken)) === null) return null;
    for (const copy of copies) {
      if (copy === broken || (await readError(copy)) !== null) continue;
      const to = leg.dataOffset + broken.offset + start;
      return (await errorOf(leg.member.write(bytes, to))) ?? (await readError(broken));
    }
    return null;
  }

  // ---- places

  /** The parts of a client's buffer by copy, adjacent ones together. */
  private rangesOf(bytes: Uint8Array, offset: number): SlotRange[] {
    const { chunkBytes } = this.geometry;
    const ranges = new SlotRanges();
    for (let at = 0; at < bytes.length;) {
      const start = (offset + at) % chunkBytes;
      const part = bytes.subarray(at, at + chunkBytes - start);
      let copies = 0;
      for (const place of this.geometry.locate((offset + at - start) / chunkBytes)) {
        if (this.legs.writableAt(place.slot) === null) continue;
        ranges.add(place.slot, place.offset + start, part);
        copies++;
      }
      assert(copies > 0, WRITABLE);
      at += part.length;
    }
    return mergeRanges(ranges.ranges);
  }

  private writableRanges(offset: number, length: number): SlotRange[] {
    const ranges = copyRanges(this.geometry, offset, length);
    return ranges.filter(({ slot }) => this.legs.writableAt(slot) !== null);
  }

  private onCopies(
    ranges: readonly SlotRange[],
    operation: (leg: L, range: SlotRange) => Promise<void>,
  ): Promise<LegFailure<L>[]> {
    return onRanges(ranges, (slot) => this.legAt(slot), operation);
  }

  private legAt(slot: number): L {
    const leg = this.legs.writableAt(slot);
    assert(leg !== null, WRITABLE);
    return leg;
  }
}

const WRITABLE = "an array that runs has a copy of every chunk that takes writes";

/** Null: it went well. */
async function errorOf(operation: Promise<void>): Promise<MemberError | null> {
  try {
    await operation;
    return null;
  } catch (error) {
    if (error instanceof MemberError) return error;
    throw error;
  }
}
