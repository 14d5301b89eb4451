/** New arrays on simulated disks, and what lies on disks without the help of the engine. */
import { STATE_FORMATS } from "../../src/bitmap/on-disk.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { encodeBitmapSuperblock } from "../../src/metadata/bitmap-superblock.ts";
import { FEATURE_BITMAP_OFFSET, FEATURE_RAID0_LAYOUT } from "../../src/metadata/features.ts";
import { NO_UPDATE } from "../../src/metadata/known-zero.ts";
import {
  BITMAP_FORMATS,
  BITMAP_OFFSET_SECTORS,
  BITMAP_RESERVED_SECTORS,
  type BitmapKind,
  deviceBytesFor,
  type MemberLayout,
  planLayout,
  regionBytesFor,
  regionCount,
  roundUpToUnit,
} from "../../src/metadata/layout.ts";
import { type LevelName, LEVELS } from "../../src/metadata/levels.ts";
import {
  DEVFLAG_WRITE_MOSTLY,
  emptySuperblock,
  encodeSuperblock,
  ROLE_SPARE,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../src/metadata/superblock.ts";
import { type Timestamp, timestampAt } from "../../src/metadata/timestamp.ts";
import { formatUuid, UUID_BYTES } from "../../src/metadata/uuid.ts";
import { arrayBytes, type OracleShape } from "../raid/oracle-placement.ts";
import { trackedBytes } from "../raid/oracle.ts";
import type { World } from "./world.ts";

export interface Shape {
  readonly level: LevelName;
  /** md's number; 0 where a level has no layouts. */
  readonly layout: number;
  /** 0 at level 1. */
  readonly chunkBytes: number;
  readonly raidDisks: number;
  /** Of each member, for data. */
  readonly sizeBytes: number;
  /** By slot, in place of that: levels 0 and linear take members of any size. */
  readonly sizes?: readonly number[];
  readonly bitmap: BitmapKind | "none";
  /** Of an internal bitmap, in place of {@link REGION_BYTES_INTERNAL}. */
  readonly regionBytes?: number;
  /** Slot 0 is read from last. */
  readonly writeMostly: boolean;
  /** As mdadm makes it: what is Unwritten may hold anything. */
  readonly unknown?: boolean;
}

/** Mostly a lockless bitmap, often an internal one of any region size, sometimes none. */
export function chooseBitmap(world: World): Pick<Shape, "bitmap" | "regionBytes"> {
  const kind = world.random();
  if (kind < 0.6) return { bitmap: "lockless" };
  if (kind >= 0.85) return { bitmap: "none" };
  return { bitmap: "internal", regionBytes: world.pick([4, 64, 1024]) * 1024 };
}

/** Now and then so slow that one larger region is synced in many pieces, with writers in between. */
export function chooseSyncSpeed(world: World): { readonly syncSpeedMax?: number } {
  return world.chance(0.3) ? { syncSpeedMax: world.pick([256, 1024]) * 1024 } : {};
}

/** What level 1 does not have. */
export const MIRROR = { level: "1", layout: 0, chunkBytes: 0 } as const;

const EVENTS = 1;
/** Small enough that a small array has regions enough. */
export const REGION_BYTES_INTERNAL = 64 * 1024;

export function newUuid(world: World): Uint8Array {
  return Uint8Array.from({ length: UUID_BYTES }, () => world.below(256));
}

/** A disk as large as the members of the shape, the one of `slot` if they differ. */
export function blankDisk(shape: Shape, slot = 0): SimulatedDisk {
  return new SimulatedDisk(deviceBytesFor(usableBytes(shape, slot), chunkOf(shape)));
}

/** The disks of a new array, by path, as `create` leaves them. */
export function newArrayDisks(world: World, shape: Shape): Map<string, SimulatedDisk> {
  const uuid = formatUuid(newUuid(world));
  const created = timestampAt(world.clock.wallTime());
  const disks = Array.from({ length: shape.raidDisks }, (_, slot) => {
    const disk = blankDisk(shape, slot);
    const layout = layoutOf(shape, disk);
    const empty = emptySuperblock(layout.maxDev);
    const superblock = encodeSuperblock({
      ...empty,
      featureMap:
        (shape.bitmap !== "none" ? FEATURE_BITMAP_OFFSET : 0) |
        (shape.level === "0" ? FEATURE_RAID0_LAYOUT : 0),
      ...{ setUuid: uuid, setName: "sim", ctime: created, utime: created, events: EVENTS },
      ...{ level: LEVELS[shape.level], layout: shape.layout, raidDisks: shape.raidDisks },
      sizeSectors: isRedundant(shape) ? usableBytes(shape, slot) / 512 : 0,
      chunksizeSectors: shape.chunkBytes / 512,
      bitmapOffsetSectors: layout.bitmapOffsetSectors,
      dataOffsetSectors: layout.dataOffsetSectors,
      dataSizeSectors: layout.dataSizeSectors,
      devNumber: slot,
      deviceUuid: formatUuid(newUuid(world)),
      devflags: shape.writeMostly && slot === 0 ? DEVFLAG_WRITE_MOSTLY : 0,
      resyncOffsetSectors: "clean",
      roles: empty.roles.map((_, number) => (number < shape.raidDisks ? number : ROLE_SPARE)),
    });
    if (shape.bitmap !== "none") {
      const offset = SUPERBLOCK_OFFSET_BYTES + BITMAP_OFFSET_SECTORS * 512;
      put(disk, encodeBitmap(shape.bitmap, shape, uuid, created), offset);
    }
    put(disk, superblock, SUPERBLOCK_OFFSET_BYTES);
    return [`/disk${slot}`, disk] as const;
  });
  return new Map(disks);
}

function encodeBitmap(kind: BitmapKind, shape: Shape, uuid: string, utime: Timestamp): Uint8Array {
  const tracked = trackedBytes(oracleShape(shape));
  const { headerBytes, daemonSleepSeconds } = BITMAP_FORMATS[kind];
  const regionBytes =
    kind === "internal"
      ? (shape.regionBytes ?? REGION_BYTES_INTERNAL)
      : regionBytesFor(kind, tracked, BITMAP_RESERVED_SECTORS);
  const newest = { events: EVENTS, utime };
  const isZero = kind === "lockless" && shape.unknown !== true;
  const header = encodeBitmapSuperblock({
    kind,
    uuid,
    events: EVENTS,
    eventsCleared: EVENTS,
    syncSizeSectors: tracked / 512,
    state: 0,
    regionSectors: regionBytes / 512,
    daemonSleepSeconds,
    writeBehind: 0,
    sectorsReserved: BITMAP_RESERVED_SECTORS,
    knownZero: isZero ? { newest, older: NO_UPDATE } : null,
  });
  const bytes = new Uint8Array(BITMAP_RESERVED_SECTORS * 512);
  bytes.set(header);
  const states = new Uint8Array(regionCount(tracked, regionBytes));
  states.fill(kind === "lockless" ? State.Unwritten : State.Clean);
  bytes.set(STATE_FORMATS[kind].pack(states), headerBytes);
  return bytes;
}

/** The shape as the oracle takes it. */
export function oracleShape(shape: Shape): OracleShape {
  const { level, layout, chunkBytes, raidDisks } = shape;
  const slots = Array.from({ length: raidDisks }, (_, slot) => slot);
  return {
    ...{ level: LEVELS[level], layout, chunkBytes, raidDisks },
    componentBytes: isRedundant(shape) ? usableBytes(shape, 0) : 0,
    dataBytes: slots.map((slot) => layoutOf(shape, blankDisk(shape, slot)).dataSizeSectors * 512),
  };
}

/** What clients of the array see. */
export const sizeOf = (shape: Shape): number => arrayBytes(oracleShape(shape));

export const isRedundant = ({ level }: Shape): boolean => level !== "0" && level !== "linear";

function usableBytes(shape: Shape, slot: number): number {
  const { level, sizes, sizeBytes } = shape;
  return roundUpToUnit(sizes?.[slot] ?? sizeBytes, level, chunkOf(shape));
}

const chunkOf = ({ chunkBytes }: Shape): number | null => (chunkBytes === 0 ? null : chunkBytes);

function layoutOf(shape: Shape, { sizeBytes: deviceBytes }: SimulatedDisk): MemberLayout {
  const { level, raidDisks, bitmap } = shape;
  const chunkBytes = chunkOf(shape);
  return planLayout({ path: "", deviceBytes, level, raidDisks, spares: 0, chunkBytes, bitmap });
}

/** Byte offset of the data area: the same on every disk of a shape with redundancy. */
export function dataOffset(shape: Shape): number {
  return layoutOf(shape, blankDisk(shape)).dataOffsetSectors * 512;
}

/** Writes behind the engine's back, durably. */
export function put(disk: SimulatedDisk, bytes: Uint8Array, offset: number): void {
  const write = disk.begin(bytes, offset);
  disk.takeEffect(write);
  disk.complete(write);
  disk.makeDurable(disk.now);
}

/** What a running machine would read. */
export function contents(disk: SimulatedDisk, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  disk.read(bytes, offset);
  return bytes;
}
