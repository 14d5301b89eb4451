/** Member images compared and damaged directly, behind the program's back. */
import { open } from "node:fs/promises";
import { expect } from "vitest";
import { dataArea, mdadmExamine } from "../interop/images.ts";
import { BLOCK_BYTES } from "./blocks.ts";

const COMPARE_BYTES = 1024 * 1024;
/** The bitmap superblock is 4096 bytes behind the superblock (md-bitmap.h). */
const BITMAP_OFFSET = 8192;
const VERSION_AT = 4;
const CHUNKSIZE_AT = 52;
/** Version 6, lockless: sectors; states behind 1024 bytes, one byte a region, marked from 2 on. */
const LOCKLESS = 6;
const LOCKLESS_STATES_AT = 1024;
const DIRTY = 2;
/** Version 4, internal: bytes; behind 256 bytes a bit a region. */
const INTERNAL_BITS_AT = 256;
const AREA_BYTES = 128 * 1024;

/** Fails unless the data areas hold the same in their first `sizeBytes`: the array's size. */
export async function expectEqualData(images: readonly string[], sizeBytes: number): Promise<void> {
  const [reference, ...others] = images;
  for (const other of others) {
    expect(await firstDifference(reference!, other, sizeBytes), `differs: ${other}`).toBeNull();
  }
}

/** The offset of the first piece that differs, or null. */
async function firstDifference(
  one: string,
  other: string,
  sizeBytes: number,
): Promise<number | null> {
  const starts = await Promise.all([one, other].map(async (path) => (await dataArea(path)).start));
  const files = await Promise.all([one, other].map((path) => open(path)));
  const buffers = files.map(() => Buffer.alloc(COMPARE_BYTES));
  try {
    for (let at = 0; at < sizeBytes; at += COMPARE_BYTES) {
      const length = Math.min(COMPARE_BYTES, sizeBytes - at);
      const reads = files.map((file, i) => file.read(buffers[i]!, 0, length, starts[i]! + at));
      const [first, second] = await Promise.all(reads);
      if (first!.bytesRead !== length || second!.bytesRead !== length) return at;
      if (!buffers[0]!.subarray(0, length).equals(buffers[1]!.subarray(0, length))) return at;
    }
    return null;
  } finally {
    await Promise.all(files.map((file) => file.close()));
  }
}

/** mdadm reads every image's superblock, and its checksum is right. */
export async function expectExamined(images: readonly string[]): Promise<void> {
  for (const image of images) {
    expect((await mdadmExamine(image)).get("Checksum")).toMatch(/ - correct$/);
  }
}

export interface Marked {
  readonly regionBytes: number;
  readonly regions: ReadonlySet<number>;
}

/** The regions that some image calls Dirty, NeedSync or Syncing, in a bitmap of either kind. */
export async function markedRegions(images: readonly string[], sizeBytes: number): Promise<Marked> {
  const regions = new Set<number>();
  let regionBytes = 0;
  for (const image of images) {
    const file = await open(image);
    try {
      const { buffer } = await file.read(Buffer.alloc(AREA_BYTES), 0, AREA_BYTES, BITMAP_OFFSET);
      const isLockless = buffer.readUInt32LE(VERSION_AT) === LOCKLESS;
      regionBytes = buffer.readUInt32LE(CHUNKSIZE_AT) * (isLockless ? 512 : 1);
      for (let region = 0; region * regionBytes < sizeBytes; region++) {
        const bits = buffer[INTERNAL_BITS_AT + Math.floor(region / 8)]!;
        const marked = isLockless
          ? buffer[LOCKLESS_STATES_AT + region]! >= DIRTY
          : ((bits >> (region % 8)) & 1) === 1;
        if (marked) regions.add(region);
      }
    } finally {
      await file.close();
    }
  }
  return { regionBytes, regions };
}

/** A block of the array as one member holds it. */
export async function readBlock(image: string, block: number): Promise<Buffer> {
  const { start } = await dataArea(image);
  const file = await open(image);
  try {
    const position = start + block * BLOCK_BYTES;
    return (await file.read(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES, position)).buffer;
  } finally {
    await file.close();
  }
}

/** Overwrites the first half of each block, as a write that was cut off by a power loss. */
export async function tearBlocks(image: string, blocks: readonly number[]): Promise<void> {
  const { start } = await dataArea(image);
  const file = await open(image, "r+");
  try {
    const half = Buffer.alloc(BLOCK_BYTES / 2, "torn");
    for (const block of blocks) {
      await file.write(half, 0, half.length, start + block * BLOCK_BYTES);
    }
  } finally {
    await file.close();
  }
}
