/**
 * Arrays are made of real files in a temporary folder; what was written is read back with the
 * codecs of superblock and bitmap, which have tests of their own against md's byte tables.
 */
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type CreatedArray, createArray } from "../../src/array/create.ts";
import type { CreateRequest } from "../../src/array/create-request.ts";
import { readHeaders } from "../../src/array/headers.ts";
import { absentDeviceBytes, encodeNewSuperblock, planShape } from "../../src/array/new-array.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { type ErrorCode, NbdRaidError } from "../../src/errors.ts";
import { FileMember } from "../../src/member/file.ts";
import { MemberError } from "../../src/member/member.ts";
import type { BitmapSuperblock } from "../../src/metadata/bitmap-superblock.ts";
import { knownZeroRecordValid } from "../../src/metadata/known-zero.ts";
import { deviceBytesFor } from "../../src/metadata/layout.ts";
import {
  decodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { memoryFolder, temporaryFolder } from "../member/temporary.ts";
import { allocatedBytes, KiB, makeImage, MiB, readAt, snapshot, writeAt } from "./images.ts";

const SUPERBLOCK = 4096;
const BITMAP = 8192;
const STATES = BITMAP + 1024;
const BITMAP_END = BITMAP + 128 * KiB;
const SIZE = 8 * MiB;

const clock: Clock = { ...systemClock, wallTime: () => 1_700_000_000_123.456 };

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => {
  vi.restoreAllMocks();
  folder.dispose();
});

const at = (name: string): string => (name === "missing" ? name : join(folder.path, name));

type Options = Partial<Omit<CreateRequest, "members">>;

const DEFAULTS: Omit<CreateRequest, "members"> = {
  name: "data",
  level: "1",
  bitmap: "lockless",
  spares: 0,
  writeMostly: [],
  assumeClean: false,
  preallocate: false,
  force: false,
};

/** A mirror of files by their names in the folder; as large as they are. */
function createOfAll(names: string[], options: Options = {}): Promise<CreatedArray> {
  return createArray({ ...DEFAULTS, ...options, members: names.map(at) }, clock);
}

