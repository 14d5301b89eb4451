import fc from "fast-check";
import { NO_UPDATE } from "../../src/metadata/known-zero.ts";
import type { BitmapSuperblock } from "../../src/metadata/bitmap-superblock.ts";
import { LEVELS } from "../../src/metadata/levels.ts";
import { emptySuperblock, type Superblock } from "../../src/metadata/superblock.ts";
import type { Timestamp } from "../../src/metadata/timestamp.ts";

/** A raid5 of three as mdadm would write it. Its checksum is known from outside: 0x02711771. */
export const RAID5: Superblock = {
  ...emptySuperblock(128),
  featureMap: 0x1,
  setUuid: "10111213:14151617:18191a1b:1c1d1e1f",
  setName: "host:arr",
  ctime: { seconds: 1_700_000_000, microseconds: 0 },
  utime: { seconds: 1_700_000_100, microseconds: 0 },
  level: 5,
  layout: 2,
  sizeSectors: 405_504,
  chunksizeSectors: 1024,
  raidDisks: 3,
  bitmapOffsetSectors: 8,
  dataOffsetSectors: 4096,
  dataSizeSectors: 405_504,
  deviceUuid: "d0d0d0d0:d0d0d0d0:d0d0d0d0:d0d0d0d0",
  bblogSizeSectors: 8,
  bblogOffsetSectors: 264,
  events: 42,
  resyncOffsetSectors: "clean",
  roles: [0, 1, 2, ...new Array<number>(125).fill(0xffff)],
};

/** As long as {@link RAID5}'s member must be. */
export const RAID5_MEMBER_SECTORS = RAID5.dataOffsetSectors + RAID5.dataSizeSectors;

/** The bitmap of {@link RAID5}. */
export const BITMAP: BitmapSuperblock = {
  kind: "lockless",
  uuid: RAID5.setUuid,
  events: 42,
  eventsCleared: 7,
  syncSizeSectors: 405_504,
  state: 0,
  regionSectors: 128,
  daemonSleepSeconds: 30,
  writeBehind: 0,
  sectorsReserved: 256,
  knownZero: {
    newest: { events: 42, utime: { seconds: 1_700_000_100, microseconds: 5 } },
    older: NO_UPDATE,
  },
};

/** A classic bitmap of {@link RAID5}. */
export const INTERNAL: BitmapSuperblock = {
  ...BITMAP,
  kind: "internal",
  regionSectors: 131_072,
  daemonSleepSeconds: 5,
  knownZero: null,
};

export const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
export const events = fc.maxSafeNat();
const s32 = fc.integer();
const sectors = fc.maxSafeNat().map((value) => value % 2 ** 40);
const orWord = <W extends string>(word: W) => fc.oneof(sectors, fc.constant(word));

export const timestamp: fc.Arbitrary<Timestamp> = fc.record({
  seconds: fc.maxSafeNat().map((value) => value % 2 ** 40),
  microseconds: fc.integer({ min: 0, max: 2 ** 24 - 1 }),
});

export const uuid = fc
  .array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { minLength: 4, maxLength: 4 })
  .map((words) => words.map((word) => word.toString(16).padStart(8, "0")).join(":"));

const setName = fc
  .string({ unit: "binary", maxLength: 32 })
  .filter((name) => Buffer.byteLength(name) <= 32 && !name.endsWith("\0"));

/** Superblocks that decode, on a member of {@link MEMBER_SECTORS}. */
export const MEMBER_SECTORS = 2 ** 42;

const fields = fc.record({
  featureMap: fc.constantFrom(0, 0x1, 0x2, 0x82, 0x83),
  setUuid: uuid,
  setName,
  ctime: timestamp,
  level: fc.constantFrom(...Object.values(LEVELS)),
  layout: u32,
  chunksizeSectors: u32,
  raidDisks: fc.integer({ min: 1, max: 384 }),
  bitmapOffsetSectors: fc.integer({ min: 8, max: 1000 }),
  newLevel: s32,
  reshapePositionSectors: orWord("none"),
  deltaDisks: s32,
  newLayout: u32,
  newChunkSectors: u32,
  newOffsetSectors: s32,
  dataOffsetSectors: sectors.map((value) => value + 1010),
  dataSizeSectors: sectors.map((value) => value + 10),
  recoveryOffsetSectors: orWord("done"),
  devNumber: u32,
  cntCorrectedRead: u32,
  deviceUuid: uuid,
  devflags: fc.integer({ min: 0, max: 255 }),
  bblogShift: fc.integer({ min: 0, max: 255 }),
  bblogSizeSectors: fc.integer({ min: 0, max: 0xffff }),
  bblogOffsetSectors: s32,
  utime: timestamp,
  events,
  resyncOffsetSectors: orWord("clean"),
  logicalBlockSizeBytes: u32,
  roles: fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 1920 }),
});

export const superblock: fc.Arbitrary<Superblock> = fc
  .tuple(fields, fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([values, used]) => ({
    ...values,
    sizeSectors: Math.floor(values.dataSizeSectors * used),
  }));

const stamp = fc.record({ events, utime: timestamp });
export const knownZeroRecord = fc.record({ newest: stamp, older: stamp });

/** Bitmap superblocks that decode. */
const lockless: fc.Arbitrary<BitmapSuperblock> = fc
  .record({
    uuid,
    events,
    eventsCleared: events,
    regions: fc.integer({ min: 0, max: 131_072 }),
    state: fc.integer({ min: 0, max: 0xffff }),
    regionShift: fc.integer({ min: 0, max: 26 }),
    daemonSleepSeconds: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    writeBehind: u32,
    knownZero: fc.option(knownZeroRecord),
  })
  .map(({ regions, regionShift, ...values }) => ({
    ...values,
    kind: "lockless",
    regionSectors: 2 ** regionShift,
    syncSizeSectors: regions * 2 ** regionShift,
    sectorsReserved: 256,
  }));

const internal: fc.Arbitrary<BitmapSuperblock> = fc
  .record({
    uuid,
    events,
    eventsCleared: events,
    regions: fc.integer({ min: 0, max: (256 * 512 - 256) * 8 }),
    state: fc.integer({ min: 0, max: 0xffff }),
    regionShift: fc.integer({ min: 0, max: 22 }),
    daemonSleepSeconds: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    writeBehind: fc.integer({ min: 0, max: 16_383 }),
    sectorsReserved: fc.constantFrom(0, 256, 2 ** 32 - 1),
  })
  .map(({ regions, regionShift, ...values }) => ({
    ...values,
    kind: "internal",
    regionSectors: 2 ** regionShift,
    syncSizeSectors: regions * 2 ** regionShift,
    knownZero: null,
  }));

export const bitmapSuperblock = fc.oneof(lockless, internal);
