/**
 * What an array tells of its storage, on every kind of level: sparse members are made by the
 * independent writer of arrays, and each sector is compared with the bytes that they hold.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Extents } from "../../src/array/extents.ts";
import { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { MemberError, type Member } from "../../src/member/member.ts";
import type { ArrayShape } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import type { Leg } from "../../src/raid/level.ts";
import { MIB, shapeOf } from "../raid/geometry/shapes.ts";
import { writeImages } from "../raid/oracle.ts";

const SECTOR = 512;
const CHUNK = 4096;
const DATA_OFFSET = 8192;

const SHAPES: [what: string, shape: ArrayShape][] = [
  ["level 1", shapeOf(1, 0, 3, { chunkBytes: 0, componentBytes: 12 * CHUNK })],
  ["level 0", shapeOf(0, 2, 3)],
  ["linear", shapeOf(-1, 0, 3)],
  ["level 10, near", shapeOf(10, 0x102, 4)],
  ["level 10, far", shapeOf(10, 0x201, 3)],
  ["level 4", shapeOf(4, 0, 4)],
  ["level 5", shapeOf(5, 2, 4)],
  ["level 6", shapeOf(6, 2, 5)],
];

/** An array of members in memory; what a member does not need for its holes it has not. */
class World {
  readonly geometry;
  readonly regions: Regions;
  readonly extents: Extents;
  readonly images: Buffer[];
  readonly bytes: Buffer;
  readonly lost = new Set<number>();
  knownZero = false;
  /** How often a member was asked. */
  asked = 0;
  broken = false;
  /** Slots whose members make no holes. */
  readonly withoutHoles = new Set<number>();

  constructor(shape: ArrayShape, regionBytes: number, bytes: Buffer) {
    this.geometry = geometryOf(shape);
    this.bytes = bytes;
    this.images = writeImages(shape, bytes);
    this.regions = Regions.create(this.geometry.trackedBytes, regionBytes);
    this.setAll(State.Clean);
    const legs: Leg[] = this.images.map((image, slot) => ({
      member: this.member(image, slot),
      dataOffset: DATA_OFFSET,
      slot,
      writeMostly: false,
    }));
    const there = () => legs.filter(({ slot }) => !this.lost.has(slot ?? -1));
    this.extents = new Extents({
      geometry: this.geometry,
      regions: this.regions,
      knownZero: () => this.knownZero,
      legs: {
        inSyncAt: (slot) => there().find((leg) => leg.slot === slot) ?? null,
        get inSync() {
          return there();
        },
        get writable() {
          return there();
        },
      },
    });
  }

  setAll(state: State): void {
    for (let region = 0; region < this.regions.count; region++) this.regions.force(region, state);
  }

  regionAt(offset: number): number {
    return this.regions.at(this.geometry.trackedStart(offset, 1));
  }

  /** Of the sector that holds the offset. */
  isZero(offset: number): boolean {
    const start = Math.floor(offset / SECTOR) * SECTOR;
    return this.bytes.subarray(start, start + SECTOR).every((byte) => byte === 0);
  }

  private member(image: Buffer, slot: number): Member {
    const seek = async (from: number, end: number, zero: boolean): Promise<number> => {
      this.asked++;
      await Promise.resolve();
      if (this.broken) throw new MemberError("/images/x", "seek", "broken");
      for (let at = from; at < end; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
        const start = Math.floor(at / SECTOR) * SECTOR - DATA_OFFSET;
        const sector = image.subarray(Math.max(0, start), start + SECTOR);
        if (sector.every((byte) => byte === 0) === zero) return at;
      }
      return end;
    };
    const { withoutHoles } = this;
    const member: Partial<Member> = {
      sizeBytes: DATA_OFFSET + image.length,
      get punchesFast() {
        return !withoutHoles.has(slot);
      },
      nextData: async (from, end) => {
        const found = await seek(from, end, false);
        return found === end ? null : found;
      },
      nextHole: (from, end) => seek(from, end, true),
    };
    return member as Member;
  }
}

/** Bytes of an array in which each run of sectors is data or zeroes. */
function sparseBytes(sizeBytes: number, runs: readonly number[]): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let at = 0;
  for (const [i, run] of runs.entries()) {
    const end = Math.min(sizeBytes, at + run * SECTOR);
    for (let k = at; i % 2 === 0 && k < end; k++) bytes[k] = 1 + (k % 251);
    at = end;
  }
  return bytes;
}

const runs = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 20 });
const regionBytes = fc.constantFrom(2048, 4096, 16_384);
/** Fractions of the array: where a range starts, and how long it is. */
const range = fc.tuple(fc.nat(1000), fc.nat(1000));

