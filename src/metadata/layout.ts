/**
 * Where things lie in a member made by this program: superblock (sector 8), bitmap (sector 16,
 * 128 KiB), data. No bad block log: mdadm puts it where a lockless bitmap grows. The data offset
 * is the one mdadm chooses, with headroom in front of the data that a later reshape can use.
 */
import { NbdRaidError } from "../errors.ts";
import type { LevelName } from "./levels.ts";

export const SUPERBLOCK_OFFSET_SECTORS = 8;
export const SUPERBLOCK_SECTORS = 8;
/** As many roles as fit in the superblock behind its fixed part: the most devices of an array. */
export const MAX_DEV = 1920;
/** Slots of an array: md allows more than its levels do, and a sync keeps a tally for each. */
export const SLOTS_MAX = 384;
/** From the superblock to the bitmap superblock (mdadm's choice for metadata 1.2). */
export const BITMAP_OFFSET_SECTORS = 8;
/** Space for the bitmap, header and states together. */
export const BITMAP_RESERVED_SECTORS = 256;

/** Bitmaps that lie on members, by mdadm's names: version 6, and md's classic one, version 4. */
export const BITMAP_KINDS = ["lockless", "internal"] as const;
export type BitmapKind = (typeof BITMAP_KINDS)[number];

/** How regions lie on a member, and how large they may be (the largest is what a field holds). */
interface BitmapFormat {
  /** From the start of the bitmap superblock to the state of region 0. */
  readonly headerBytes: number;
  /** 1: a byte each. 8: a bit each, the least significant first. */
  readonly regionsPerByte: number;
  readonly regionBytesMin: number;
  readonly regionBytesMax: number;
  /** The size to begin with where none is asked for: it is doubled until the regions fit. */
  readonly regionBytesDefault: number;
  /** md's daemon_sleep, for whoever runs the array next. */
  readonly daemonSleepSeconds: number;
}

const KIB = 1024;

export const BITMAP_FORMATS: Readonly<Record<BitmapKind, BitmapFormat>> = {
  lockless: {
    headerBytes: 1024,
    regionsPerByte: 1,
    regionBytesMin: 64 * KIB,
    regionBytesMax: 2 ** 31 * 512,
    regionBytesDefault: 64 * KIB,
    daemonSleepSeconds: 30,
  },
  // mdadm's numbers (add_internal_bitmap1).
  internal: {
    headerBytes: 256,
    regionsPerByte: 8,
    regionBytesMin: 4 * KIB,
    regionBytesMax: 2 ** 31,
    regionBytesDefault: 64 * KIB * KIB,
    daemonSleepSeconds: 5,
  },
};

/** Up to the end of the superblock, and a bad block log: what mdadm counts before a bitmap. */
const METADATA_SECTORS = 24;
/** md refuses a smaller data area (super_1_load). */
export const DATA_SIZE_SECTORS_MIN = 10;
const HEADROOM_SECTORS_MAX = 262144;
const RAID1_UNIT_SECTORS = 128;
const MEBIBYTE_SECTORS = 2048;

export interface LayoutRequest {
  /** Names the member in errors. */
  readonly path: string;
  readonly deviceBytes: number;
  readonly level: LevelName;
  readonly raidDisks: number;
  readonly spares: number;
  /** Null for levels that do not stripe. */
  readonly chunkBytes: number | null;
  readonly bitmap: BitmapKind | "none";
}

export interface MemberLayout {
  readonly dataOffsetSectors: number;
  /** All that is behind the data offset. */
  readonly dataSizeSectors: number;
  /** What an array can use of it: whole chunks, at level 1 whole 64 KiB. */
  readonly usedSizeSectors: number;
  /** 0 for no bitmap. The space for one is left nevertheless. */
  readonly bitmapOffsetSectors: number;
  readonly maxDev: number;
}

/**
 * Throws member-too-small if not one chunk (level 1: 64 KiB, linear: 10 sectors) fits, usage if the
 * superblock has no room for so many devices.
 */
export function planLayout(request: LayoutRequest): MemberLayout {
  const { path, deviceBytes, level, chunkBytes, bitmap } = request;
  const deviceSectors = Math.floor(deviceBytes / 512);
  const dataOffset = dataOffsetSectors(deviceSectors, chunkBytes);
  const dataSize = deviceSectors - dataOffset;
  const unit = unitSectors(level, chunkBytes);
  const least = Math.max(unit, DATA_SIZE_SECTORS_MIN);
  if (dataSize < least) {
    const needed = (dataOffset + least) * 512;
    const message = `${path}: has ${deviceBytes} bytes and needs ${needed} at least`;
    throw new NbdRaidError("member-too-small", message);
  }
  return {
    dataOffsetSectors: dataOffset,
    dataSizeSectors: dataSize,
    usedSizeSectors: dataSize - (dataSize % unit),
    bitmapOffsetSectors: bitmap === "none" ? 0 : BITMAP_OFFSET_SECTORS,
    maxDev: maxDevFor(request.raidDisks + request.spares),
  };
}

