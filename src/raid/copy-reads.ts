import { assert } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { CopiesGeometry, Extent } from "./geometry/geometry.ts";
import { allRead, INLINE_READ_BYTES_MAX } from "./legs.ts";
import { FALLBACK_BLOCK_BYTES, type Leg, type Legs, type UnreadBlock } from "./level.ts";
import { mergeRanges } from "./merge-ranges.ts";
import { ReadLoads } from "./read-loads.ts";
import { type SlotRange, SlotRanges } from "./slot-ranges.ts";
import { SourceOrder } from "./source-order.ts";

/** A copy that can be read. */
interface Copy<L> {
  readonly leg: L;
  /** Of the chunk, on the leg's data area. */
  readonly offset: number;
}

/** The client's buffer that a read fills, and the offset of the array that it is for. */
interface Request {
  readonly into: Uint8Array;
  readonly offset: number;
}

/** The reads of level 10: which copy each chunk comes from, and what if it cannot be read. */
export class CopyReads<L extends Leg> {
  readonly order: SourceOrder<L>;
  private readonly geometry: CopiesGeometry;
  private readonly legs: Legs<L>;
  private readonly loads = new ReadLoads();

  constructor(geometry: CopiesGeometry, legs: Legs<L>) {
    this.geometry = geometry;
    this.legs = legs;
    this.order = new SourceOrder(legs);
  }

  tryRead(into: Uint8Array, offset: number, pinned: boolean): boolean {
    const { chunkBytes } = this.geometry;
    const start = offset % chunkBytes;
    if (start + into.length <= chunkBytes) {
      const places = this.geometry.locate((offset - start) / chunkBytes);
      const place = this.choose(places, start, pinned);
      const leg = this.legAt(place.slot);
      const at = place.offset + start;
      if (!leg.member.tryRead(into, leg.dataOffset + at)) return false;
      this.loads.readTo(leg, at + into.length);
      this.loads.turn++;
      return true;
    }
    if (into.length > INLINE_READ_BYTES_MAX) return false;
    const ranges = this.rangesOf(into, offset, pinned);
    for (const range of ranges) {
      const leg = this.legAt(range.slot);
      if (!leg.member.tryReadv(range.parts, leg.dataOffset + range.offset)) return false;
    }
    this.noteRead(ranges);
    return true;
  }

  /** As Level.read. */
  read(into: Uint8Array, offset: number, pinned: boolean): Promise<UnreadBlock<L>[]> {
    const { chunkBytes } = this.geometry;
    const start = offset % chunkBytes;
    if (start + into.length <= chunkBytes) {
      const places = this.geometry.locate((offset - start) / chunkBytes);
      const { slot, offset: base } = this.choose(places, start, pinned);
      const range = { slot, offset: base + start, length: into.length, parts: [into] };
      this.loads.readTo(this.legAt(slot), range.offset + into.length);
      this.loads.turn++;
      return this.readRange(range, { into, offset });
    }
    const ranges = this.rangesOf(into, offset, pinned);
    this.noteRead(ranges);
    const request = { into, offset };
    return allRead(ranges.map((range) => this.readRange(range, request)));
  }

  /** Copies of the chunk that can be read, in the order in which sources are asked. */
  copiesOf(chunk: number): Copy<L>[] {
    return this.geometry
      .locate(chunk)
      .filter(({ slot }) => this.legs.inSyncAt(slot) !== null)
      .sort((a, b) => this.order.rankOf(a.slot) - this.order.rankOf(b.slot))
      .map(({ slot, offset }) => ({ leg: this.legAt(slot), offset }));
  }

  /** The place of the copy that pinned reads and syncs take. */
  sourceOf(places: readonly Extent[]): Extent {
    let best: Extent | undefined;
    let bestRank = Infinity;
    for (const place of places) {
      const rank = this.order.rankOf(place.slot);
      if (rank >= bestRank) continue;
      best = place;
      bestRank = rank;
    }
    return readable(best);
  }

  // ---- which copy

  /** `start`: where in the chunk the read starts. */
  private choose(places: readonly Extent[], start: number, pinned: boolean): Extent {
    return pinned ? this.sourceOf(places) : this.leastBusy(places, start);
  }

  /** A stream stays on its leg; other reads go to the least busy, in turn; write-mostly last. */
  private leastBusy(places: readonly Extent[], start: number): Extent {
    let best: Extent | undefined;
    let bestLoad = Infinity;
    for (let index = 0; index < places.length; index++) {
      const place = places[(this.loads.turn + index) % places.length]!;
      const leg = this.legs.inSyncAt(place.slot);
      if (leg === null) continue;
      if (this.loads.continues(leg, place.offset + start)) return place;
      const load = this.loads.of(leg);
      if (load >= bestLoad) continue;
      best = place;
      bestLoad = load;
    }
    return readable(best);
  }

