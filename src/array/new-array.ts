/** The plan of an array to be made: sizes, and the bytes each member will start with. No I/O. */
import { NbdRaidError } from "../errors.ts";
import { encodeBitmapSuperblock } from "../metadata/bitmap-superblock.ts";
import { State } from "../bitmap/transitions.ts";
import { FEATURE_BITMAP_OFFSET } from "../metadata/features.ts";
import { NO_UPDATE } from "../metadata/known-zero.ts";
import {
  BITMAP_HEADER_BYTES,
  BITMAP_RESERVED_SECTORS,
  deviceBytesFor,
  type MemberLayout,
  planLayout,
  regionBytesAllowed,
  regionBytesFor,
  regionCount,
  roundUpToUnit,
} from "../metadata/layout.ts";
import { LEVELS } from "../metadata/levels.ts";
import {
  DEVFLAG_WRITE_MOSTLY,
  emptySuperblock,
  encodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
} from "../metadata/superblock.ts";
import type { Timestamp } from "../metadata/timestamp.ts";
import { type CreateRequest, membersOf, MISSING } from "./create-request.ts";

const LEVEL = "1";
/** The first update of the array. */
const EVENTS = 1;
const DAEMON_SLEEP_SECONDS = 30;

/** A member that is, or will be, `deviceBytes` long. */
export interface NewDevice {
  readonly path: string;
  readonly deviceBytes: number;
  /** Position in the request: the slot, or behind all slots for a spare. */
  readonly devNumber: number;
  readonly writeMostly: boolean;
  /** As mdadm prints it. */
  readonly uuid: string;
}

/** What all members share. */
export interface NewArray {
  readonly request: CreateRequest;
  /** As mdadm prints it. */
  readonly uuid: string;
  readonly created: Timestamp;
  /** What the array uses of each member; at level 1 also what clients see. */
  readonly sizeBytes: number;
}

/** How long an absent image file becomes. Throws member-unreadable if the size was not given. */
export function absentDeviceBytes(path: string, request: CreateRequest): number {
  if (request.sizeBytes === undefined)
    throw new NbdRaidError("member-unreadable", `${path} does not exist: --size makes it`);
  const deviceBytes = deviceBytesFor(roundUpToUnit(request.sizeBytes, LEVEL, null), null);
  if (Number.isSafeInteger(deviceBytes)) return deviceBytes;
  throw new NbdRaidError("usage", `create: a size of ${request.sizeBytes} bytes is too large`);
}

/** Throws member-too-small. */
export function layoutOf(device: NewDevice, request: CreateRequest): MemberLayout {
  return planLayout({
    path: device.path,
    deviceBytes: device.deviceBytes,
    level: LEVEL,
    raidDisks: membersOf(request).length,
    spares: request.spares,
    chunkBytes: null,
    bitmap: request.bitmap === "lockless" ? "lockless" : "none",
  });
}

/** The size asked for, in whole units, or the one of the smallest. Throws member-too-small. */
export function arraySizeBytes(devices: readonly NewDevice[], request: CreateRequest): number {
  const usable = devices.map((device) => layoutOf(device, request).usedSizeSectors * 512);
  if (request.sizeBytes === undefined) return Math.min(...usable);
  const sizeBytes = roundUpToUnit(request.sizeBytes, LEVEL, null);
  const small = devices.find((_, index) => usable[index]! < sizeBytes);
  if (small === undefined) return sizeBytes;
  const needed = deviceBytesFor(sizeBytes, null);
  const message = `${small.path}: has ${small.deviceBytes} bytes and needs ${needed}`;
  throw new NbdRaidError("member-too-small", message);
}

export function encodeNewSuperblock(array: NewArray, device: NewDevice): Uint8Array {
  const { request, created } = array;
  const layout = layoutOf(device, request);
  const empty = emptySuperblock(layout.maxDev);
  return encodeSuperblock({
    ...empty,
    featureMap: request.bitmap === "lockless" ? FEATURE_BITMAP_OFFSET : 0,
    setUuid: array.uuid,
    setName: request.name,
    ctime: created,
    utime: created,
    events: EVENTS,
    level: LEVELS[LEVEL],
    sizeSectors: array.sizeBytes / 512,
    raidDisks: membersOf(request).length,
    bitmapOffsetSectors: layout.bitmapOffsetSectors,
    dataOffsetSectors: layout.dataOffsetSectors,
    dataSizeSectors: layout.dataSizeSectors,
    devNumber: device.devNumber,
    deviceUuid: device.uuid,
    devflags: device.writeMostly ? DEVFLAG_WRITE_MOSTLY : 0,
    // Nothing to resync: members are zero, or their owner says that they are equal.
    resyncOffsetSectors: "clean",
    roles: empty.roles.map((_, number) => roleOf(number, request)),
  });
}

function roleOf(devNumber: number, request: CreateRequest): number {
  const member = membersOf(request)[devNumber];
  if (member === undefined) return ROLE_SPARE;
  return member === MISSING ? ROLE_FAULTY : devNumber;
}

/** All of the space reserved for the bitmap, the same for each member. Throws usage. */
export function encodeNewBitmap({ request, uuid, created, sizeBytes }: NewArray): Uint8Array {
  const regionBytes = request.regionBytes ?? regionBytesFor(sizeBytes, BITMAP_RESERVED_SECTORS);
  refuseRegionBytes(regionBytes, sizeBytes);
  const bytes = new Uint8Array(BITMAP_RESERVED_SECTORS * 512);
  const header = encodeBitmapSuperblock({
    uuid,
    events: EVENTS,
    // 0 is unknown: what is missing now can only be added in full.
    eventsCleared: membersOf(request).includes(MISSING) ? 0 : EVENTS,
    syncSizeSectors: sizeBytes / 512,
    state: 0,
    regionSectors: regionBytes / 512,
    daemonSleepSeconds: DAEMON_SLEEP_SECONDS,
    writeBehind: 0,
    sectorsReserved: BITMAP_RESERVED_SECTORS,
    knownZero: request.assumeClean
      ? null
      : { newest: { events: EVENTS, utime: created }, older: NO_UPDATE },
  });
  bytes.set(header);
  const state = request.assumeClean ? State.Clean : State.Unwritten;
  const states = bytes.subarray(BITMAP_HEADER_BYTES);
  states.fill(state, 0, regionCount(sizeBytes, regionBytes));
  return bytes;
}

function refuseRegionBytes(regionBytes: number, sizeBytes: number): void {
  if (regionBytesAllowed(regionBytes, sizeBytes, BITMAP_RESERVED_SECTORS)) return;
  const min = regionBytesFor(sizeBytes, BITMAP_RESERVED_SECTORS);
  throw new NbdRaidError(
    "usage",
    `create: a region size of ${regionBytes} bytes is not possible here: it must be a power ` +
      `of two, ${min} at least`,
  );
}