/** A mirror of 8 MiB. */
function create(names: string[], options: Options = {}): Promise<CreatedArray> {
  return createOfAll(names, { sizeBytes: SIZE, ...options });
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
const bitmapOf = async (name: string) => (await headers(name)).bitmap!;
const dataOffsetOf = async (name: string) => (await superblockOf(name)).dataOffsetSectors * 512;
const isZero = (bytes: Buffer): boolean => bytes.equals(Buffer.alloc(bytes.length));
const holds = (name: string, offset: number, bytes: Buffer): boolean =>
  readAt(at(name), offset, bytes.length).equals(bytes);

describe("a new mirror", () => {
  it("has superblocks that call it clean and both members active", async () => {
    const { uuid, sizeBytes, name, members } = await create(["a", "b"]);
    expect({ name, sizeBytes, members }).toEqual({
      name: "data",
      sizeBytes: SIZE,
      members: [at("a"), at("b")],
    });
    for (const [devNumber, file] of ["a", "b"].entries()) {
      const { roles, deviceUuid, ...superblock } = await superblockOf(file);
      expect(superblock).toMatchObject({
        featureMap: 1,
        setUuid: uuid,
        setName: "data",
        ctime: { seconds: 1_700_000_000, microseconds: 0 },
        utime: { seconds: 1_700_000_000, microseconds: 123_456 },
        level: 1,
        layout: 0,
        chunksizeSectors: 0,
        sizeSectors: SIZE / 512,
        raidDisks: 2,
        bitmapOffsetSectors: 8,
        dataOffsetSectors: 2048,
        dataSizeSectors: SIZE / 512,
        events: 1,
        resyncOffsetSectors: "clean",
        devNumber,
        devflags: 0,
        bblogOffsetSectors: 0,
        logicalBlockSizeBytes: 0,
      });
      expect(roles).toEqual([0, 1, ...new Array<number>(126).fill(ROLE_SPARE)]);
      expect(deviceUuid).not.toBe(uuid);
    }
    expect((await superblockOf("a")).deviceUuid).not.toBe((await superblockOf("b")).deviceUuid);
  });

  it("has a settled bitmap: all Unwritten, known-zero, zeroes up to its end", async () => {
    const { uuid } = await create(["a", "b"]);
    for (const file of ["a", "b"]) {
      const { superblock, bitmap } = await headers(file);
      const { knownZero, ...fields } = bitmap!;
      expect(isZero(readAt(at(file), 0, SUPERBLOCK))).toBe(true);
      expect(fields).toEqual({
        kind: "lockless",
        uuid,
        events: 1,
        eventsCleared: 1,
        syncSizeSectors: SIZE / 512,
        state: 0,
        regionSectors: 128,
        daemonSleepSeconds: 30,
        writeBehind: 0,
        sectorsReserved: 256,
      });
      expect(knownZeroRecordValid(knownZero!, superblock.events, superblock.utime)).toBe(true);
      expect(isZero(readAt(at(file), STATES, BITMAP_END - STATES))).toBe(true);
    }
  });

  it("is as long as it must be, and sparse behind its metadata", async () => {
    await create(["a", "b"], { sizeBytes: 512 * MiB });
    const dataOffset = await dataOffsetOf("a");
    for (const file of ["a", "b"]) {
      expect(statSync(at(file)).size).toBe(deviceBytesFor(512 * MiB, null));
      expect(allocatedBytes(at(file))).toBeGreaterThanOrEqual(dataOffset);
      expect(allocatedBytes(at(file))).toBeLessThan(dataOffset + 64 * KiB);
    }
  });

  it("has all its space with --preallocate, in new files and old", async () => {
    makeImage(at("old"), 20 * MiB);
    await create(["new", "old"], { preallocate: true });
    for (const file of ["new", "old"]) {
      expect(allocatedBytes(at(file))).toBeGreaterThanOrEqual(statSync(at(file)).size);
    }
    expect(isZero(readAt(at("old"), MiB, 19 * MiB))).toBe(true);
  });

  it("has no bitmap and no room for states with --bitmap none", async () => {
    await create(["a", "b"], { bitmap: "none" });
    const { superblock, bitmap } = await headers("a");
    expect(bitmap).toBeNull();
    expect(superblock).toMatchObject({ featureMap: 0, bitmapOffsetSectors: 0 });
    expect(isZero(readAt(at("a"), BITMAP, MiB))).toBe(true);
  });

  it("has regions of the size asked for", async () => {
    await create(["a", "b"], { regionBytes: MiB });
    expect((await bitmapOf("a")).regionSectors).toBe(2048);
  });

  it("can be in memory", async ({ skip }) => {
    const memory = memoryFolder();
    if (memory === null) return skip("no file system in memory");
    folder.dispose();
    folder = temporaryFolder(memory);
    makeImage(at("old"), 20 * MiB);
    await create(["new", "old"], { preallocate: true });
    expect((await superblockOf("new")).setUuid).toBe((await superblockOf("old")).setUuid);
  });

  /** The order of durability rules 2 and 3, seen through the calls to the members. */
  it("is written bitmaps first, superblocks last, each durable before the next", async () => {
    makeImage(at("old"), 20 * MiB);
    const calls: string[] = [];
    traceCalls("writeDurable", calls);
    traceCalls("zero", calls);
    traceCalls("sync", calls);
    await create(["old", "b", "c"]);
    const round = (call: string) => [
      ...new Array<string>(3).fill(`begin ${call}`),
      ...new Array<string>(3).fill(`end ${call}`),
    ];
    expect(calls.slice(0, 2)).toEqual(["begin zero 0", "end zero 0"]);
    expect(calls.slice(2, -12)).toEqual(["begin sync", "end sync", "begin sync", "end sync"]);
    expect(calls.slice(-12)).toEqual([
      ...round(`writeDurable ${BITMAP}`),
      ...round(`writeDurable ${SUPERBLOCK}`),
    ]);
  });
});

/** Notes when a method of any member begins and ends, and at which offset. */
function traceCalls(method: "writeDurable" | "zero" | "sync", calls: string[]): void {
  type Method = (this: FileMember, ...values: unknown[]) => Promise<void>;
  const descriptor = Object.getOwnPropertyDescriptor(FileMember.prototype, method);
  const original = descriptor!.value as Method;
  const traced: Method = async function (...values) {
    const offset = values.find((value) => typeof value === "number");
    const call = offset === undefined ? method : `${method} ${offset}`;
    calls.push(`begin ${call}`);
    await original.apply(this, values);
    calls.push(`end ${call}`);
  };
  vi.spyOn(FileMember.prototype, method).mockImplementation(traced);
}

describe("slots and roles", () => {
  it("a missing member is faulty, and can only come back in full", async () => {
    const { members } = await create(["missing", "b", "missing"]);
    expect(members).toEqual(["missing", at("b"), "missing"]);
    const { superblock, bitmap } = await headers("b");
    expect(superblock).toMatchObject({ raidDisks: 3, devNumber: 1 });
    expect(superblock.roles.slice(0, 4)).toEqual([ROLE_FAULTY, 1, ROLE_FAULTY, ROLE_SPARE]);
    expect(bitmap).toMatchObject({ events: 1, eventsCleared: 0 });
  });

  it("spares are the last members and have no slot", async () => {
    await create(["a", "b", "c"], { spares: 1 });
    const spare = await superblockOf("c");
    expect(spare).toMatchObject({ raidDisks: 2, devNumber: 2 });
    for (const file of ["a", "b", "c"]) {
      expect((await superblockOf(file)).roles.slice(0, 3)).toEqual([0, 1, ROLE_SPARE]);
    }
    expect((await bitmapOf("c")).uuid).toBe(spare.setUuid);
  });

  it("write-mostly members are known through links too, made or not", async () => {
    makeImage(at("a"), 20 * MiB);
    symlinkSync("a", at("link"));
    mkdirSync(at("real"));
    symlinkSync("real", at("folder"));
    await create(["a", "b", "real/c"], { writeMostly: [at("link"), at("folder/c")] });
    const flags = await Promise.all(["a", "b", "real/c"].map(superblockOf));
    expect(flags.map(({ devflags }) => devflags)).toEqual([1, 0, 1]);
  });

  it("16 slots and more spares are possible", async () => {
    const names = Array.from({ length: 18 }, (_, index) => `m${index}`);
    await create(names, { spares: 2, sizeBytes: 64 * KiB });
    expect(await superblockOf("m15")).toMatchObject({ raidDisks: 16, devNumber: 15 });
    expect(await superblockOf("m17")).toMatchObject({ raidDisks: 16, devNumber: 17 });
  });
});

describe("sizes", () => {
  it("without a size it is that of the smallest member; none changes its length", async () => {
    makeImage(at("small"), 20 * MiB + 5000);
    makeImage(at("large"), 3 * 1024 * MiB);
    const { sizeBytes } = await createOfAll(["large", "small"]);
    expect(sizeBytes).toBe(19 * MiB);
    const [large, small] = await Promise.all(["large", "small"].map(superblockOf));
    expect(large).toMatchObject({ sizeSectors: 38912, dataOffsetSectors: 6144 });
    expect(small).toMatchObject({ sizeSectors: 38912, dataOffsetSectors: 2048 });
    expect(large!.dataSizeSectors).toBe(6291456 - 6144);
    expect(statSync(at("small")).size).toBe(20 * MiB + 5000);
  });

  it("a size that is not whole is rounded up to 64 KiB", async () => {
    const { sizeBytes } = await create(["a"], { sizeBytes: MiB + 1 });
    expect(sizeBytes).toBe(MiB + 64 * KiB);
    expect((await superblockOf("a")).sizeSectors * 512).toBe(sizeBytes);
  });

  it("a longer member that exists keeps its length", async () => {
    makeImage(at("old"), 40 * MiB);
    const { sizeBytes } = await create(["new", "old"]);
    expect(sizeBytes).toBe(SIZE);
    expect(statSync(at("old")).size).toBe(40 * MiB);
    expect((await superblockOf("old")).dataSizeSectors * 512).toBe(39 * MiB);
  });

  it("whatever the size, new members have it, and not a region more", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 45 }), (asked) => {
        const request: CreateRequest = { ...DEFAULTS, members: ["a"], sizeBytes: asked };
        const deviceBytes = absentDeviceBytes("a", request);
        const uuid = "00000000:00000000:00000000:00000001";
        const device = { path: "a", deviceBytes, devNumber: 0, writeMostly: false, uuid };
        const planned = planShape([device], request);
        const { sizeBytes } = planned.geometry;
        expect(sizeBytes).toBeGreaterThanOrEqual(asked);
        expect(sizeBytes).toBeLessThan(asked + 64 * KiB);
        const created = { seconds: 1, microseconds: 1 };
        const bytes = encodeNewSuperblock({ request, uuid, created, ...planned }, device);
        const { dataOffsetSectors } = decodeSuperblock(bytes, "a", deviceBytes / 512);
        expect(dataOffsetSectors * 512 + sizeBytes).toBe(deviceBytes);
      }),
    );
  });
});

