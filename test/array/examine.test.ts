/** Members are examined as files: made by create, then changed by hand, byte by byte. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createArray } from "../../src/array/create.ts";
import type { CreateRequest } from "../../src/array/create-request.ts";
import { examineMember } from "../../src/array/examine.ts";
import { forgetArrays } from "../../src/array/forget.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { FileMember } from "../../src/member/file.ts";
import {
  BITMAP_CLEAN,
  BITMAP_FIRST_USE,
  BITMAP_STALE,
  type BitmapSuperblock,
  decodeBitmapSuperblock,
  encodeBitmapSuperblock,
} from "../../src/metadata/bitmap-superblock.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { KiB, makeImage, MiB, readAt, snapshot, writeAt } from "./images.ts";

const SUPERBLOCK = 4096;
const BITMAP = 8192;
const STATES = BITMAP + 1024;
const SIZE = 8 * MiB;
const LENGTH = 9 * MiB;

const clock: Clock = { ...systemClock, wallTime: () => 1_700_000_000_123.456 };

let folder: ReturnType<typeof temporaryFolder>;
let image: string;
let uuid: string;

beforeEach(async () => {
  folder = temporaryFolder();
  image = join(folder.path, "a");
  ({ uuid } = await create(["a", "b"]));
});
afterEach(() => folder.dispose());

function create(names: string[], options: Partial<CreateRequest> = {}) {
  const members = names.map((name) => join(folder.path, name));
  const defaults = { name: "data", level: "1", bitmap: "lockless", sizeBytes: SIZE } as const;
  const flags = { assumeClean: false, preallocate: false, spares: 0, force: false };
  return createArray({ ...defaults, ...flags, members, writeMostly: [], ...options }, clock);
}

describe("examine", () => {
  it("shows the superblock by md's names, in md's units", async () => {
    const { path, error, superblock } = await examineMember(image);
    expect({ path, error }).toEqual({ path: image, error: null });
    const bytes = readAt(image, SUPERBLOCK, 4096);
    expect(superblock).toEqual({
      magic: 0xa92b4efc,
      major_version: 1,
      feature_map: 1,
      set_uuid: uuid,
      set_name: "data",
      ctime: 1_700_000_000,
      level: 1,
      layout: 0,
      size: SIZE / 512,
      chunksize: 0,
      raid_disks: 2,
      bitmap_offset: 8,
      new_level: 0,
      reshape_position: 0,
      delta_disks: 0,
      new_layout: 0,
      new_chunk: 0,
      new_offset: 0,
      data_offset: 2048,
      data_size: SIZE / 512,
      super_offset: 8,
      recovery_offset: 0,
      dev_number: 0,
      cnt_corrected_read: 0,
      device_uuid: superblock?.device_uuid,
      devflags: 0,
      bblog_shift: 0,
      bblog_size: 0,
      bblog_offset: 0,
      utime: 1_700_000_000,
      events: 1,
      resync_offset: null,
      sb_csum: bytes.readUInt32LE(216),
      max_dev: 128,
      logical_block_size: 0,
      dev_roles: [0, 1],
    });
    expect(superblock?.device_uuid.replaceAll(":", "")).toBe(
      bytes.subarray(168, 184).toString("hex"),
    );
  });

  it("shows an unfinished resync and recovery", async () => {
    change((superblock) => ({
      ...superblock,
      featureMap: 0x3,
      resyncOffsetSectors: 0,
      recoveryOffsetSectors: 1024,
      reshapePositionSectors: "none",
    }));
    const { superblock } = await examineMember(image);
    expect(superblock).toMatchObject({
      feature_map: 3,
      resync_offset: 0,
      recovery_offset: 1024,
      reshape_position: null,
    });
  });

  it("shows the bitmap of a new array", async () => {
    expect((await examineMember(image)).bitmap).toEqual({
      type: "lockless",
      events: 1,
      events_cleared: 1,
      regionSize: 64 * KiB,
      regions: 128,
      ...{ unwritten: 128, clean: 0, dirty: 0, needSync: 0, syncing: 0 },
      knownZero: true,
    });
  });

  it("counts regions by state: 5 to 7 are Unwritten, what is unknown needs a sync", async () => {
    writeAt(image, Buffer.from([1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 4, 5, 6, 7, 8, 255]), STATES);
    const counts = { unwritten: 115, clean: 5, dirty: 3, needSync: 3, syncing: 2 };
    expect((await examineMember(image)).bitmap).toMatchObject(counts);
  });

  it("does not count what lies behind the last region", async () => {
    writeAt(image, Buffer.from([2]), STATES + 128);
    expect((await examineMember(image)).bitmap).toMatchObject({ unwritten: 128, dirty: 0 });
  });

  it("says that a member is not known-zero once md has updated the array", async () => {
    change((superblock) => ({ ...superblock, utime: { seconds: 1_700_000_000, microseconds: 0 } }));
    expect((await examineMember(image)).bitmap?.knownZero).toBe(false);
  });

  it.each<[why: string, fields: Partial<BitmapSuperblock>]>([
    ["is older than the array", { events: 0 }],
    ["says that it is stale", { state: BITMAP_STALE }],
  ])("says that a member whose bitmap %s is not known-zero", async (_why, fields) => {
    const bitmap = decodeBitmapSuperblock(readAt(image, BITMAP, 1024), image);
    writeAt(image, encodeBitmapSuperblock({ ...bitmap, ...fields }), BITMAP);
    expect((await examineMember(image)).bitmap?.knownZero).toBe(false);
  });

  it.each([
    [BITMAP_FIRST_USE, { unwritten: 128, clean: 0 }],
    [BITMAP_FIRST_USE | BITMAP_CLEAN, { unwritten: 0, clean: 128 }],
  ])("state 0x%s: a bitmap that mdadm left to be initialised", async (state, counts) => {
    const bitmap = decodeBitmapSuperblock(readAt(image, BITMAP, 1024), image);
    // mdadm's placeholders: 64 MiB in bytes where sectors belong, and bytes of ones.
    const placeholder = { ...bitmap, state, events: 0, regionSectors: 0x4000000, knownZero: null };
    writeAt(image, Buffer.alloc(128 * KiB, 0xff), BITMAP);
    writeAt(image, encodeBitmapSuperblock(placeholder), BITMAP);
    expect((await examineMember(image)).bitmap).toMatchObject({
      events: 0,
      regionSize: 64 * KiB,
      regions: 128,
      knownZero: false,
      ...counts,
    });
  });

  it.each([0, 1, 2, 3])("ends where %i sectors are left for a bitmap", async (sectorsReserved) => {
    const bitmap = decodeBitmapSuperblock(readAt(image, BITMAP, 1024), image);
    const small = { ...bitmap, state: BITMAP_FIRST_USE, sectorsReserved, syncSizeSectors: 2 ** 44 };
    writeAt(image, encodeBitmapSuperblock(small), BITMAP);
    const { bitmap: found } = await examineMember(image);
    expect(found!.regions).toBeGreaterThan(0);
    expect(found!.regions).toBeLessThanOrEqual(6 * 512);
  });

  it("shows an internal bitmap: what is marked counts as dirty, the rest as clean", async () => {
    await create(["c", "d"], { bitmap: "internal", regionBytes: 64 * KiB });
    const internal = join(folder.path, "c");
    writeAt(internal, Buffer.from([0b1000_0011, 0, 0b1]), BITMAP + 256);
    // Behind the last region.
    writeAt(internal, Buffer.from([0xff]), BITMAP + 256 + 128 / 8);
    expect((await examineMember(internal)).bitmap).toEqual({
      type: "internal",
      events: 1,
      events_cleared: 1,
      regionSize: 64 * KiB,
      regions: 128,
      ...{ unwritten: 0, clean: 124, dirty: 4, needSync: 0, syncing: 0 },
      knownZero: false,
    });
  });

  it("shows a member without a bitmap", async () => {
    await create(["c"], { bitmap: "none" });
    const { error, superblock, bitmap } = await examineMember(join(folder.path, "c"));
    expect({ error, bitmap }).toEqual({ error: null, bitmap: null });
    expect(superblock?.feature_map).toBe(0);
  });

  it("reads a member that a server has locked, and changes nothing", async () => {
    const before = snapshot(folder.path);
    const server = await FileMember.open(image, { readOnly: false });
    expect(await examineMember(image)).toMatchObject({ error: null, superblock: { events: 1 } });
    // The lock is still the server's.
    await expect(FileMember.open(image, { readOnly: true })).rejects.toMatchObject({
      code: "member-in-use",
    });
    await server.close();
    expect(snapshot(folder.path)).toEqual(before);
  });

  it("tells of a damaged superblock, and shows nothing of it", async () => {
    flip(SUPERBLOCK + 40);
    const examined = await examineMember(image);
    expect(examined).toMatchObject({ path: image, superblock: null, bitmap: null });
    expect(examined.error).toContain("checksum");
  });

  it("shows the superblock where the bitmap is damaged", async () => {
    flip(BITMAP);
    const { error, superblock, bitmap } = await examineMember(image);
    expect(error).toContain("bitmap");
    expect(superblock?.set_name).toBe("data");
    expect(bitmap).toBeNull();
  });

  it.each([
    ["no file", () => undefined, "x"],
    ["a folder", (path: string) => mkdirSync(path), "neither a file"],
    ["an empty file", (path: string) => makeImage(path, 0), "0 bytes"],
    ["a file of zeroes", (path: string) => makeImage(path, MiB), "no md superblock"],
    ["text", (path: string) => writeFileSync(path, "x".repeat(MiB)), "no md superblock"],
  ])("tells that it found %s", async (_, prepare, says) => {
    const path = join(folder.path, "x");
    prepare(path);
    const examined = await examineMember(path);
    expect(examined).toMatchObject({ path, superblock: null, bitmap: null });
    expect(examined.error).toContain(says);
  });

  it("takes a URI for no file, and names it as it was given", async () => {
    const uri = "nbd://somewhere/data";
    const error = `${uri} is not a file`;
    expect(await examineMember(uri)).toEqual({ path: uri, superblock: null, bitmap: null, error });
  });
});

describe("zero-superblock", () => {
  it("overwrites superblock and bitmap superblock, and nothing else", async () => {
    writeAt(image, Buffer.alloc(LENGTH, "data"), 0);
    writeAt(image, readAt(join(folder.path, "b"), SUPERBLOCK, 4096 + 1024), SUPERBLOCK);
    const expected = readAt(image, 0, LENGTH).fill(0, SUPERBLOCK, STATES);
    await forgetArrays([image]);
    expect(readAt(image, 0, LENGTH).equals(expected)).toBe(true);
    expect((await examineMember(image)).error).toContain("no md superblock");
  });

  it("lets create take an image again that was never written", async () => {
    await forgetArrays([image]);
    await create(["a"]);
  });

  it("takes a damaged superblock too", async () => {
    flip(SUPERBLOCK + 40);
    await forgetArrays([image]);
    expect(readAt(image, SUPERBLOCK, 4096).equals(Buffer.alloc(4096))).toBe(true);
  });

  it("takes superblocks of version 1.0 and 1.1", async () => {
    const superblock = readAt(image, SUPERBLOCK, 4096);
    const places = [0, LENGTH - 8 * KiB];
    for (const place of places) {
      superblock.writeBigUInt64LE(BigInt(place / 512), 144);
      writeAt(image, superblock, place);
    }
    await forgetArrays([image]);
    for (const place of [...places, SUPERBLOCK]) {
      expect(readAt(image, place, 4096).equals(Buffer.alloc(4096))).toBe(true);
    }
  });

  it("refuses a member that is in use", async () => {
    const before = snapshot(folder.path);
    const server = await FileMember.open(image, { readOnly: false });
    await expect(forgetArrays([image])).rejects.toMatchObject({ code: "member-in-use" });
    await server.close();
    expect(snapshot(folder.path)).toEqual(before);
  });

  it("changes none of several if one of them is refused", async () => {
    const blank = makeImage(join(folder.path, "blank"), MiB);
    const before = snapshot(folder.path);
    const other = join(folder.path, "b");
    for (const [bad, code] of [
      [join(folder.path, "nothere"), "member-unreadable"],
      [blank, "member-foreign"],
      [folder.path, "member-not-file"],
      [join(folder.path, "./a"), "member-listed-twice"],
      ["nbd://somewhere", "member-not-file"],
    ] as const) {
      await expect(forgetArrays([image, bad, other])).rejects.toMatchObject({ code });
      expect(snapshot(folder.path)).toEqual(before);
    }
    await forgetArrays([image, other]);
    for (const path of [image, other])
      expect((await examineMember(path)).error).toContain("no md superblock");
  });

  it.each([0, 4096, MiB])("refuses %i bytes without a superblock", async (sizeBytes) => {
    const path = makeImage(join(folder.path, "x"), sizeBytes);
    await expect(forgetArrays([path])).rejects.toMatchObject({ code: "member-foreign" });
    await expect(forgetArrays([path])).rejects.toMatchObject({ code: "member-foreign" });
  });
});

/** Rewrites the superblock of the image, with the right checksum. */
function change(by: (superblock: Superblock) => Superblock): void {
  const bytes = readAt(image, SUPERBLOCK, 4096);
  writeAt(image, encodeSuperblock(by(decodeSuperblock(bytes, image, LENGTH / 512))), SUPERBLOCK);
}

function flip(offset: number): void {
  writeAt(image, Buffer.from([readAt(image, offset, 1)[0]! ^ 0x40]), offset);
}
