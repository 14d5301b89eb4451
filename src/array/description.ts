import type { BitmapSuperblock } from "../metadata/bitmap-superblock.ts";
import type { BitmapKind } from "../metadata/layout.ts";
import type { Timestamp } from "../metadata/timestamp.ts";
import type { AnyGeometry, ArrayShape } from "../raid/geometry/geometry.ts";

type KeptFields = Pick<BitmapSuperblock, "daemonSleepSeconds" | "writeBehind" | "sectorsReserved">;

/** What never changes while an array runs. Sizes are bytes. */
export interface ArrayDescription {
  readonly name: string;
  /** As mdadm prints it. */
  readonly uuid: string;
  readonly ctime: Timestamp;
  readonly shape: ArrayShape;
  /** Of that shape. */
  readonly geometry: AnyGeometry;
  readonly bitmap: BitmapKind | "none";
  /** What one state of the bitmap covers; without a bitmap, what one sync window covers at least. */
  readonly regionBytes: number;
  /** Sectors from the superblock to the bitmap superblock, 0 without one. */
  readonly bitmapOffsetSectors: number;
  /** What its superblock says for md's sake, and goes on to say. */
  readonly bitmapKept: KeptFields;
}
