/**
 * Arrays of every level are made of real files; superblocks and bitmaps are read back with the
 * codecs, which have tests of their own, and sizes are compared with what md makes of them.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, test } from "vitest";
import { checkAssembly } from "../../src/array/check-assembly.ts";
import { type CreatedArray, createArray } from "../../src/array/create.ts";
import type { CreateRequest } from "../../src/array/create-request.ts";
import { readHeaders } from "../../src/array/headers.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { FileMember } from "../../src/member/file.ts";
import type { BitmapSuperblock } from "../../src/metadata/bitmap-superblock.ts";
import { knownZeroRecordValid } from "../../src/metadata/known-zero.ts";
import { ROLE_FAULTY, ROLE_SPARE, type Superblock } from "../../src/metadata/superblock.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { KiB, makeImage, MiB, readAt, snapshot, writeAt } from "./images.ts";

const STATES = 8192 + 1024;
const SIZE = 8 * MiB;
const CHUNK = 512 * KiB;

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => folder.dispose());

const at = (name: string): string => (name === "missing" ? name : join(folder.path, name));
const names = (count: number): string[] => Array.from({ length: count }, (_, slot) => `m${slot}`);
const unredundant = (level: string): boolean => level === "0" || level === "linear";

type Options = Partial<Omit<CreateRequest, "members" | "level">>;

/** Members of files by their names in the folder; as large as they are. */
function createOfAll(level: string, members: string[], options: Options = {}) {
  return createArray({
    name: "data",
    level,
    bitmap: unredundant(level) ? "none" : "lockless",
    spares: 0,
    writeMostly: [],
    assumeClean: false,
    preallocate: false,
    force: false,
    ...options,
    members: members.map(at),
  });
}

/** Members of 8 MiB. */
function create(level: string, members: string[], options: Options = {}): Promise<CreatedArray> {
  return createOfAll(level, members, { sizeBytes: SIZE, ...options });
}

async function headers(
  name: string,
): Promise<{ superblock: Superblock; bitmap: BitmapSuperblock | null }> {
  const member = await FileMember.open(at(name), { readOnly: true });
  try {
    const { superblock, bitmap } = await readHeaders(member);
    if (bitmap instanceof NbdRaidError) throw bitmap;
    return { superblock, bitmap };
  } finally {
    await member.close();
  }
}
const superblockOf = async (name: string) => (await headers(name)).superblock;

interface LevelCase {
  readonly level: string;
  readonly slots: number;
  readonly layout?: string;
  /** What the superblock says of the level. */
  readonly fields: Partial<Superblock>;
  /** Of the array, in MiB. */
  readonly size: number;
  /** What the bitmap covers, in MiB. */
  readonly tracked: number;
}

const chunks = { chunksizeSectors: CHUNK / 512 };
const LEVELS: LevelCase[] = [
  { level: "4", slots: 3, fields: { level: 4, layout: 0, ...chunks }, size: 16, tracked: 8 },
  { level: "5", slots: 3, fields: { level: 5, layout: 2, ...chunks }, size: 16, tracked: 8 },
  { level: "5", slots: 2, fields: { level: 5, layout: 2, ...chunks }, size: 8, tracked: 8 },
  { level: "6", slots: 5, fields: { level: 6, layout: 2, ...chunks }, size: 24, tracked: 8 },
  { level: "10", slots: 4, fields: { level: 10, layout: 0x102, ...chunks }, size: 16, tracked: 16 },
  { level: "10", slots: 3, fields: { level: 10, layout: 0x102, ...chunks }, size: 12, tracked: 12 },
  ...(
    [
      ["5", "left-asymmetric", 0],
      ["5", "ra", 1],
      ["5", "parity-first", 4],
      ["6", "ls", 2],
      ["6", "right-symmetric", 3],
      ["6", "ddf-N-restart", 9],
    ] as const
  ).map(([level, layout, number]) => {
    const fields = { level: Number(level), layout: number, ...chunks };
    return { level, slots: 4, layout, fields, size: level === "5" ? 24 : 16, tracked: 8 };
  }),
  ...(
    [
      ["n3", 0x103],
      ["f2", 0x201],
      ["o2", 0x10201],
      ["f3", 0x301],
    ] as const
  ).map(([layout, number]) => {
    const copies = Number(layout.slice(1));
    const fields = { level: 10, layout: number, ...chunks };
    // Where far copies take thirds, the last of 16 chunks is left over.
    const used = layout === "f3" ? 7.5 : 8;
    const size = Math.floor(((used * 4) / copies) * 2) / 2;
    return { level: "10", slots: 4, layout, fields, size, tracked: size };
  }),
];