describe("members that hold something", () => {
  const DATA = Buffer.alloc(64 * KiB, "data");

  /** Data in front of the superblock, where the bitmap comes, and at both ends of the data area. */
  function fill(name: string, sizeBytes = 20 * MiB): void {
    makeImage(at(name), sizeBytes);
    for (const offset of [0, 5 * KiB, 100 * KiB, MiB, sizeBytes - DATA.length]) {
      writeAt(at(name), DATA, offset);
    }
  }

  it("zeroes that are no holes are blank, and become holes", async () => {
    writeFileSync(at("a"), Buffer.alloc(20 * MiB));
    await createOfAll(["a"]);
    expect(allocatedBytes(at("a"))).toBeLessThan(MiB + 64 * KiB);
  });

  it("--force leaves nothing of it but zeroes", async () => {
    fill("a");
    await createOfAll(["a"], { force: true });
    expect(isZero(readAt(at("a"), 0, SUPERBLOCK))).toBe(true);
    expect(isZero(readAt(at("a"), STATES, 20 * MiB - STATES))).toBe(true);
    expect((await bitmapOf("a")).knownZero).not.toBeNull();
    expect(allocatedBytes(at("a"))).toBeLessThan(MiB + 64 * KiB);
  });

  it("--assume-clean keeps the data and calls it equal, not zero", async () => {
    fill("a");
    await createOfAll(["a", "missing"], { assumeClean: true });
    const { superblock, bitmap } = await headers("a");
    expect(superblock.resyncOffsetSectors).toBe("clean");
    expect(bitmap).toMatchObject({ knownZero: null, events: 1 });
    const regions = 19 * 16;
    expect(readAt(at("a"), STATES, regions).every((state) => state === 1)).toBe(true);
    expect(isZero(readAt(at("a"), STATES + regions, BITMAP_END - STATES - regions))).toBe(true);
    expect(holds("a", MiB, DATA)).toBe(true);
    expect(holds("a", 20 * MiB - DATA.length, DATA)).toBe(true);
    expect(holds("a", 0, DATA.subarray(0, SUPERBLOCK))).toBe(true);
    expect(allocatedBytes(at("a"))).toBeGreaterThanOrEqual(MiB + 2 * DATA.length);
  });

  it("--assume-clean with --preallocate fills only the holes", async () => {
    fill("a");
    await createOfAll(["a"], { assumeClean: true, preallocate: true });
    expect(allocatedBytes(at("a"))).toBeGreaterThanOrEqual(20 * MiB);
    expect(holds("a", MiB, DATA)).toBe(true);
  });

  it("--assume-clean --force takes members of another array, and only their data", async () => {
    await create(["a", "b"]);
    for (const name of ["a", "b"]) writeAt(at(name), DATA, MiB);
    moveSuperblock("a", 0);
    const last = moveSuperblock("a", 9 * MiB - 8 * KiB);
    const { uuid } = await createOfAll(["a", "b"], { assumeClean: true, force: true });
    for (const name of ["a", "b"]) {
      expect((await superblockOf(name)).setUuid).toBe(uuid);
      expect(holds(name, MiB, DATA)).toBe(true);
      expect(isZero(readAt(at(name), 0, SUPERBLOCK))).toBe(true);
    }
    expect(isZero(readAt(at("a"), last, 4096))).toBe(true);
  });

  it("an image of a member in the data is data, and kept", async () => {
    await create(["inner"], { sizeBytes: MiB });
    makeImage(at("a"), 20 * MiB);
    // Its superblock comes to lie where version 1.0 has one.
    const inner = readAt(at("inner"), 0, 12 * KiB);
    writeAt(at("a"), inner, 20 * MiB - 12 * KiB);
    await createOfAll(["a"], { assumeClean: true });
    await createOfAll(["a"], { assumeClean: true, force: true });
    expect(holds("a", 20 * MiB - 12 * KiB, inner)).toBe(true);
  });
});

