/** What lies on the disks of a machine that is off, read and changed without the engine. */
import type { State } from "../../src/bitmap/transitions.ts";
import {
  type BitmapSuperblock,
  decodeBitmapSuperblock,
  encodeBitmapSuperblock,
} from "../../src/metadata/bitmap-superblock.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../src/metadata/superblock.ts";
import { contents } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";

export const BITMAP_OFFSET_BYTES = 8192;
export const STATES_OFFSET_BYTES = BITMAP_OFFSET_BYTES + 1024;

function put(machine: Machine, path: string, bytes: Uint8Array, offset: number): void {
  const disk = machine.disk(path);
  const change = disk.begin(bytes, offset);
  disk.takeEffect(change);
  disk.complete(change);
  disk.makeDurable(disk.now);
}

export function superblockOn(machine: Machine, path: string): Superblock {
  const disk = machine.disk(path);
  const bytes = contents(disk, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
  return decodeSuperblock(bytes, path, disk.sizeBytes / 512);
}

export function bitmapOn(machine: Machine, path: string): BitmapSuperblock {
  const { bitmapOffsetSectors } = superblockOn(machine, path);
  const offset = SUPERBLOCK_OFFSET_BYTES + bitmapOffsetSectors * 512;
  return decodeBitmapSuperblock(contents(machine.disk(path), offset, 1024), path);
}

export function editBitmap(
  machine: Machine,
  path: string,
  fields: Partial<BitmapSuperblock>,
): void {
  const after = encodeBitmapSuperblock({ ...bitmapOn(machine, path), ...fields });
  put(machine, path, after, BITMAP_OFFSET_BYTES);
}

export function editSuperblock(machine: Machine, path: string, fields: Partial<Superblock>): void {
  const after = encodeSuperblock({ ...superblockOn(machine, path), ...fields });
  put(machine, path, after, SUPERBLOCK_OFFSET_BYTES);
}

export function stateOn(machine: Machine, path: string, region: number): number {
  return contents(machine.disk(path), STATES_OFFSET_BYTES + region, 1)[0]!;
}

export function editState(machine: Machine, path: string, region: number, state: State): void {
  put(machine, path, Uint8Array.of(state), STATES_OFFSET_BYTES + region);
}

/** A region's bit in an internal bitmap. */
export function bitOn(machine: Machine, path: string, region: number): number {
  return (bitsOn(machine, path, region) >> (region % 8)) & 1;
}

export function editBit(machine: Machine, path: string, region: number, set: boolean): void {
  const bit = 1 << (region % 8);
  const before = bitsOn(machine, path, region);
  put(machine, path, Uint8Array.of(set ? before | bit : before & ~bit), byteOf(region));
}

const byteOf = (region: number): number => BITMAP_OFFSET_BYTES + 256 + Math.floor(region / 8);

function bitsOn(machine: Machine, path: string, region: number): number {
  return contents(machine.disk(path), byteOf(region), 1)[0]!;
}
