/**
 * What an array knows of how its bytes are stored: zeroes that the bitmap vouches for, holes that
 * members tell of (SEEK_DATA, SEEK_HOLE), and the states of regions. Offsets and lengths are bytes
 * of the array. Nothing here changes anything, and what is unknown counts as data.
 */
import type { Regions } from "../bitmap/regions.ts";
import type { State } from "../bitmap/transitions.ts";
import { MemberError, type Member } from "../member/member.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import type { Leg, Legs } from "../raid/level.ts";

export interface ExtentParts {
  readonly geometry: AnyGeometry;
  readonly legs: Pick<Legs<Leg>, "inSync" | "inSyncAt" | "writable">;
  readonly regions: Regions;
  /** Unwritten regions read as zeroes. */
  readonly knownZero: () => boolean;
}

/** See `Extent` of the wire's `BlockDevice`. */
interface StorageExtent {
  readonly length: number;
  readonly hole: boolean;
  readonly zero: boolean;
}

interface StateExtent {
  readonly length: number;
  readonly state: State;
}

/** One answer walks so many chunks or regions at most: it may end early, but not take long. */
const STEPS_MAX = 16_384;
/** What is looked at once on a member: a file that is one hole is not searched to its end. */
const LOOK_AHEAD_BYTES = 2 ** 30;
/** Shorter zeroes are as quickly written as punched. */
const FAST_ZERO_BYTES_MIN = 64 * 1024;

export class Extents {
  private readonly parts: ExtentParts;

  constructor(parts: ExtentParts) {
    this.parts = parts;
  }

  /**
   * Without any I/O: n > 0, the first n bytes of the range read as zeroes; -n, nothing is known of
   * the first n.
   */
  zeroesAt(offset: number, length: number): number {
    const { geometry, regions } = this.parts;
    if (!this.parts.knownZero()) return -length;
    const first = regions.at(geometry.trackedStart(offset, length));
    const last = regions.at(geometry.trackedEnd(offset, length) - 1);
    if (regions.everyUnwritten(first, last)) return length;
    if (first === last) return -length;
    const zero = this.isUnwritten(this.regionAt(offset));
    let run = 0;
    while (run < length && this.isUnwritten(this.regionAt(offset + run)) === zero) {
      run += this.sameRegion(offset + run, length - run);
    }
    return zero ? run : -run;
  }

  /** The states of the regions that hold the range, at most `max` extents of different states. */
  regionStates(offset: number, length: number, max: number): StateExtent[] {
    const { regions } = this.parts;
    const found = new Runs<StateExtent>(max, (a, b) => a.state === b.state);
    for (let run = 0, steps = 0; run < length && steps < STEPS_MAX; steps++) {
      const state = regions.state(this.regionAt(offset + run));
      const piece = this.sameRegion(offset + run, length - run);
      if (!found.add({ length: piece, state })) break;
      run += piece;
    }
    return found.list;
  }

  /**
   * Holes and data, at most `max` extents that differ. A hole is told only where zeroes are read
   * for sure: data that one member holds and another one lacks is data.
   */
  async extents(offset: number, length: number, max: number): Promise<StorageExtent[]> {
    const found = new Runs<StorageExtent>(max, (a, b) => a.zero === b.zero);
    const members = new Map<Member, MemberRuns>();
    for (let run = 0, steps = 0; run < length && steps < STEPS_MAX; steps++) {
      const piece = this.sameRegion(offset + run, length - run);
      const seen = await this.lookAt(offset + run, piece, members);
      if (!found.add({ length: Math.abs(seen), hole: seen > 0, zero: seen > 0 })) break;
      run += Math.abs(seen);
    }
    return found.list;
  }

  /**
   * True if zeroing so many bytes is sure to take less time than writing them: every member gives
   * space back at once. Stripes that are zeroed in part are written, those at both ends.
   */
  zeroesFast(length: number, allocate: boolean): boolean {
    const { geometry, legs } = this.parts;
    const edges = geometry.kind === "parity" ? 2 * geometry.stripeBytes : 0;
    if (allocate || length < FAST_ZERO_BYTES_MIN + edges) return false;
    return legs.writable.every(({ member }) => member.punchesFast);
  }

  /** Looks at members: n > 0 for n bytes that read as zeroes, -n for n bytes of data. */
  private async lookAt(
    offset: number,
    length: number,
    members: Map<Member, MemberRuns>,
  ): Promise<number> {
    const { regions } = this.parts;
    const region = this.regionAt(offset);
    if (this.parts.knownZero() && this.isUnwritten(region)) return length;
    // Where copies may differ, which one is read is not for here to know: all must be holes.
    const pinned = regions.anyPinned(region, region);
    let zeroes = 0;
    let bytes = length;
    const copies = copiesOf(this.parts, offset, length);
    for (const copy of copies) {
      const runs = members.get(copy.member) ?? new MemberRuns(copy.member);
      members.set(copy.member, runs);
      const known = runs.at(copy.offset);
      const run = typeof known === "number" ? known : await known;
      const here = Math.min(Math.abs(run), copy.length);
      if (run > 0 && !pinned) return here;
      bytes = Math.min(bytes, here);
      if (run > 0) zeroes++;
    }
    // A chunk that is on no member in sync is worked out from others: not here.
    return zeroes > 0 && zeroes === copies.length ? bytes : -bytes;
  }

