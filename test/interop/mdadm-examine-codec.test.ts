/**
 * mdadm reads superblocks of this codec as what they were meant to say. Each test writes one
 * into a sparse image, with an empty bitmap where it claims one, and runs `mdadm --examine`.
 */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeBitmapSuperblock } from "../../src/metadata/bitmap-superblock.ts";
import {
  emptySuperblock,
  encodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { mdadmExamine } from "./images.ts";

const DEVICE_SECTORS = 204_800;

const MIRROR: Superblock = {
  ...emptySuperblock(128),
  featureMap: 0x1,
  setUuid: "00010203:04050607:08090a0b:0c0d0e0f",
  setName: "data",
  ctime: { seconds: 1_700_000_000, microseconds: 0 },
  utime: { seconds: 1_700_000_100, microseconds: 1 },
  level: 1,
  sizeSectors: 202_752,
  raidDisks: 2,
  bitmapOffsetSectors: 8,
  dataOffsetSectors: 2048,
  dataSizeSectors: 202_752,
  deviceUuid: "10111213:14151617:18191a1b:1c1d1e1f",
  events: 42,
  resyncOffsetSectors: "clean",
  roles: roles(0, 1),
};

function roles(...first: number[]): number[] {
  return [...first, ...new Array<number>(128 - first.length).fill(ROLE_SPARE)];
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mdadm-examine-codec-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** What mdadm says of the superblock, field by field; it must exit 0. */
async function examine(superblock: Superblock): Promise<Record<string, string>> {
  const path = join(folder, "member.img");
  const bitmap = encodeBitmapSuperblock({
    kind: "lockless",
    uuid: superblock.setUuid,
    events: superblock.events,
    eventsCleared: 0,
    syncSizeSectors: superblock.sizeSectors,
    state: 0,
    regionSectors: 128,
    daemonSleepSeconds: 30,
    writeBehind: 0,
    sectorsReserved: 256,
    knownZero: null,
  });
  const file = await open(path, "w");
  await file.truncate(DEVICE_SECTORS * 512);
  const bitmapOffset = SUPERBLOCK_OFFSET_BYTES + superblock.bitmapOffsetSectors * 512;
  if (superblock.bitmapOffsetSectors !== 0) await file.write(bitmap, 0, 1024, bitmapOffset);
  await file.write(encodeSuperblock(superblock), 0, 4096, SUPERBLOCK_OFFSET_BYTES);
  await file.close();
  const fields = Object.fromEntries(await mdadmExamine(path));
  expect(fields["Checksum"]).toMatch(/ - correct$/);
  return fields;
}

test("a clean mirror with a bitmap", async () => {
  expect(await examine(MIRROR)).toMatchObject({
    Magic: "a92b4efc",
    Version: "1.2",
    "Feature Map": "0x1",
    "Array UUID": MIRROR.setUuid,
    "Device UUID": MIRROR.deviceUuid,
    Name: "data",
    "Raid Level": "raid1",
    "Raid Devices": "2",
    "Avail Dev Size": "202752 sectors (99.00 MiB 103.81 MB)",
    "Data Offset": "2048 sectors",
    "Super Offset": "8 sectors",
    State: "clean",
    "Internal Bitmap": "8 sectors from superblock",
    Events: "42",
    "Device Role": "Active device 0",
    "Array State": "AA ('A' == active, '.' == missing, 'R' == replacing)",
  });
});

test("a dirty mirror", async () => {
  const fields = await examine({ ...MIRROR, resyncOffsetSectors: 0 });
  expect(fields["State"]).toBe("active");
});

test("a mirror whose other member has failed", async () => {
  const fields = await examine({ ...MIRROR, roles: roles(0, ROLE_FAULTY) });
  expect(fields["Array State"]).toMatch(/^A\. /);
});

test("the second slot, held by the third device", async () => {
  const fields = await examine({ ...MIRROR, devNumber: 2, roles: roles(0, ROLE_FAULTY, 1) });
  expect(fields).toMatchObject({ "Device Role": "Active device 1" });
  expect(fields["Array State"]).toMatch(/^AA /);
});

test("a spare", async () => {
  const fields = await examine({ ...MIRROR, devNumber: 2 });
  expect(fields["Device Role"]).toBe("spare");
});

test("a member that is recovering", async () => {
  const fields = await examine({
    ...MIRROR,
    featureMap: 0x83,
    devNumber: 1,
    recoveryOffsetSectors: 81_920,
  });
  expect(fields).toMatchObject({
    "Feature Map": "0x83",
    "Recovery Offset": "81920 sectors",
    "Device Role": "Active device 1",
  });
});

test("a raid5 of three with its layout and chunk, without a bitmap", async () => {
  const fields = await examine({
    ...MIRROR,
    featureMap: 0,
    bitmapOffsetSectors: 0,
    level: 5,
    layout: 2,
    chunksizeSectors: 1024,
    raidDisks: 3,
    roles: roles(0, 1, 2),
  });
  expect(fields).toMatchObject({
    "Raid Level": "raid5",
    "Raid Devices": "3",
    Layout: "left-symmetric",
    "Chunk Size": "512K",
    "Array Size": "202752 KiB (198.00 MiB 207.62 MB)",
  });
  expect(fields["Internal Bitmap"]).toBeUndefined();
  expect(fields["Array State"]).toMatch(/^AAA /);
});

test("a write-mostly member", async () => {
  const fields = await examine({ ...MIRROR, devflags: 1 });
  expect(fields["Flags"]).toBe("write-mostly");
});
