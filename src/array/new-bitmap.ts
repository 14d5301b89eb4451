/** The bytes of a bitmap that is made anew, by `create` or `convert`. No I/O. */
import { STATE_FORMATS } from "../bitmap/on-disk.ts";
import type { State } from "../bitmap/transitions.ts";
import { NbdRaidError } from "../errors.ts";
import { type BitmapSuperblock, encodeBitmapSuperblock } from "../metadata/bitmap-superblock.ts";
import {
  BITMAP_FORMATS,
  type BitmapKind,
  regionBytesAllowed,
  regionBytesLeast,
  regionCount,
} from "../metadata/layout.ts";

/** A bitmap of which nothing is to be initialised or repaired. */
export type NewBitmap = Omit<BitmapSuperblock, "state">;

/** All of the space reserved for the bitmap, every region in the same state. */
export function encodeBitmap(bitmap: NewBitmap, regionState: State): Uint8Array {
  const { kind, syncSizeSectors, regionSectors, sectorsReserved } = bitmap;
  const states = new Uint8Array(regionCount(syncSizeSectors, regionSectors)).fill(regionState);
  const bytes = new Uint8Array(sectorsReserved * 512);
  bytes.set(encodeBitmapSuperblock({ ...bitmap, state: 0 }));
  bytes.set(STATE_FORMATS[kind].pack(states), BITMAP_FORMATS[kind].headerBytes);
  return bytes;
}

/** Where and for what a region size is wanted. */
export interface RegionRoom {
  /** Names the command in errors. */
  readonly command: string;
  readonly kind: BitmapKind;
  readonly trackedBytes: number;
  /** Header and states together. */
  readonly reservedSectors: number;
}

/** Throws usage, and says what is possible. */
export function refuseRegionBytes(regionBytes: number, room: RegionRoom): void {
  const { command, kind, trackedBytes, reservedSectors } = room;
  if (regionBytesAllowed(kind, regionBytes, trackedBytes, reservedSectors)) return;
  const min = regionBytesLeast(kind, trackedBytes, reservedSectors);
  const max = BITMAP_FORMATS[kind].regionBytesMax;
  throw new NbdRaidError(
    "usage",
    `${command}: a region size of ${regionBytes} bytes is not possible here: it must be a power ` +
      `of two, ${min} at least and ${max} at most`,
  );
}