describe("a new array", () => {
  test.each(LEVELS)("of level $level on $slots slots, $layout", async (made) => {
    const { level, slots, layout, fields, size, tracked } = made;
    const { sizeBytes } = await create(level, names(slots), layout === undefined ? {} : { layout });
    expect(sizeBytes).toBe(size * MiB);
    for (const [slot, name] of names(slots).entries()) {
      const { superblock, bitmap } = await headers(name);
      expect(superblock).toMatchObject({
        ...fields,
        featureMap: 1,
        raidDisks: slots,
        devNumber: slot,
        sizeSectors: SIZE / 512,
        dataSizeSectors: SIZE / 512,
        resyncOffsetSectors: "clean",
      });
      expect(superblock.roles.slice(0, slots + 1)).toEqual([...names(slots).keys(), ROLE_SPARE]);
      const regions = (tracked * MiB) / (64 * KiB);
      expect(bitmap).toMatchObject({ syncSizeSectors: (tracked * MiB) / 512, regionSectors: 128 });
      expect(knownZeroRecordValid(bitmap!.knownZero!, 1, superblock.utime)).toBe(true);
      expect(readAt(at(name), STATES, regions).every((state) => state === 0)).toBe(true);
    }
  });

  test.each(["1", "4", "5", "6", "10"])("of level %s takes an internal bitmap", async (level) => {
    for (const assumeClean of [false, true]) {
      const options = { bitmap: "internal", regionBytes: 64 * KiB, assumeClean } as const;
      const { sizeBytes } = await create(level, names(4), { ...options, force: true });
      const tracked = level === "10" ? sizeBytes : SIZE;
      const { superblock, bitmap } = await headers("m3");
      expect(superblock).toMatchObject({ featureMap: 1, resyncOffsetSectors: "clean" });
      expect(bitmap).toMatchObject({
        ...{ kind: "internal", knownZero: null, events: 1, eventsCleared: 1 },
        ...{ syncSizeSectors: tracked / 512, regionSectors: 128 },
      });
      const bits = readAt(at("m3"), 8192 + 256, tracked / (64 * KiB) / 8);
      expect(bits.every((byte) => byte === 0)).toBe(true);
    }
  });

  test("has an internal bitmap as mdadm has it, of 64 MiB regions that are all Clean", async () => {
    const { uuid } = await create("1", names(2), { bitmap: "internal" });
    for (const name of names(2)) {
      const { superblock, bitmap } = await headers(name);
      expect(superblock).toMatchObject({ featureMap: 1, bitmapOffsetSectors: 8 });
      expect(bitmap).toEqual({
        ...{ kind: "internal", uuid, events: 1, eventsCleared: 1, state: 0, knownZero: null },
        ...{ syncSizeSectors: SIZE / 512, regionSectors: 131_072 },
        ...{ daemonSleepSeconds: 5, writeBehind: 0, sectorsReserved: 256 },
      });
      const behindFields = readAt(at(name), 8192 + 72, 256 * 512 - 72);
      expect(behindFields.every((byte) => byte === 0)).toBe(true);
    }
  });

  test.each([
    [4 * KiB, 8],
    [2 ** 31, 2 ** 22],
  ])("has an internal bitmap with regions of %i bytes", async (regionBytes, regionSectors) => {
    await create("1", names(2), { bitmap: "internal", regionBytes });
    expect((await headers("m0")).bitmap).toMatchObject({ kind: "internal", regionSectors });
  });

  test.each(["4", "5", "6", "10"])("of level %s assumed clean says so", async (level) => {
    const { sizeBytes } = await create(level, names(4), { assumeClean: true });
    const tracked = level === "10" ? sizeBytes : SIZE;
    const regions = tracked / (64 * KiB);
    const { bitmap } = await headers("m3");
    expect(bitmap).toMatchObject({ knownZero: null });
    const states = readAt(at("m3"), STATES, regions + 1);
    expect(states.subarray(0, regions).every((state) => state === 1)).toBe(true);
    expect(states[regions]).toBe(0);
  });

  it("of level 0 has md's mark for the layout, no size, and no bitmap", async () => {
    const { sizeBytes } = await create("0", names(3));
    expect(sizeBytes).toBe(3 * SIZE);
    const { superblock, bitmap } = await headers("m1");
    expect(bitmap).toBeNull();
    const fields = { level: 0, layout: 1, featureMap: 0x1000, ...chunks, sizeSectors: 0 };
    expect(superblock).toMatchObject(fields);
    await create("0", names(3), { layout: "alternate", force: true });
    expect(await superblockOf("m1")).toMatchObject({ layout: 2, featureMap: 0x1000 });
  });

  it("of level linear has neither chunks nor layout, but may be rounded", async () => {
    const { sizeBytes } = await create("linear", names(2));
    expect(sizeBytes).toBe(2 * SIZE);
    const linear = { level: -1, layout: 0, featureMap: 0, sizeSectors: 0 };
    expect(await superblockOf("m0")).toMatchObject({ ...linear, chunksizeSectors: 0 });
    await create("linear", names(2), { chunkBytes: 64 * KiB, force: true });
    expect(await superblockOf("m0")).toMatchObject({ ...linear, chunksizeSectors: 128 });
  });

  it.each(["0", "linear"])("of level %s uses all of unequal members", async (level) => {
    makeImage(at("small"), 9 * MiB + 7 * 512);
    makeImage(at("large"), 33 * MiB + 9 * 512);
    const { sizeBytes } = await createOfAll(level, ["small", "large"], { chunkBytes: 64 * KiB });
    const offsets = await Promise.all(
      ["small", "large"].map(async (name) => (await superblockOf(name)).dataOffsetSectors * 512),
    );
    expect(sizeBytes).toBe(42 * MiB - offsets[0]! - offsets[1]!);
    expect((await superblockOf("small")).dataSizeSectors * 512 + offsets[0]!).toBe(
      9 * MiB + 7 * 512,
    );
  });

  it("of level linear without chunks uses every sector", async () => {
    makeImage(at("a"), 9 * MiB + 7 * 512);
    const { sizeBytes } = await createOfAll("linear", ["a"]);
    expect(sizeBytes).toBe(8 * MiB + 7 * 512);
  });

  it("of whole chunks: a size is rounded up, what members have down", async () => {
    const { sizeBytes } = await create("5", names(3), { sizeBytes: 8 * MiB + 1 });
    expect(sizeBytes).toBe(2 * (8 * MiB + CHUNK));
    makeImage(at("a"), 20 * MiB + 300 * KiB);
    const created = await createOfAll("5", ["a", "m1", "m2"], { force: true });
    expect(created.sizeBytes).toBe(2 * (8 * MiB + CHUNK));
  });

  it("has chunks of the size asked for, and headroom for them", async () => {
    const chunkBytes = 4 * MiB;
    await create("6", names(4), { chunkBytes });
    const superblock = await superblockOf("m0");
    expect(superblock.chunksizeSectors * 512).toBe(chunkBytes);
    expect(superblock.dataOffsetSectors * 512).toBeGreaterThanOrEqual(2 * chunkBytes);
    expect(statSync(at("m0")).size).toBe(superblock.dataOffsetSectors * 512 + SIZE);
  });

  it("of 384 slots has roles for all of them", async () => {
    await create("5", names(384), { sizeBytes: 64 * KiB, chunkBytes: 64 * KiB });
    const superblock = await superblockOf("m383");
    expect(superblock).toMatchObject({ raidDisks: 384, devNumber: 383 });
    expect(superblock.roles).toHaveLength(384);
  });

  it("of level 10 may have members that are read from last", async () => {
    await create("10", names(4), { writeMostly: [at("m1"), at("m3")] });
    const flags = await Promise.all(
      names(4).map(async (name) => (await superblockOf(name)).devflags),
    );
    expect(flags).toEqual([0, 1, 0, 1]);
  });

  it("has spares where it can rebuild", async () => {
    const { sizeBytes } = await create("5", names(4), { spares: 1 });
    expect(sizeBytes).toBe(2 * SIZE);
    expect(await superblockOf("m3")).toMatchObject({ raidDisks: 3, devNumber: 3 });
    expect((await superblockOf("m0")).roles.slice(0, 4)).toEqual([0, 1, 2, ROLE_SPARE]);
  });
});

