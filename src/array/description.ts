import type { Timestamp } from "../metadata/timestamp.ts";
import type { AnyGeometry, ArrayShape } from "../raid/geometry/geometry.ts";

/** What never changes while an array runs. Sizes are bytes. */
export interface ArrayDescription {
  readonly name: string;
  /** As mdadm prints it. */
  readonly uuid: string;
  readonly ctime: Timestamp;
  readonly shape: ArrayShape;
  /** Of that shape. */
  readonly geometry: AnyGeometry;
  readonly bitmap: "lockless" | "none";
  /** What one bitmap byte covers; without a bitmap, what one sync window covers at least. */
  readonly regionBytes: number;
  /** Sectors from the superblock to the bitmap superblock, 0 without one. */
  readonly bitmapOffsetSectors: number;
  readonly bitmapReservedSectors: number;
}