/** `bytes` or a little more: what an array uses of a member is a whole number of units. */
export function roundUpToUnit(bytes: number, level: LevelName, chunkBytes: number | null): number {
  const unitBytes = unitSectors(level, chunkBytes) * 512;
  return Math.ceil(bytes / unitBytes) * unitBytes;
}

/** The length of a member that has `usableBytes` behind its data offset. */
export function deviceBytesFor(usableBytes: number, chunkBytes: number | null): number {
  const usable = Math.ceil(usableBytes / 512);
  let device = usable;
  // The offset grows with the device, in few steps: this ends at the smallest device that fits.
  for (;;) {
    const needed = usable + dataOffsetSectors(device, chunkBytes);
    if (needed === device) return device * 512;
    device = needed;
  }
}

/**
 * The region size for `trackedBytes` of the array: the smallest power of two, from the default on,
 * whose states fit behind the header in `reservedSectors`. The kernel's llbitmap forgets the header.
 */
export function regionBytesFor(
  kind: BitmapKind,
  trackedBytes: number,
  reservedSectors: number,
): number {
  const { regionBytesDefault } = BITMAP_FORMATS[kind];
  return smallestFrom(regionBytesDefault, kind, trackedBytes, reservedSectors);
}

/** The smallest region size that may be asked for. */
export function regionBytesLeast(
  kind: BitmapKind,
  trackedBytes: number,
  reservedSectors: number,
): number {
  const { regionBytesMin } = BITMAP_FORMATS[kind];
  return smallestFrom(regionBytesMin, kind, trackedBytes, reservedSectors);
}

/** True if a region of `regionBytes` may be asked for. */
export function regionBytesAllowed(
  kind: BitmapKind,
  regionBytes: number,
  trackedBytes: number,
  reservedSectors: number,
): boolean {
  const { regionBytesMin, regionBytesMax } = BITMAP_FORMATS[kind];
  return (
    Number.isInteger(Math.log2(regionBytes)) &&
    regionBytes >= regionBytesMin &&
    regionBytes <= regionBytesMax &&
    regionsFit(kind, trackedBytes, regionBytes, reservedSectors)
  );
}

/** Regions of `region` in `tracked`, the last one perhaps short. Both in the same unit. */
export function regionCount(tracked: number, region: number): number {
  return Math.ceil(tracked / region);
}

/** Bytes of a bitmap of so many regions, header and states together. */
export function bitmapBytes(kind: BitmapKind, regions: number): number {
  const { headerBytes, regionsPerByte } = BITMAP_FORMATS[kind];
  return headerBytes + Math.ceil(regions / regionsPerByte);
}

function smallestFrom(
  regionBytes: number,
  kind: BitmapKind,
  trackedBytes: number,
  reservedSectors: number,
): number {
  let smallest = regionBytes;
  while (!regionsFit(kind, trackedBytes, smallest, reservedSectors)) smallest *= 2;
  return smallest;
}

function regionsFit(
  kind: BitmapKind,
  trackedBytes: number,
  regionBytes: number,
  reservedSectors: number,
): boolean {
  const regions = regionCount(trackedBytes, regionBytes);
  return bitmapBytes(kind, regions) <= reservedSectors * 512;
}

/**
 * As mdadm's validate_geometry1: headroom of at most 128 MiB and about 1/1024 of the device, but
 * never less than two chunks; all rounded up to a MiB.
 */
function dataOffsetSectors(deviceSectors: number, chunkBytes: number | null): number {
  const headroomMin = chunkBytes === null ? 1 : (2 * chunkBytes) / 512;
  let headroom = HEADROOM_SECTORS_MAX;
  while (headroom * 1024 > deviceSectors && headroom >= 2 * headroomMin) headroom /= 2;
  const end = METADATA_SECTORS + BITMAP_RESERVED_SECTORS + headroom;
  return Math.ceil(end / MEBIBYTE_SECTORS) * MEBIBYTE_SECTORS;
}

/** Sectors of which the used size is a whole number. */
function unitSectors(level: LevelName, chunkBytes: number | null): number {
  if (level === "1") return RAID1_UNIT_SECTORS;
  return chunkBytes === null ? 1 : chunkBytes / 512;
}

/** As mdadm: roles fill the superblock up to a sector, 128 of them at least. */
function maxDevFor(devices: number): number {
  if (devices > MAX_DEV)
    throw new NbdRaidError("usage", `${devices} devices; an array has ${MAX_DEV} at most`);
  const bytes = Math.ceil((256 + 2 * devices) / 512) * 512;
  return (bytes - 256) / 2;
}
