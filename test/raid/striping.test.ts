/**
 * Levels 0 and linear by themselves, over simulated disks: held against a plain array of bytes and
 * the obvious placement, byte by byte.
 */
import { describe, expect, test } from "vitest";
import { MemberError } from "../../src/member/member.ts";
import type { ArrayShape, StripingGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { Striping } from "../../src/raid/striping.ts";
import { seedsToRun } from "../sim/seeds.ts";
import { BLOCK, expectSame, LevelBench, noise, randomRound, slotsOf } from "./level-bench.ts";

const CHUNK = BLOCK;
const SECTOR = 512;
const MIB = 1024 * 1024;

/** `sizes`: by slot, bytes of the data area. */
function shape(level: number, sizes: readonly number[], layout = 1, chunkBytes = CHUNK) {
  const raidDisks = sizes.length;
  return { level, layout, chunkBytes, raidDisks, componentBytes: 0, dataBytes: sizes };
}

const striping = (of: ArrayShape): StripingGeometry => geometryOf(of) as StripingGeometry;

function benchOf(of: ArrayShape, seed = 1, inline?: (world: LevelBench["world"]) => boolean) {
  const geometry = striping(of);
  return new LevelBench(seed, of, (legs) => new Striping(geometry, legs), inline);
}

/** The data areas of all members, each sector put where the geometry says. */
function imagesOf(of: ArrayShape, bytes: Buffer): Buffer[] {
  const geometry = striping(of);
  const images = of.dataBytes.map((length) => Buffer.alloc(Math.ceil(length / 512) * 512));
  for (let at = 0; at < bytes.length; at += SECTOR) {
    const { slot, offset } = geometry.locate(at);
    images[slot]!.set(bytes.subarray(at, at + SECTOR), offset);
  }
  return images;
}

const SHAPES: readonly (readonly [string, ArrayShape])[] = [
  [
    "level 0",
    shape(
      0,
      [12, 12, 12].map((chunks) => chunks * CHUNK),
    ),
  ],
  ["level 0 of one member", shape(0, [9 * CHUNK])],
  [
    "level 0 of unequal members, original layout",
    shape(
      0,
      [5, 13, 9, 13].map((n) => n * CHUNK),
    ),
  ],
  [
    "level 0 of unequal members, alternate layout",
    shape(
      0,
      [4, 13, 9, 13].map((n) => n * CHUNK + 700),
      2,
    ),
  ],
  [
    "level 0, chunks of 12 KiB",
    shape(
      0,
      [7, 5, 7].map((n) => n * 3 * CHUNK),
      1,
      3 * CHUNK,
    ),
  ],
  ["linear", shape(-1, [40_448, 512, 70_144], 0, 0)],
  ["linear, rounded to chunks", shape(-1, [40_448, 8_192, 70_144], 0, 8192)],
];

describe.each(SHAPES)("%s", (_name, of) => {
  test.each(seedsToRun({ short: 3, long: 100 }))(
    "is as a plain array of bytes, and lies where it should: NBD_RAID_SEED=%i",
    async (seed) => {
      const bench = benchOf(of, seed, (world) => world.chance(0.6));
      const model = Buffer.alloc(striping(of).sizeBytes);
      const lengthMax = bench.world.pick([3000, 40_000, model.length]);
      for (let round = 0; round < 15; round++) await randomRound(bench, model, lengthMax);
      expectSame(await bench.run(bench.read(0, model.length)), model, "everything");
      for (const [slot, image] of imagesOf(of, model).entries()) {
        expectSame(bench.image(slot), image, `slot ${slot}`);
      }
    },
  );
});

describe("level 0", () => {
  const three = shape(
    0,
    [12, 12, 12].map((chunks) => chunks * CHUNK),
  );
  const row = 3 * CHUNK;

  test("asks each member once, whatever chunks a read or write spans", async () => {
    const bench = benchOf(three);
    // 500 bytes of chunk 0, then twelve chunks, then 500 bytes of chunk 13.
    const bytes = noise(bench.world, 4 * row + 1000);
    const ranges = [`${CHUNK - 500}+${4 * CHUNK + 500}`, `0+${4 * CHUNK + 500}`, `0+${4 * CHUNK}`];
    await bench.run(bench.write(bytes, CHUNK - 500));
    expect(bench.calls()).toEqual(ranges.map((range, slot) => `${slot} write ${range}`));
    expectSame(await bench.run(bench.read(CHUNK - 500, bytes.length)), bytes, "read back");
    expect(bench.calls()).toEqual(ranges.map((range, slot) => `${slot} read ${range}`));
  });

  test("asks at once, each member once, where that does not block", () => {
    const bench = benchOf(three, 1, () => true);
    const bytes = noise(bench.world, 2 * row);
    expect(bench.level.writesInline(0, bytes.length)).toBe(true);
    expect(bench.level.tryWrite(bytes, 0)).toBe(true);
    const into = Buffer.alloc(bytes.length);
    expect(bench.level.tryRead(into, 0, false)).toBe(true);
    expectSame(into, bytes, "read back");
    expect(bench.calls()).toEqual(
      [0, 1, 2].flatMap((slot) => [`${slot} read 0+8192`, `${slot} write 0+8192`]),
    );
    const single = bytes.subarray(0, 700);
    expect(bench.level.tryRead(into.subarray(0, 700), CHUNK + 5, false)).toBe(true);
    expect(bench.level.tryWrite(single, CHUNK + 5)).toBe(true);
    expect(bench.calls()).toEqual(["1 read 5+700", "1 write 5+700"]);
  });

  test("leaves long copies over several members to threads, one to each member", () => {
    const big = shape(0, [4 * MIB, 4 * MIB], 1, 512 * 1024);
    const { level } = benchOf(big, 1, () => true);
    expect(level.writesInline(0, 512 * 1024)).toBe(true);
    expect(level.writesInline(256 * 1024, 512 * 1024)).toBe(false);
    expect(level.tryRead(new Uint8Array(2 * MIB), 0, false)).toBe(false);
    expect(level.tryRead(new Uint8Array(MIB), 0, false)).toBe(true);
  });

  test.each(["punch", "zero", "prefetch"] as const)("makes one %s a member", async (kind) => {
    const asked: string[] = [];
    const of = shape(0, [2 ** 40, 2 ** 40, 2 ** 40]);
    const bench = benchOf(three);
    const level = new Striping(striping(of), bench.legs);
    for (const { slot, member } of bench.legs.all) {
      member[kind] = (offset, length) => {
        asked.push(`${slot} ${offset - bench.leg(0).dataOffset}+${length}`);
        return Promise.resolve();
      };
    }
    await level[kind](CHUNK, 3 * 2 ** 39);
    expect(asked).toEqual([`0 ${CHUNK}+${2 ** 39}`, `1 0+${2 ** 39}`, `2 0+${2 ** 39}`]);
    asked.length = 0;
    await level[kind](row + CHUNK + 10, 20);
    expect(asked).toEqual([`1 ${CHUNK + 10}+20`]);
  });

  test("syncs every member", async () => {
    const bench = benchOf(three);
    expect(await bench.run(bench.level.sync())).toEqual([]);
    expect(bench.calls()).toEqual(["0 sync", "1 sync", "2 sync"]);
    expect(bench.level.syncsInline).toBe(false);
  });
});

describe("a member that fails", () => {
  const three = shape(
    0,
    [12, 12, 12].map((chunks) => chunks * CHUNK),
  );

  test("fails the reads that need it, and no others", async () => {
    const bench = benchOf(three);
    bench.leg(1).member.bad.add(0);
    const read = (offset: number, length: number) =>
      bench.run(bench.level.read(Buffer.alloc(length), offset, false));
    await expect(read(CHUNK, 10)).rejects.toThrow(MemberError);
    await expect(read(0, 3 * CHUNK)).rejects.toThrow("/1: read failed: flawed");
    expect(await read(0, CHUNK)).toEqual([]);
    expect(await read(3 * CHUNK, 3 * CHUNK)).toEqual([]);
    expect(await bench.run(bench.level.repair(bench.leg(1), CHUNK, CHUNK))).toEqual([]);
  });

  test("fails a read only when nobody fills the buffer any more", async () => {
    for (let seed = 0; seed < 20; seed++) {
      const bench = benchOf(three, seed);
      bench.leg(1).member.failOperation({ nth: 1 });
      const into = Buffer.alloc(3 * CHUNK, 1);
      await expect(bench.run(bench.level.read(into, 0, false))).rejects.toThrow(MemberError);
      expect(bench.trace.operations.every(({ ended }) => ended < Infinity)).toBe(true);
      expect(bench.calls()).toHaveLength(3);
    }
  });

  test("is named by a write, which the others take", async () => {
    const bench = benchOf(three);
    bench.leg(0).member.failOperation({ nth: 1, code: "ENOSPC" });
    bench.leg(2).member.failOperation({ nth: 1 });
    const failures = await bench.run(bench.level.write(noise(bench.world, 6 * CHUNK), 0));
    expect(slotsOf(failures)).toEqual([0, 2]);
    expect(failures.map(({ error }) => error.noSpace)).toEqual([true, false]);
    expect(
      bench
        .image(1)
        .subarray(0, 2 * CHUNK)
        .every((byte) => byte === 0),
    ).toBe(false);
  });

  test("is named by holes and syncs, too", async () => {
    const bench = benchOf(three);
    for (const kind of ["punch", "zero", "sync"] as const) {
      bench.leg(1).member.failOperation({ nth: 1, kind });
      expect(slotsOf(await bench.run(bench.level[kind](0, 3 * CHUNK)))).toEqual([1]);
    }
  });

  test("makes a write at once fail half way, and the write is made again in full", async () => {
    const bench = benchOf(three, 1, () => true);
    const bytes = noise(bench.world, 3 * CHUNK);
    bench.leg(1).member.failOperation({ nth: 1 });
    expect(bench.level.tryWrite(bytes, 0)).toBe(false);
    expect(slotsOf(await bench.run(bench.level.write(bytes, 0)))).toEqual([1]);
    expect(await bench.run(bench.level.write(bytes, 0))).toEqual([]);
    expectSame(await bench.run(bench.read(0, bytes.length)), bytes, "read back");
  });

  test("is not blamed for a bug", async () => {
    const bench = benchOf(three);
    bench.leg(1).member.writev = () => Promise.reject(new TypeError("bug"));
    await expect(bench.run(bench.level.write(Buffer.alloc(3 * CHUNK), 0))).rejects.toThrow("bug");
  });

  test("is missed where every member is needed", () => {
    const bench = benchOf(three);
    bench.legs.set(1, "gone");
    expect(() => bench.level.tryRead(Buffer.alloc(10), CHUNK, false)).toThrow("invariant");
    expect(() => bench.level.writesInline(CHUNK, 10)).toThrow("invariant");
  });
});