test.each([
  ["0", "original", CHUNK],
  ["linear", null, null],
  ["1", null, null],
  ["4", null, CHUNK],
  ["5", "left-symmetric", CHUNK],
  ["6", "left-symmetric", CHUNK],
  ["10", "n2", CHUNK],
])(
  "a new array of level %s would start: layout %s, chunks %s",
  async (level, layout, chunkSize) => {
    await create(level, names(4));
    const [report] = await checkAssembly(names(4).map(at));
    expect(report).toMatchObject({ level, layout, chunkSize, verdict: "start", sync: null });
  },
);

test("an array that was stopped clean with regions marked would sync them", async () => {
  await create("1", names(2));
  writeAt(at("m1"), Uint8Array.of(State.NeedSync), STATES + 3);
  const [report] = await checkAssembly(names(2).map(at));
  expect(report).toMatchObject({ verdict: "start", sync: "resync of the regions that are marked" });
});

describe("missing members", () => {
  const MISSING: readonly [level: string, members: string, layout?: string][] = [
    ["4", "a b missing"],
    ["5", "missing b c"],
    ["5", "a missing"],
    ["6", "missing missing c d"],
    ["10", "missing b missing d"],
    ["10", "missing b c missing"],
    ["10", "a missing missing d", "f2"],
  ];

  it.each(MISSING)("are left out at level %s: %s %s", async (level, members, layout) => {
    const given = members.split(" ");
    if (layout === "f2") given[2] = "c";
    await create(level, given, layout === undefined ? {} : { layout });
    const name = given.find((one) => one !== "missing")!;
    const { superblock, bitmap } = await headers(name);
    const roles = given.map((one, slot) => (one === "missing" ? ROLE_FAULTY : slot));
    expect(superblock.roles.slice(0, given.length)).toEqual(roles);
    expect(bitmap).toMatchObject({ eventsCleared: 0 });
  });

  it.each([
    ["4", "a missing missing", "slots 1, 2 missing: level 4 on 3 slots needs more"],
    ["5", "missing missing c d", "slots 0, 1 missing"],
    ["6", "missing missing missing d", "slots 0, 1, 2 missing"],
    ["10", "missing missing c d", "slots 0, 1 missing"],
    ["10", "missing b missing", "slots 0, 2 missing"],
    ["0", "a missing", "level 0 needs all of its members"],
    ["linear", "a missing", "level linear needs all of its members"],
  ])("are too many at level %s: %s", async (level, members, says) => {
    const refused = create(level, members.split(" "));
    await expect(refused).rejects.toMatchObject({ code: "usage" });
    await expect(refused).rejects.toThrow(says);
    expect(snapshot(folder.path)).toEqual({});
  });
});

