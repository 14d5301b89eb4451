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

export function editBitmap(
  machine: Machine,
  path: string,
  fields: Partial<BitmapSuperblock>,
): void {
  const bytes = contents(machine.disk(path), BITMAP_OFFSET_BYTES, 1024);
  const after = encodeBitmapSuperblock({ ...decodeBitmapSuperblock(bytes, path), ...fields });
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