  private regionAt(offset: number): number {
    return this.parts.regions.at(this.parts.geometry.trackedStart(offset, 1));
  }

  private isUnwritten(region: number): boolean {
    return this.parts.regions.everyUnwritten(region, region);
  }

  /** How many bytes from `offset` on, `limit` at most, lie in its region and are contiguous in it. */
  private sameRegion(offset: number, limit: number): number {
    const { geometry, regions } = this.parts;
    const { regionBytes } = regions;
    const tracked = geometry.trackedStart(offset, 1);
    const inRegion = regionBytes - (tracked % regionBytes);
    if (geometry.kind !== "parity") return Math.min(limit, inRegion);
    const { chunkBytes, stripeBytes } = geometry;
    if (regionBytes % chunkBytes !== 0) {
      return Math.min(limit, inRegion, chunkBytes - (offset % chunkBytes));
    }
    // The region holds whole stripes, which follow one another in the array.
    const stripes = (Math.floor(tracked / regionBytes) + 1) * (regionBytes / chunkBytes);
    return Math.min(limit, stripes * stripeBytes - offset);
  }
}

/** Extents in a row; those that are alike become one. */
class Runs<E extends { readonly length: number }> {
  readonly list: E[] = [];
  private readonly max: number;
  private readonly alike: (a: E, b: E) => boolean;

  constructor(max: number, alike: (a: E, b: E) => boolean) {
    this.max = max;
    this.alike = alike;
  }

  /** False if there is no room for another. */
  add(extent: E): boolean {
    const last = this.list.at(-1);
    if (last !== undefined && this.alike(last, extent)) {
      this.list[this.list.length - 1] = { ...last, length: last.length + extent.length };
      return true;
    }
    if (this.list.length === this.max) return false;
    this.list.push(extent);
    return true;
  }
}

/** What one member told last: neighbouring ranges mostly lie in the same run. */
class MemberRuns {
  private readonly member: Member;
  private start = 0;
  private end = 0;
  private data = true;

  constructor(member: Member) {
    this.member = member;
  }

  /** n > 0: a hole goes on for n bytes; -n: data does. Offsets of the member. */
  at(offset: number): number | Promise<number> {
    return offset >= this.start && offset < this.end ? this.known(offset) : this.ask(offset);
  }

  private known(offset: number): number {
    return this.data ? offset - this.end : this.end - offset;
  }

  private async ask(offset: number): Promise<number> {
    const { member } = this;
    const limit = Math.min(member.sizeBytes, offset + LOOK_AHEAD_BYTES);
    this.start = offset;
    try {
      const data = (await member.nextData(offset, limit)) ?? limit;
      this.data = data === offset;
      this.end = this.data ? await member.nextHole(offset, limit) : data;
    } catch (error) {
      if (!(error instanceof MemberError)) throw error;
      this.data = true;
      this.end = limit;
    }
    return this.known(offset);
  }
}

/** A member in sync that the bytes may be read from, and where they lie on it. */
interface Copy {
  readonly member: Member;
  readonly offset: number;
  readonly length: number;
}

/** All copies on levels 1 and 10, else the only one; none is longer than asked. */
function copiesOf(
  { geometry, legs }: Pick<ExtentParts, "geometry" | "legs">,
  offset: number,
  length: number,
): Copy[] {
  const copyOf = (leg: Leg | null, at: number, contiguous: number): Copy[] =>
    leg === null
      ? []
      : [{ member: leg.member, offset: leg.dataOffset + at, length: Math.min(contiguous, length) }];
  switch (geometry.kind) {
    case "mirror":
      return legs.inSync.flatMap((leg) => copyOf(leg, offset, length));
    case "striping": {
      const place = geometry.locate(offset);
      return copyOf(legs.inSyncAt(place.slot), place.offset, place.length);
    }
    case "copies": {
      const within = offset % geometry.chunkBytes;
      return geometry
        .locate(Math.floor(offset / geometry.chunkBytes))
        .flatMap(({ slot, offset: at, length: bytes }) =>
          copyOf(legs.inSyncAt(slot), at + within, bytes - within),
        );
    }
    case "parity": {
      const { chunkBytes, stripeBytes } = geometry;
      const stripe = Math.floor(offset / stripeBytes);
      const slot = geometry.stripe(stripe).data[Math.floor((offset % stripeBytes) / chunkBytes)];
      const within = offset % chunkBytes;
      const leg = slot === undefined ? null : legs.inSyncAt(slot);
      return copyOf(leg, stripe * chunkBytes + within, chunkBytes - within);
    }
  }
}