const REFUSED: readonly [level: string, slots: number, options: Options, says: string][] = [
  ["7", 3, {}, "level 7 is unknown"],
  ["constructor", 3, {}, "level constructor is unknown"],
  ["4", 1, {}, "level 4 needs 2 slots at least"],
  ["5", 1, {}, "level 5 needs 2 slots at least"],
  ["6", 3, {}, "level 6 needs 4 slots at least"],
  ["10", 1, {}, "level 10 needs 2 slots at least"],
  ["6", 257, {}, "level 6 has 256 slots at most"],
  ["5", 385, {}, "1 to 384 slots"],
  ["5", 3, { chunkBytes: 12 * KiB }, "level 5 needs a power of two"],
  ["5", 3, { chunkBytes: 2048 }, "multiple of 4096"],
  ["0", 3, { chunkBytes: 5000 }, "multiple of 4096"],
  ["10", 3, { chunkBytes: 2 ** 40 }, "too large"],
  ["0", 3, { chunkBytes: 2 ** 40 }, "too large"],
  ["1", 2, { chunkBytes: CHUNK }, "level 1 has no chunks"],
  ["5", 3, { layout: "n2" }, 'level 5 has no layout "n2": there are left-asymmetric, '],
  ["6", 4, { layout: "left-symmetric-6" }, "level 6 has no layout"],
  ["10", 4, { layout: "n1" }, 'level 10 has no layout "n1": there are n2, f2, o2'],
  ["10", 2, { layout: "n3" }, "3 copies need as many slots"],
  ["0", 2, { layout: "left-symmetric" }, "there are original, alternate"],
  ["4", 3, { layout: "left-symmetric" }, "level 4 has no layouts"],
  ["linear", 3, { layout: "original" }, "level linear has no layouts"],
  ["0", 3, { bitmap: "lockless" }, "level 0 has no bitmap"],
  ["linear", 3, { bitmap: "internal" }, "level linear has no bitmap"],
  ["1", 2, { bitmap: "internal", regionBytes: 2 * KiB }, `${4 * KiB} at least`],
  ["1", 2, { bitmap: "internal", regionBytes: 96 * KiB }, "a power of two"],
  ["1", 2, { bitmap: "internal", regionBytes: 2 ** 32 }, `${2 ** 31} at most`],
  [
    ...(["1", 2] as const),
    { bitmap: "internal", regionBytes: 4 * KiB, sizeBytes: 2 ** 40 },
    `${2 * MiB} at least`,
  ],
  ["0", 3, { spares: 1 }, "level 0 has no spares"],
  ["linear", 3, { spares: 1 }, "level linear has no spares"],
  ["5", 3, { writeMostly: ["m0"] }, "write-mostly is for levels 1 and 10"],
  ["10", 4, { layout: "f2", sizeBytes: CHUNK }, "no room for 2 chunks"],
  ["5", 4, { sizeBytes: 2 ** 52 }, "larger than 8 PiB"],
];

describe("create refuses, and makes nothing", () => {
  it.each(REFUSED)("level %s on %i members, %o: %s", async (level, count, options, says) => {
    const refused = create(level, names(count), options);
    await expect(refused).rejects.toMatchObject({ code: "usage" });
    await expect(refused).rejects.toThrow(says);
    expect(snapshot(folder.path)).toEqual({});
  });

  it("a member with no room for a chunk", async () => {
    makeImage(at("a"), 2 * MiB + CHUNK - 512);
    const refused = createOfAll("5", ["a", "b"], {});
    await expect(refused).rejects.toMatchObject({ code: "member-unreadable" });
    await expect(create("5", ["b", "a"], { sizeBytes: CHUNK })).rejects.toMatchObject({
      code: "member-too-small",
    });
  });
});
