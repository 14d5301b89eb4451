/** The plan of an array to be made: sizes, and the bytes each member will start with. No I/O. */
import { NbdRaidError } from "../errors.ts";
import { State } from "../bitmap/transitions.ts";
import { FEATURE_BITMAP_OFFSET, FEATURE_RAID0_LAYOUT } from "../metadata/features.ts";
import { NO_UPDATE } from "../metadata/known-zero.ts";
import {
  BITMAP_FORMATS,
  BITMAP_RESERVED_SECTORS,
  type BitmapKind,
  deviceBytesFor,
  type MemberLayout,
  planLayout,
  regionBytesFor,
  roundUpToUnit,
} from "../metadata/layout.ts";
import {
  DEVFLAG_WRITE_MOSTLY,
  emptySuperblock,
  encodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
} from "../metadata/superblock.ts";
import type { Timestamp } from "../metadata/timestamp.ts";
import type { AnyGeometry, ArrayShape } from "../raid/geometry/geometry.ts";
import { geometryOf } from "../raid/geometry/of.ts";
import { type CreateRequest, formOf, levelOf, membersOf, MISSING } from "./create-request.ts";
import { encodeBitmap, type NewBitmap, refuseRegionBytes } from "./new-bitmap.ts";

/** The first update of the array. */
const EVENTS = 1;

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
  readonly shape: ArrayShape;
  /** Of that shape. */
  readonly geometry: AnyGeometry;
}

/** How long an absent image file becomes. Throws member-unreadable if the size was not given. */
export function absentDeviceBytes(path: string, request: CreateRequest): number {
  if (request.sizeBytes === undefined)
    throw new NbdRaidError("member-unreadable", `${path} does not exist: --size makes it`);
  const deviceBytes = deviceBytesFor(wholeUnits(request.sizeBytes, request), chunksOf(request));
  if (Number.isSafeInteger(deviceBytes)) return deviceBytes;
  throw new NbdRaidError("usage", `create: a size of ${request.sizeBytes} bytes is too large`);
}

/** Throws member-too-small. */
export function layoutOf(device: NewDevice, request: CreateRequest): MemberLayout {
  return planLayout({
    path: device.path,
    deviceBytes: device.deviceBytes,
    level: levelOf(request),
    raidDisks: membersOf(request).length,
    spares: request.spares,
    chunkBytes: chunksOf(request),
    bitmap: request.bitmap,
  });
}

/**
 * What an array of these devices looks like. Throws member-too-small; usage if there can be none,
 * or if what is missing would leave it without some of its data.
 */
export function planShape(
  devices: readonly NewDevice[],
  request: CreateRequest,
): Pick<NewArray, "shape" | "geometry"> {
  const layouts = devices.map((device) => layoutOf(device, request));
  const form = formOf(request);
  const dataBytes = new Array<number>(form.raidDisks).fill(0);
  for (const [index, { devNumber }] of devices.entries())
    if (devNumber < form.raidDisks) dataBytes[devNumber] = layouts[index]!.dataSizeSectors * 512;
  const used = layouts.map(({ usedSizeSectors }) => usedSizeSectors * 512);
  const shape = { ...form, componentBytes: componentBytes(devices, used, request), dataBytes };
  const geometry = newGeometry(shape);
  refuseMissing(geometry, request);
  return { shape, geometry };
}

function newGeometry(shape: ArrayShape): AnyGeometry {
  try {
    return geometryOf(shape);
  } catch (error) {
    if (!(error instanceof NbdRaidError)) throw error;
    throw new NbdRaidError("usage", `create: ${error.message}`, { cause: error });
  }
}

/** The size asked for, in whole units, or the one of the smallest. */
function componentBytes(
  devices: readonly NewDevice[],
  used: readonly number[],
  request: CreateRequest,
): number {
  if (request.sizeBytes === undefined) return Math.min(...used);
  const sizeBytes = wholeUnits(request.sizeBytes, request);
  const small = devices.find((_, index) => used[index]! < sizeBytes);
  if (small === undefined) return sizeBytes;
  const needed = deviceBytesFor(sizeBytes, chunksOf(request));
  const message = `${small.path}: has ${small.deviceBytes} bytes and needs ${needed}`;
  throw new NbdRaidError("member-too-small", message);
}

function refuseMissing(geometry: AnyGeometry, request: CreateRequest): void {
  const members = membersOf(request);
  if (geometry.survives((slot) => members[slot] !== MISSING)) return;
  const missing = [...members.keys()].filter((slot) => members[slot] === MISSING);
  const slots = `${missing.length === 1 ? "slot" : "slots"} ${missing.join(", ")}`;
  throw new NbdRaidError(
    "usage",
    `create: ${slots} missing: level ${request.level} on ${members.length} slots needs more`,
  );
}

function wholeUnits(bytes: number, request: CreateRequest): number {
  return roundUpToUnit(bytes, levelOf(request), chunksOf(request));
}

/** Null: the level has none, or none are asked for. */
function chunksOf(request: CreateRequest): number | null {
  return formOf(request).chunkBytes || null;
}

export function encodeNewSuperblock(array: NewArray, device: NewDevice): Uint8Array {
  const { request, created, shape } = array;
  const layout = layoutOf(device, request);
  const empty = emptySuperblock(layout.maxDev);
  return encodeSuperblock({
    ...empty,
    featureMap:
      (request.bitmap !== "none" ? FEATURE_BITMAP_OFFSET : 0) |
      (shape.level === 0 ? FEATURE_RAID0_LAYOUT : 0),
    setUuid: array.uuid,
    setName: request.name,
    // In whole seconds: md takes all 64 bits for them, and mdadm --detail would find another array.
    ctime: { seconds: created.seconds, microseconds: 0 },
    utime: created,
    events: EVENTS,
    level: shape.level,
    layout: shape.layout,
    // As mdadm: levels that use all of each member say nothing here.
    sizeSectors: array.geometry.redundant ? shape.componentBytes / 512 : 0,
    chunksizeSectors: shape.chunkBytes / 512,
    raidDisks: shape.raidDisks,
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

/** All of the space reserved for a bitmap of this kind, the same for each member. Throws usage. */
export function encodeNewBitmap(kind: BitmapKind, array: NewArray): Uint8Array {
  const { request, uuid, created, geometry } = array;
  const { trackedBytes } = geometry;
  const reservedSectors = BITMAP_RESERVED_SECTORS;
  const regionBytes = request.regionBytes ?? regionBytesFor(kind, trackedBytes, reservedSectors);
  refuseRegionBytes(regionBytes, { command: "create", kind, trackedBytes, reservedSectors });
  const isZero = kind === "lockless" && !request.assumeClean;
  const bitmap: NewBitmap = {
    kind,
    uuid,
    events: EVENTS,
    // 0 is unknown: what is missing now can only be added in full.
    eventsCleared: membersOf(request).includes(MISSING) ? 0 : EVENTS,
    syncSizeSectors: trackedBytes / 512,
    regionSectors: regionBytes / 512,
    daemonSleepSeconds: BITMAP_FORMATS[kind].daemonSleepSeconds,
    writeBehind: 0,
    sectorsReserved: reservedSectors,
    knownZero: isZero ? { newest: { events: EVENTS, utime: created }, older: NO_UPDATE } : null,
  };
  // Members that are zero are equal, and so is their parity: all Clean where nothing says more.
  return encodeBitmap(bitmap, isZero ? State.Unwritten : State.Clean);
}
