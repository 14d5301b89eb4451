import type { Timestamp } from "../metadata/timestamp.ts";

/** What never changes while an array runs. Sizes are bytes. */
export interface ArrayDescription {
  readonly name: string;
  /** As mdadm prints it. */
  readonly uuid: string;
  /** md's number. */
  readonly level: number;
  readonly layout: number;
  readonly chunkBytes: number;
  readonly raidDisks: number;
  /** What the array uses of each member's data area. */
  readonly componentBytes: number;
  /** What clients see. */
  readonly sizeBytes: number;
  readonly ctime: Timestamp;
  readonly bitmap: "lockless" | "none";
  /** What one bitmap byte covers; without a bitmap, what one sync window covers at least. */
  readonly regionBytes: number;
  /** Sectors from the superblock to the bitmap superblock, 0 without one. */
  readonly bitmapOffsetSectors: number;
  readonly bitmapReservedSectors: number;
}
