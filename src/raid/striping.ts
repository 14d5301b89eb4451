import { assert } from "../errors.ts";
import type { StripingGeometry } from "./geometry/geometry.ts";
import { allRead, INLINE_COPY_BYTES_MAX, INLINE_READ_BYTES_MAX, onEach, onRanges } from "./legs.ts";
import type { Leg, LegFailure, Legs, Level, UnreadBlock } from "./level.ts";
import { type SlotRange, SlotRanges } from "./slot-ranges.ts";

/**
 * Levels 0 and linear: every byte lies on one leg, and a range of the array is one range of each
 * leg that has some of it. What a leg cannot read is lost.
 */
export class Striping<L extends Leg> implements Level<L> {
  private readonly geometry: StripingGeometry;
  private readonly legs: Legs<L>;

  constructor(geometry: StripingGeometry, legs: Legs<L>) {
    this.geometry = geometry;
    this.legs = legs;
  }

  sources(): L[] {
    return [...this.legs.inSync];
  }

  // ---- reads

  tryRead(into: Uint8Array, offset: number): boolean {
    const first = this.geometry.locate(offset);
    if (into.length <= first.length) {
      const leg = this.readable(first.slot);
      return leg.member.tryRead(into, leg.dataOffset + first.offset);
    }
    if (into.length > INLINE_READ_BYTES_MAX) return false;
    return this.rangesOf(into, offset).every((range) => {
      const leg = this.readable(range.slot);
      return leg.member.tryReadv(range.parts, leg.dataOffset + range.offset);
    });
  }

  async read(into: Uint8Array, offset: number): Promise<UnreadBlock<L>[]> {
    const first = this.geometry.locate(offset);
    if (into.length <= first.length) {
      const leg = this.readable(first.slot);
      await leg.member.read(into, leg.dataOffset + first.offset);
      return [];
    }
    const reads = this.rangesOf(into, offset).map(async (range): Promise<UnreadBlock<L>[]> => {
      const leg = this.readable(range.slot);
      await leg.member.readv(range.parts, leg.dataOffset + range.offset);
      return [];
    });
    return allRead(reads);
  }

  async prefetch(offset: number, length: number): Promise<void> {
    await this.onLegs(offset, length, (leg, at, count) => leg.member.prefetch(at, count));
  }

  // ---- writes

  writesInline(offset: number, length: number): boolean {
    const first = this.geometry.locate(offset);
    if (length <= first.length) return this.writable(first.slot).member.writesInline(length);
    if (length > INLINE_COPY_BYTES_MAX) return false;
    return this.legs.writable.every(({ member }) => member.writesInline(length));
  }

  tryWrite(from: Uint8Array, offset: number): boolean {
    const first = this.geometry.locate(offset);
    if (from.length <= first.length) {
      const leg = this.writable(first.slot);
      return leg.member.tryWrite(from, leg.dataOffset + first.offset);
    }
    return this.rangesOf(from, offset).every((range) => {
      const leg = this.writable(range.slot);
      return leg.member.tryWritev(range.parts, leg.dataOffset + range.offset);
    });
  }

  write(from: Uint8Array, offset: number): Promise<LegFailure<L>[]> {
    return onRanges(
      this.rangesOf(from, offset),
      (slot) => this.writable(slot),
      (leg, range) => leg.member.writev(range.parts, leg.dataOffset + range.offset),
    );
  }

  punch(offset: number, length: number): Promise<LegFailure<L>[]> {
    return this.onLegs(offset, length, (leg, at, count) => leg.member.punch(at, count));
  }

  zero(offset: number, length: number): Promise<LegFailure<L>[]> {
    return this.onLegs(offset, length, (leg, at, count) => leg.member.zero(at, count));
  }

  /** Every fdatasync is a no-op: what is written is as durable as it gets. */
  get syncsInline(): boolean {
    return this.legs.writable.every(({ member }) => member.syncsInline);
  }

  sync(): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.sync());
  }

  /** There is nothing to make the range from. */
  repair(): Promise<LegFailure<L>[]> {
    return Promise.resolve([]);
  }

  // ---- places

  /** The parts of a client's buffer by member: one range for each. */
  private rangesOf(bytes: Uint8Array, offset: number): readonly SlotRange[] {
    const ranges = new SlotRanges();
    for (let at = 0; at < bytes.length;) {
      const place = this.geometry.locate(offset + at);
      const part = bytes.subarray(at, at + place.length);
      ranges.add(place.slot, place.offset, part);
      at += part.length;
    }
    return ranges.ranges;
  }

  /** Does it on each leg's part of a range. Offsets are bytes of the member. */
  private onLegs(
    offset: number,
    length: number,
    operation: (leg: L, offset: number, length: number) => Promise<void>,
  ): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, async (leg) => {
      const start = this.geometry.bytesBefore(leg.slot ?? 0, offset);
      const end = this.geometry.bytesBefore(leg.slot ?? 0, offset + length);
      if (end > start) await operation(leg, leg.dataOffset + start, end - start);
    });
  }

  private readable(slot: number): L {
    return present(this.legs.inSyncAt(slot));
  }

  private writable(slot: number): L {
    return present(this.legs.writableAt(slot));
  }
}

function present<L>(leg: L | null): L {
  assert(leg !== null, "an array without redundancy runs with all of its members");
  return leg;
}
