/**
 * What an array knows of how its bytes are stored: zeroes that the bitmap vouches for, holes that
 * members tell of (SEEK_DATA, SEEK_HOLE), and the states of regions. Offsets and lengths are bytes
 * of the array. Nothing here changes anything, and what is unknown counts as data.
 */
import type { Regions } from "../bitmap/regions.ts";
import { State } from "../bitmap/transitions.ts";
import { MemberError, type Member } from "../member/member.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import type { Leg, Legs } from "../raid/level.ts";
import { Turns } from "./turns.ts";

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

/** One answer takes so many steps at most: it may end early, but not take long. */
const STEPS_MAX = 16_384;
/** So many steps are taken in one turn of the event loop. */
const SLICE_STEPS = 512;
/** Asking a member takes as long as so many steps. */
const ASK_STEPS = 8;
/** Regions that are alike are passed in one go: so many at most, and so many in the time of a step. */
const RUN_REGIONS_MAX = 2 ** 14;
const REGIONS_PER_STEP = 128;
/** `regionStates` cannot pause: it passes so many regions at most. */
const STATES_REGIONS_MAX = 2 ** 17;
/** What is looked at once on a member: a file that is one hole is not searched to its end. */
const LOOK_AHEAD_BYTES = 2 ** 30;
/** What a member tells is not finer than this. */
const SECTOR_BYTES = 512;
/** Shorter zeroes are as quickly written as punched. */
const FAST_ZERO_BYTES_MIN = 64 * 1024;

/** A number for each state, as `Regions.runEnd` takes them: each is a kind of its own... */
const EACH_STATE = Object.values(State).toSorted((a, b) => a - b);
/** ...or those alike where reads may be made of the same copies; Unwritten reads as zeroes. */
const READ_ALIKE = EACH_STATE.map((state) => (state >= State.NeedSync ? State.NeedSync : state));
const UNWRITTEN_OR_NOT = EACH_STATE.map((state) => (state === State.Unwritten ? 1 : 0));

export class Extents {
  private readonly parts: ExtentParts;
  private readonly turns: Turns;

  constructor(parts: ExtentParts, turns = new Turns()) {
    this.parts = parts;
    this.turns = turns;
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
      run += this.alike(offset + run, length - run, UNWRITTEN_OR_NOT);
    }
    return zero ? run : -run;
  }

  /** The states of the regions that hold the range, at most `max` extents of different states. */
  regionStates(offset: number, length: number, max: number): StateExtent[] {
    const { regions } = this.parts;
    const found = new Runs<StateExtent>(max, (a, b) => a.state === b.state);
    const first = this.regionAt(offset);
    for (let run = 0, steps = 0; run < length && steps < STEPS_MAX; steps++) {
      const region = this.regionAt(offset + run);
      if (region - first > STATES_REGIONS_MAX) break;
      const state = regions.state(region);
      const piece = this.alike(offset + run, length - run, EACH_STATE);
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
    const { regionBytes } = this.parts.regions;
    if (this.turns.busy) await this.turns.next();
    let slice = 0;
    let alikeEnd = 0;
    for (let run = 0, steps = 0; run < length && steps < STEPS_MAX; steps++, slice++) {
      if (slice >= SLICE_STEPS) {
        slice = 0;
        await this.turns.next();
      }
      const at = offset + run;
      if (run >= alikeEnd) {
        const bytes = this.alike(at, length - run, READ_ALIKE);
        alikeEnd = run + bytes;
        slice += Math.floor(bytes / regionBytes / REGIONS_PER_STEP);
      }
      let seen = this.lookAt(at, alikeEnd - run, members);
      for (; typeof seen !== "number"; seen = this.lookAt(at, alikeEnd - run, members)) {
        await seen;
        slice += ASK_STEPS;
      }
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

  /**
   * n > 0 for n bytes that read as zeroes, -n for n bytes of data. A promise: a member is asked, and
   * when it has answered is the time to look again. The regions of the range are alike.
   */
  private lookAt(
    offset: number,
    length: number,
    members: Map<Member, MemberRuns>,
  ): number | Promise<void> {
    const { regions } = this.parts;
    const region = this.regionAt(offset);
    if (this.parts.knownZero() && this.isUnwritten(region)) return length;
    // Where copies may differ, which one is read is not for here to know: all must be holes.
    const pinned = regions.anyPinned(region, region);
    let zeroes = 0;
    let bytes = length;
    const copies = copiesOf(this.parts, offset, length);
    for (const copy of copies) {
      let runs = members.get(copy.member);
      if (runs === undefined) members.set(copy.member, (runs = new MemberRuns(copy.member)));
      const run = runs.at(copy.offset);
      if (typeof run !== "number") return run;
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

  /**
   * How many bytes from `offset` on, `limit` at most, are contiguous in regions of one kind. It may
   * be less than there are: a caller asks again behind them.
   */
  private alike(offset: number, limit: number, kinds: readonly number[]): number {
    const { geometry, regions } = this.parts;
    const { regionBytes } = regions;
    const tracked = geometry.trackedStart(offset, 1);
    if (geometry.kind === "parity" && regionBytes % geometry.chunkBytes !== 0) {
      const { chunkBytes } = geometry;
      const inRegion = regionBytes - (tracked % regionBytes);
      return Math.min(limit, inRegion, chunkBytes - (offset % chunkBytes));
    }
    const first = regions.at(tracked);
    const last = regions.at(geometry.trackedEnd(offset, limit) - 1);
    const end = regions.runEnd(first, Math.min(last + 1, first + RUN_REGIONS_MAX), kinds);
    if (geometry.kind !== "parity") return Math.min(limit, end * regionBytes - offset);
    // Regions hold whole stripes, which follow one another in the array.
    const stripes = end * (regionBytes / geometry.chunkBytes);
    return Math.min(limit, stripes * geometry.stripeBytes - offset);
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

  /** n > 0: a hole goes on for n bytes; -n: data does; else it is asked. Offsets of the member. */
  at(offset: number): number | Promise<void> {
    if (offset < this.start || offset >= this.end) return this.ask(offset);
    return this.data ? offset - this.end : this.end - offset;
  }

  private async ask(offset: number): Promise<void> {
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
    if (this.end > offset) return;
    // What is asked for changes meanwhile, or is beyond its end: it is data for as long as it takes.
    this.data = true;
    this.end = offset + SECTOR_BYTES;
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