/** Copies the superblock of `name` to where another minor version has it. */
function moveSuperblock(name: string, offset: number): number {
  const bytes = readAt(at(name), SUPERBLOCK, 4096);
  bytes.writeBigUInt64LE(BigInt(offset / 512), 144);
  writeAt(at(name), bytes, offset);
  return offset;
}

interface RefusalCase {
  readonly what: string;
  readonly code: ErrorCode;
  readonly options?: Options;
  readonly names?: string[];
  /** What the message must name. */
  readonly says?: string;
  readonly prepare?: () => unknown;
}

const usageCases: RefusalCase[] = [
  { what: "an empty name", code: "usage", options: { name: "" } },
  { what: "a name of 33 bytes", code: "usage", options: { name: "é".repeat(16) + "e" } },
  { what: "a name with a slash", code: "usage", options: { name: "a/b" } },
  { what: "a name with a line end", code: "usage", options: { name: "a\nb" } },
  { what: "a name with a NUL", code: "usage", options: { name: "a\0b" } },
  { what: "no slots", code: "usage", options: { spares: 2 } },
  { what: "more spares than members", code: "usage", options: { spares: 3 } },
  { what: "385 slots", code: "usage", names: Array.from({ length: 385 }, (_, n) => `m${n}`) },
  { what: "nothing but missing members", code: "usage", names: ["missing", "missing"] },
  {
    what: "spares alone",
    code: "usage",
    names: ["missing", "a"],
    options: { spares: 1 },
  },
  { what: "a missing spare", code: "usage", names: ["a", "missing"], options: { spares: 1 } },
  { what: "a chunk", code: "usage", options: { chunkBytes: 65536 } },
  { what: "a layout", code: "usage", options: { layout: "near" } },
  {
    what: "regions without a bitmap",
    code: "usage",
    options: { bitmap: "none", regionBytes: MiB },
  },
  { what: "regions of no power of two", code: "usage", options: { regionBytes: 96 * KiB } },
  { what: "regions that are too small", code: "usage", options: { regionBytes: 32 * KiB } },
  {
    what: "regions that are too many",
    code: "usage",
    names: ["new"],
    options: { regionBytes: 64 * KiB, sizeBytes: 2 ** 40 },
    says: `${16 * MiB} at least`,
  },
  { what: "a size past all bounds", code: "usage", options: { sizeBytes: 2 ** 53 - 1 } },
  { what: "write-mostly for another", code: "usage", options: { writeMostly: ["/x"] }, says: "/x" },
];

