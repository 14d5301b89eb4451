/** New arrays on simulated disks, and what lies on disks without the help of the engine. */
import type { CreateRequest } from "../../src/array/create-request.ts";
import {
  encodeNewBitmap,
  encodeNewSuperblock,
  layoutOf,
  type NewArray,
} from "../../src/array/new-array.ts";
import { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { BITMAP_OFFSET_SECTORS, deviceBytesFor, roundUpToUnit } from "../../src/metadata/layout.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../../src/metadata/superblock.ts";
import { timestampAt } from "../../src/metadata/timestamp.ts";
import { formatUuid, UUID_BYTES } from "../../src/metadata/uuid.ts";
import type { World } from "./world.ts";

export interface Shape {
  readonly raidDisks: number;
  readonly sizeBytes: number;
  readonly bitmap: "lockless" | "none";
  /** Slot 0 is read from last. */
  readonly writeMostly: boolean;
}

export function newUuid(world: World): Uint8Array {
  return Uint8Array.from({ length: UUID_BYTES }, () => world.below(256));
}

export function blankDisk(shape: Shape): SimulatedDisk {
  const sizeBytes = roundUpToUnit(shape.sizeBytes, "1", null);
  return new SimulatedDisk(deviceBytesFor(sizeBytes, null));
}

/** The disks of a new array, by path, as `create` leaves them. */
export function newArrayDisks(world: World, shape: Shape): Map<string, SimulatedDisk> {
  const paths = Array.from({ length: shape.raidDisks }, (_, slot) => `/disk${slot}`);
  const request: CreateRequest = {
    name: "sim",
    level: "1",
    members: paths,
    sizeBytes: shape.sizeBytes,
    bitmap: shape.bitmap,
    assumeClean: false,
    preallocate: false,
    spares: 0,
    writeMostly: [],
    force: false,
  };
  const array: NewArray = {
    request,
    uuid: formatUuid(newUuid(world)),
    created: timestampAt(world.clock.wallTime()),
    sizeBytes: roundUpToUnit(shape.sizeBytes, "1", null),
  };
  const disks = paths.map((path, devNumber) => {
    const disk = blankDisk(shape);
    const device = {
      ...{ path, devNumber, deviceBytes: disk.sizeBytes },
      writeMostly: shape.writeMostly && devNumber === 0,
      uuid: formatUuid(newUuid(world)),
    };
    if (shape.bitmap === "lockless") {
      const offset = SUPERBLOCK_OFFSET_BYTES + BITMAP_OFFSET_SECTORS * 512;
      put(disk, encodeNewBitmap(array), offset);
    }
    put(disk, encodeNewSuperblock(array, device), SUPERBLOCK_OFFSET_BYTES);
    return [path, disk] as const;
  });
  return new Map(disks);
}

/** Byte offset of the data area: the same on every disk of the shape. */
export function dataOffset(shape: Shape): number {
  const deviceBytes = blankDisk(shape).sizeBytes;
  const device = { path: "", deviceBytes, devNumber: 0, writeMostly: false, uuid: "" };
  const request = { members: [""], spares: 0, bitmap: shape.bitmap } as unknown as CreateRequest;
  return layoutOf(device, request).dataOffsetSectors * 512;
}

function put(disk: SimulatedDisk, bytes: Uint8Array, offset: number): void {
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