  /** What is read of each slot: adjacent chunks of a member are one range. */
  private rangesOf(into: Uint8Array, offset: number, pinned: boolean): SlotRange[] {
    const { chunkBytes } = this.geometry;
    const ranges = new SlotRanges();
    /** By slot: where what is read of it ends so far. */
    const ends: number[] = [];
    let column = -1;
    for (let at = 0; at < into.length;) {
      const start = (offset + at) % chunkBytes;
      const places = this.geometry.locate((offset + at - start) / chunkBytes);
      const place =
        (pinned ? null : this.along(places, start, ends, column)) ??
        this.choose(places, start, pinned);
      column = places.indexOf(place);
      const part = into.subarray(at, at + chunkBytes - start);
      ranges.add(place.slot, place.offset + start, part);
      ends[place.slot] = place.offset + start + part.length;
      at += part.length;
    }
    return ranges.ranges.length > 1 ? mergeRanges(ranges.ranges) : ranges.ranges;
  }

  /**
   * The copy that goes well with those of the chunks before: behind one of them on its member, or
   * the same of the chunk's copies, since those fill rows. Null: there is none.
   */
  private along(
    places: readonly Extent[],
    start: number,
    ends: readonly number[],
    column: number,
  ): Extent | null {
    const adjacent = places.find(({ slot, offset }) => ends[slot] === offset + start);
    for (const place of [adjacent, places[column]]) {
      if (place === undefined) continue;
      const leg = this.legs.inSyncAt(place.slot);
      if (leg !== null && !leg.writeMostly) return place;
    }
    return null;
  }

  private noteRead(ranges: readonly SlotRange[]): void {
    for (const { slot, offset, length } of ranges) {
      this.loads.readTo(this.legAt(slot), offset + length);
    }
    this.loads.turn++;
  }

  // ---- reads that fail

  private readRange(range: SlotRange, request: Request): Promise<UnreadBlock<L>[]> {
    const leg = this.legAt(range.slot);
    return this.loads.during(leg, async () => {
      try {
        await leg.member.readv(range.parts, leg.dataOffset + range.offset);
        return [];
      } catch (error) {
        if (!(error instanceof MemberError)) throw error;
        const unread = await this.readBlocks(leg, range.parts, request);
        if (unread.length > 0) return unread;
        // It may have failed but for once: that counts too, and there is nothing to repair.
        const [part] = range.parts;
        return [{ leg, error, offset: offsetOf(part!, request), length: part!.length }];
      }
    });
  }

  /** Block by block, from the leg that was asked where it can. */
  private async readBlocks(
    asked: L,
    parts: readonly Uint8Array[],
    request: Request,
  ): Promise<UnreadBlock<L>[]> {
    const unread: UnreadBlock<L>[] = [];
    for (const part of parts) {
      const offset = offsetOf(part, request);
      for (let at = 0; at < part.length;) {
        const toBoundary = FALLBACK_BLOCK_BYTES - ((offset + at) % FALLBACK_BLOCK_BYTES);
        const block = part.subarray(at, at + toBoundary);
        unread.push(...(await this.readBlock(asked, block, offset + at)));
        at += block.length;
      }
    }
    return unread;
  }

  private async readBlock(asked: L, block: Uint8Array, offset: number): Promise<UnreadBlock<L>[]> {
    const { chunkBytes } = this.geometry;
    const start = offset % chunkBytes;
    const unread: UnreadBlock<L>[] = [];
    const copies = this.copiesOf((offset - start) / chunkBytes);
    const first = copies.filter(({ leg }) => leg === asked);
    const others = copies.filter(({ leg }) => leg !== asked);
    for (const copy of [...first, ...others]) {
      const { leg } = copy;
      try {
        await leg.member.read(block, leg.dataOffset + copy.offset + start);
        return unread;
      } catch (error) {
        if (!(error instanceof MemberError)) throw error;
        unread.push({ leg, error, offset, length: block.length });
      }
    }
    const last = unread.at(-1);
    assert(last !== undefined, READABLE);
    throw last.error;
  }

  private legAt(slot: number): L {
    const leg = this.legs.inSyncAt(slot);
    assert(leg !== null, READABLE);
    return leg;
  }
}

const READABLE = "an array that runs has a copy of every chunk in sync";

function readable(place: Extent | undefined): Extent {
  assert(place !== undefined, READABLE);
  return place;
}

/** Parts are views of the client's buffer: where they are in it tells what they are for. */
function offsetOf(part: Uint8Array, { into, offset }: Request): number {
  return offset + part.byteOffset - into.byteOffset;
}