const SOME = Buffer.from([1]);

const memberCases: RefusalCase[] = [
  { what: "a member listed twice", code: "member-listed-twice", names: ["new", "old", "old"] },
  {
    what: "a link to another member",
    code: "member-listed-twice",
    names: ["new", "old", "link"],
    prepare: () => symlinkSync("old", at("link")),
    says: "link",
  },
  {
    what: "a hard link to another member",
    code: "member-listed-twice",
    names: ["new", "old", "link"],
    prepare: () => linkSync(at("old"), at("link")),
  },
  { what: "an absent file listed twice", code: "member-listed-twice", names: ["new", "new"] },
  {
    what: "an absent file listed twice through a link to its folder",
    code: "member-listed-twice",
    names: ["real/new", "folder/new"],
    prepare: () => {
      mkdirSync(at("real"));
      symlinkSync("real", at("folder"));
    },
  },
  { what: "an absent folder", code: "member-unreadable", names: ["new", "none/b"], says: "none/b" },
  {
    what: "a folder",
    code: "member-not-file",
    names: ["new", "folder"],
    prepare: () => mkdirSync(at("folder")),
  },
  {
    what: "a link to nothing, found only when it is to be made",
    code: "member-not-empty",
    names: ["new", "link"],
    prepare: () => symlinkSync("nothing", at("link")),
    says: "link",
  },
  {
    what: "a member too short for the size",
    code: "member-too-small",
    names: ["new", "old"],
    options: { sizeBytes: 20 * MiB },
    says: String(21 * MiB),
  },
  {
    what: "a member too short for anything",
    code: "member-too-small",
    names: ["new", "short"],
    prepare: () => makeImage(at("short"), 1000),
    says: "short",
  },
  ...[0, 5000, MiB, 20 * MiB - 1].map((offset): RefusalCase => ({
    what: `a member with data at byte ${offset}`,
    code: "member-not-empty",
    names: ["new", "old"],
    prepare: () => writeAt(at("old"), SOME, offset),
    says: `byte ${offset}`,
  })),
  {
    what: "data behind a megabyte of zeroes that are no hole",
    code: "member-not-empty",
    names: ["new", "old"],
    prepare: () => {
      writeAt(at("old"), new Uint8Array(4 * MiB), 0);
      writeAt(at("old"), SOME, 3 * MiB + 77);
    },
    says: `byte ${3 * MiB + 77}`,
  },
  ...[false, true].map((assumeClean): RefusalCase => ({
    what: `a member of an array, assumed clean: ${assumeClean}`,
    code: "member-in-array",
    names: ["new", "member"],
    options: { assumeClean },
    prepare: () => create(["member"]),
    says: "member",
  })),
  ...[0, 9 * MiB - 8 * KiB].map((offset): RefusalCase => ({
    what: `a member of an array with its superblock at byte ${offset}`,
    code: "member-in-array",
    names: ["new", "member"],
    options: { assumeClean: true },
    prepare: async () => {
      await create(["member"]);
      moveSuperblock("member", offset);
      writeAt(at("member"), new Uint8Array(4096), SUPERBLOCK);
    },
    says: `byte ${offset}`,
  })),
  {
    what: "a member of an array whose superblock is damaged",
    code: "member-in-array",
    names: ["new", "member"],
    options: { assumeClean: true },
    prepare: async () => {
      await create(["member"]);
      writeAt(at("member"), SOME, SUPERBLOCK + 40);
    },
  },
];