function rangeOf(world: World, [from, share]: readonly [number, number]): [number, number] {
  const { sizeBytes } = world.geometry;
  const offset = Math.floor(((sizeBytes - 1) * from) / 1000);
  return [offset, 1 + Math.floor(((sizeBytes - offset - 1) * share) / 1000)];
}

/** An offset in each sector of the range, and the extent that holds it. */
function* sectorwise<E extends { length: number }>(offset: number, extents: readonly E[]) {
  let start = offset;
  for (const extent of extents) {
    const end = start + extent.length;
    for (let at = start; at < end; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
      yield [at, extent] as const;
    }
    start = end;
  }
}

function total(extents: readonly { length: number }[]): number {
  return extents.reduce((sum, { length }) => sum + length, 0);
}

describe.each(SHAPES)("%s", (_, shape) => {
  const { sizeBytes } = geometryOf(shape);

  it("tells every sector of zeroes as a hole, and nothing else", async () => {
    await fc.assert(
      fc.asyncProperty(runs, regionBytes, range, async (lengths, regionBytes, where) => {
        const world = new World(shape, regionBytes, sparseBytes(sizeBytes, lengths));
        const [offset, length] = rangeOf(world, where);
        const extents = await world.extents.extents(offset, length, 10_000);
        expect(total(extents)).toBe(length);
        expect(extents.every(({ hole, zero }) => hole === zero)).toBe(true);
        for (const [at, { zero }] of sectorwise(offset, extents)) {
          expect(zero).toBe(world.isZero(at));
        }
        extents.slice(1).forEach((next, i) => expect(next.zero).not.toBe(extents[i]?.zero));
      }),
      { numRuns: 40 },
    );
  });

  it("with members lost, or regions that are pinned, still tells no data as a hole", async () => {
    const slots = fc.uniqueArray(fc.nat(shape.raidDisks - 1), { maxLength: shape.raidDisks - 1 });
    await fc.assert(
      fc.asyncProperty(runs, slots, fc.boolean(), async (lengths, lost, pinned) => {
        const world = new World(shape, 4096, sparseBytes(sizeBytes, lengths));
        for (const slot of lost) world.lost.add(slot);
        if (pinned) world.setAll(State.NeedSync);
        const extents = await world.extents.extents(0, sizeBytes, 10_000);
        expect(total(extents)).toBe(sizeBytes);
        for (const [at, { zero }] of sectorwise(0, extents)) {
          if (zero) expect(world.isZero(at)).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("tells at most as many extents as asked for, from the front", async () => {
    const world = new World(shape, 4096, sparseBytes(sizeBytes, Array<number>(30).fill(3)));
    const all = await world.extents.extents(100, sizeBytes - 100, 1000);
    for (const max of [1, 2, 5]) {
      expect(await world.extents.extents(100, sizeBytes - 100, max)).toEqual(all.slice(0, max));
    }
  });

  it("knows Unwritten regions as holes without asking a member", async () => {
    const world = new World(shape, 4096, sparseBytes(sizeBytes, [1000]));
    world.setAll(State.Unwritten);
    world.knownZero = true;
    const extents = await world.extents.extents(0, sizeBytes, 10);
    expect(extents).toEqual([{ length: sizeBytes, hole: true, zero: true }]);
    expect(world.asked).toBe(0);
    world.knownZero = false;
    expect((await world.extents.extents(0, sizeBytes, 10))[0]?.hole).toBe(false);
  });

  it("takes what a member cannot tell for data", async () => {
    const world = new World(shape, 4096, Buffer.alloc(sizeBytes));
    world.broken = true;
    const extents = await world.extents.extents(0, sizeBytes, 10);
    expect(extents).toEqual([{ length: sizeBytes, hole: false, zero: false }]);
  });

  it("tells the state of each byte's region, and zeroes of the Unwritten ones", () => {
    const states = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(states, regionBytes, range, (states, regionBytes, where) => {
        const world = new World(shape, regionBytes, Buffer.alloc(sizeBytes));
        const { regions } = world;
        for (let i = 0; i < regions.count; i++) {
          regions.force(i, states[i % states.length] as State);
        }
        const [offset, length] = rangeOf(world, where);
        const found = world.extents.regionStates(offset, length, 10_000);
        expect(total(found)).toBe(length);
        for (const [at, { state }] of sectorwise(offset, found)) {
          expect(state).toBe(regions.state(world.regionAt(at)));
        }
        found.slice(1).forEach((next, i) => expect(next.state).not.toBe(found[i]?.state));

        expect(world.extents.zeroesAt(offset, length)).toBe(-length);
        world.knownZero = true;
        for (let at = offset; at < offset + length;) {
          const run = world.extents.zeroesAt(at, offset + length - at);
          for (const [place] of sectorwise(at, [{ length: Math.abs(run) }])) {
            expect(regions.state(world.regionAt(place)) === State.Unwritten).toBe(run > 0);
          }
          expect(run).not.toBe(0);
          at += Math.abs(run);
          expect(at).toBeLessThanOrEqual(offset + length);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("copies that differ where a resync is due", () => {
  it.each([
    ["level 1", shapeOf(1, 0, 2, { chunkBytes: 0, componentBytes: 12 * CHUNK })],
    ["level 10", shapeOf(10, 0x102, 2)],
  ])("are no hole unless all of them are: %s", async (_, shape) => {
    const { sizeBytes } = geometryOf(shape);
    const world = new World(shape, 4096, sparseBytes(sizeBytes, [8]));
    world.images[1]?.fill(0, 0, 4096);
    expect((await world.extents.extents(0, sizeBytes, 10))[0]?.zero).toBe(true);
    world.regions.force(0, State.NeedSync);
    const extents = await world.extents.extents(0, sizeBytes, 10);
    expect(extents[0]).toEqual({ length: 4096, hole: false, zero: false });
  });
});

describe("an array of a hundred thousand regions", () => {
  const GIB = 2 ** 30;

  /** Members that hold data everywhere, and say so at once. */
  function large(shape: ArrayShape) {
    const geometry = geometryOf(shape);
    const regions = Regions.create(geometry.trackedBytes, 2 * MIB);
    const member: Partial<Member> = {
      sizeBytes: 1000 * GIB,
      nextData: (from) => Promise.resolve(from),
      nextHole: (_, end) => Promise.resolve(end),
    };
    const legs: Leg[] = Array.from({ length: shape.raidDisks }, (_, slot) => ({
      member: member as Member,
      dataOffset: 0,
      slot,
      writeMostly: false,
    }));
    const extents = new Extents({
      geometry,
      regions,
      knownZero: () => true,
      legs: { inSync: legs, writable: legs, inSyncAt: (slot) => legs[slot] ?? null },
    });
    return { extents, regions, sizeBytes: geometry.sizeBytes };
  }
  const mirror = shapeOf(1, 0, 2, { chunkBytes: 0, componentBytes: 200 * GIB });
  const striped = shapeOf(5, 2, 3, { chunkBytes: 65_536, componentBytes: 100 * GIB });

  it.each([
    ["level 1", mirror],
    ["level 5", striped],
  ])("that are all Unwritten is told as one hole: %s", async (_, shape) => {
    const { extents, sizeBytes } = large(shape);
    expect(await extents.extents(0, sizeBytes, 4096)).toEqual([
      { length: sizeBytes, hole: true, zero: true },
    ]);
    expect(extents.regionStates(0, sizeBytes, 4096)).toEqual([{ length: sizeBytes, state: 0 }]);
  });

  it("gives others their turn while many clients ask, one slice in each", async () => {
    const { extents, regions, sizeBytes } = large(striped);
    for (let i = 0; i < regions.count; i++) regions.force(i, State.Clean);
    let turns = 0;
    let done = false;
    const count = (): void => {
      turns++;
      if (!done) setImmediate(count);
    };
    setImmediate(count);
    const walks = Array.from({ length: 20 }, () => extents.extents(0, sizeBytes, 4096));
    const found = await Promise.all(walks);
    done = true;
    // 16,384 steps each, 512 of them in a turn.
    expect(turns).toBeGreaterThan(20 * 30);
    for (const [first, ...others] of found) {
      expect(others).toEqual([]);
      expect(first).toEqual({ length: 16_384 * 65_536, hole: false, zero: false });
    }
  });
});

describe("zeroes are fast", () => {
  const KIB = 1024;
  const cases: [what: string, shape: ArrayShape, length: number, fast: boolean][] = [
    ["a long range of copies", SHAPES[0]![1], 64 * KIB, true],
    ["a short range", SHAPES[0]![1], 64 * KIB - 1, false],
    ["whole stripes with parity", shapeOf(5, 2, 4), 64 * KIB + 6 * CHUNK, true],
    ["mostly parts of stripes", shapeOf(5, 2, 4), 64 * KIB + 6 * CHUNK - 1, false],
  ];
  it.each(cases)("%s of members that make holes", (_, shape, length, fast) => {
    const world = new World(shape, 4096, Buffer.alloc(geometryOf(shape).sizeBytes));
    expect(world.extents.zeroesFast(length, false)).toBe(fast);
  });

  it("never where space has to stay, or one member makes no holes", () => {
    const world = new World(SHAPES[0]![1], 4096, Buffer.alloc(12 * CHUNK));
    expect(world.extents.zeroesFast(MIB, true)).toBe(false);
    world.withoutHoles.add(1);
    expect(world.extents.zeroesFast(MIB, false)).toBe(false);
  });
});
