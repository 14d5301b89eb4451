/**
 * Shapes that there can be no array of: those md refuses to run (the run functions of raid0.c,
 * raid5.c and raid10.c; mdadm's Create.c), and those whose data would be lost.
 */
import { isPowerOfTwo } from "./arithmetic.ts";
import type { ArrayShape } from "./geometry.ts";
import { conversionName } from "./layouts.ts";
import { linearMemberBytes } from "./linear.ts";
import { parityLayout } from "./parity-layouts.ts";
import { RAID0_ALTERNATE, RAID0_ORIGINAL, raid0LayoutMatters } from "./raid0.ts";
import { raid10LayoutRefusal } from "./raid10-layout.ts";

/** Says in words what is wrong with a shape, or null. */
type Refusal = (shape: ArrayShape) => string | null;

const CHUNK_BYTES_MIN = 4096;
const SECTOR_BYTES = 512;
/** Exponents of Q are modulo 255: with more data chunks, two would have the same weight. */
const RAID6_DISKS_MAX = 256;
const RAID6_DDF_DISKS_MAX = 255;

const slots =
  (least: number): Refusal =>
  ({ level, raidDisks }) =>
    raidDisks >= least ? null : `level ${level} has ${least} slots at least, not ${raidDisks}`;

const wholeChunk: Refusal = ({ level, chunkBytes }) =>
  isPowerOfTwo(chunkBytes) && chunkBytes >= CHUNK_BYTES_MIN
    ? null
    : `a chunk of ${chunkBytes} bytes: level ${level} needs a power of two, ` +
      `${CHUNK_BYTES_MIN} at least`;

const sectorChunk: Refusal = ({ level, chunkBytes }) =>
  chunkBytes % SECTOR_BYTES === 0 && (chunkBytes > 0 || level === -1)
    ? null
    : `a chunk of ${chunkBytes} bytes is no number of sectors`;

const room =
  (chunksOf: (shape: ArrayShape) => number): Refusal =>
  (shape) =>
    shape.componentBytes >= chunksOf(shape) * shape.chunkBytes
      ? null
      : `${shape.componentBytes} bytes of a member have no room for ${chunksOf(shape)} chunks ` +
        `of ${shape.chunkBytes}`;

const roomOnEach: Refusal = (shape) => {
  const empty = linearMemberBytes(shape).findIndex((bytes) => bytes === 0);
  if (empty === -1) return null;
  return `the member of slot ${empty} has ${shape.dataBytes[empty]} bytes, not one chunk`;
};

const raid0Layout: Refusal = (shape) => {
  if (shape.layout === RAID0_ORIGINAL || shape.layout === RAID0_ALTERNATE) return null;
  if (!raid0LayoutMatters(shape)) return null;
  return "members of several sizes, and not known which layout of level 0: original or alternate";
};

const knownParityLayout: Refusal = ({ level, layout }) => {
  if (parityLayout(level, layout) !== null) return null;
  const conversion = level === 6 ? conversionName(layout) : null;
  if (conversion === null) return `layout ${layout} of level ${level} is unknown`;
  return `layout ${conversion} of level 6: a raid5 to raid6 conversion in progress`;
};

const raid6Slots: Refusal = ({ layout, raidDisks }) => {
  const most =
    parityLayout(6, layout)?.exponents === "slots" ? RAID6_DDF_DISKS_MAX : RAID6_DISKS_MAX;
  return raidDisks <= most ? null : `level 6 has ${most} slots at most here, not ${raidDisks}`;
};

const oneChunk = room(() => 1);

/** By md's number. In this order: later ones rely on what earlier ones found right. */
const REFUSALS: ReadonlyMap<number, readonly Refusal[]> = new Map([
  [-1, [slots(1), sectorChunk, roomOnEach]],
  [0, [slots(1), sectorChunk, roomOnEach, raid0Layout]],
  [1, [slots(1), ({ componentBytes }) => (componentBytes > 0 ? null : "members have no room")]],
  [4, [slots(2), wholeChunk, oneChunk]],
  [5, [slots(2), wholeChunk, knownParityLayout, oneChunk]],
  [6, [slots(4), wholeChunk, knownParityLayout, raid6Slots, oneChunk]],
  [
    10,
    [
      slots(2),
      wholeChunk,
      ({ layout, raidDisks }) => raid10LayoutRefusal(layout, raidDisks),
      room(({ layout }) => (layout >>> 8) & 0xff),
    ],
  ],
]);

/** Why there can be no array of this shape, in words without a path; null: there can. */
export function shapeRefusal(shape: ArrayShape): string | null {
  const refusals = REFUSALS.get(shape.level);
  if (refusals === undefined) return `level ${shape.level} is unknown`;
  for (const refusal of refusals) {
    const found = refusal(shape);
    if (found !== null) return found;
  }
  return null;
}