describe("create refuses, and leaves everything as it was", () => {
  const refusal = async (attempt: Promise<CreatedArray>): Promise<NbdRaidError> => {
    const error: unknown = await attempt.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(NbdRaidError);
    return error as NbdRaidError;
  };

  it.each([...usageCases, ...memberCases])("$what", async (refused) => {
    makeImage(at("old"), 20 * MiB);
    await refused.prepare?.();
    const before = snapshot(folder.path);
    const error = await refusal(create(refused.names ?? ["new", "old"], refused.options));
    expect(error.code).toBe(refused.code);
    expect(error.message).toContain(refused.says ?? "");
    expect(error.message).not.toContain("\n");
    expect(snapshot(folder.path)).toEqual(before);
  });

  it("an absent file without a size, and says the way out", async () => {
    makeImage(at("old"), 20 * MiB);
    const before = snapshot(folder.path);
    const error = await refusal(createOfAll(["old", "new"]));
    expect(error).toMatchObject({ code: "member-unreadable" });
    expect(error.message).toContain("--size");
    expect(snapshot(folder.path)).toEqual(before);
  });

  it("a URI: it makes no file of that name", async () => {
    const before = snapshot(folder.path);
    const members = [at("a"), "nbd://localhost/x"];
    const error = await refusal(createArray({ ...DEFAULTS, members, sizeBytes: SIZE }));
    expect(error.code).toBe("member-not-file");
    expect(snapshot(folder.path)).toEqual(before);
  });

  it("a member that is in use, even with --force", async () => {
    makeImage(at("old"), 20 * MiB);
    const before = snapshot(folder.path);
    const user = await FileMember.open(at("old"), { readOnly: false });
    expect((await refusal(create(["new", "old"], { force: true }))).code).toBe("member-in-use");
    await user.close();
    expect(snapshot(folder.path)).toEqual(before);
  });

  it("with no locks left behind", async () => {
    makeImage(at("old"), 20 * MiB);
    writeAt(at("old"), SOME, 0);
    await refusal(create(["new", "old"]));
    await create(["new", "old"], { force: true });
  });
});

describe("when a write fails", () => {
  const failing = (code: string) => {
    const error = Object.assign(new Error(code), { code });
    vi.spyOn(FileMember.prototype, "writeDurable").mockRejectedValue(
      new MemberError("path", "durable write", error),
    );
  };

  it.each([
    ["ENOSPC", "no-space"],
    ["EIO", "io-error"],
  ])("with %s it says %s, and removes only what it made", async (code, expected) => {
    makeImage(at("old"), 20 * MiB);
    failing(code);
    await expect(create(["old", "new", "other"])).rejects.toMatchObject({ code: expected });
    expect(existsSync(at("new"))).toBe(false);
    expect(existsSync(at("other"))).toBe(false);
    expect(lstatSync(at("old")).size).toBe(20 * MiB);
  });
});
