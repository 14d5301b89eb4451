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

/** What of a shape is known before its members are. */
export type ArrayForm = Pick<ArrayShape, "level" | "layout" | "chunkBytes" | "raidDisks">;

/** Says in words what is wrong, or null. */
type Refusal<Subject> = (subject: Subject) => string | null;

const CHUNK_BYTES_MIN = 4096;
/** md counts the sectors of a chunk in an int. */
const CHUNK_SECTORS_MAX = 2 ** 31 - 1;
const SECTOR_BYTES = 512;
/** Exponents of Q are modulo 255: with more data chunks, two would have the same weight. */
const RAID6_DISKS_MAX = 256;
const RAID6_DDF_DISKS_MAX = 255;

const slots =
  (least: number): Refusal<ArrayForm> =>
  ({ level, raidDisks }) =>
    raidDisks >= least
      ? null
      : `level ${wordOf(level)} needs ${least} slots at least, not ${raidDisks}`;

const smallChunk: Refusal<ArrayForm> = ({ chunkBytes }) =>
  chunkBytes / SECTOR_BYTES <= CHUNK_SECTORS_MAX
    ? null
    : `a chunk of ${chunkBytes} bytes is too large`;

const wholeChunk: Refusal<ArrayForm> = (form) => {
  const { level, chunkBytes } = form;
  if (isPowerOfTwo(chunkBytes) && chunkBytes >= CHUNK_BYTES_MIN) return smallChunk(form);
  const needed = `level ${level} needs a power of two, ${CHUNK_BYTES_MIN} at least`;
  return `a chunk of ${chunkBytes} bytes: ${needed}`;
};

const sectorChunk: Refusal<ArrayForm> = (form) => {
  const { level, chunkBytes } = form;
  if (chunkBytes % SECTOR_BYTES !== 0) return `a chunk of ${chunkBytes} bytes is no whole sectors`;
  return chunkBytes === 0 && level === 0 ? "level 0 needs chunks" : smallChunk(form);
};

const knownParityLayout: Refusal<ArrayForm> = ({ level, layout }) => {
  if (parityLayout(level, layout) !== null) return null;
  const conversion = level === 6 ? conversionName(layout) : null;
  if (conversion === null) return `layout ${layout} of level ${level} is unknown`;
  return `layout ${conversion} of level 6: a raid5 to raid6 conversion in progress`;
};

const raid6Slots: Refusal<ArrayForm> = ({ layout, raidDisks }) => {
  const byDdf = parityLayout(6, layout)?.exponents === "slots";
  const most = byDdf ? RAID6_DDF_DISKS_MAX : RAID6_DISKS_MAX;
  return raidDisks <= most
    ? null
    : `level 6 has ${most} slots at most in this layout, not ${raidDisks}`;
};

const soundCopies: Refusal<ArrayForm> = ({ layout, raidDisks }) =>
  raid10LayoutRefusal(layout, raidDisks);

/** By md's number. In this order: later ones rely on what earlier ones found right. */
const FORM_REFUSALS: ReadonlyMap<number, readonly Refusal<ArrayForm>[]> = new Map([
  [-1, [slots(1), sectorChunk]],
  [0, [slots(1), sectorChunk]],
  [1, [slots(1)]],
  [4, [slots(2), wholeChunk]],
  [5, [slots(2), wholeChunk, knownParityLayout]],
  [6, [slots(4), wholeChunk, knownParityLayout, raid6Slots]],
  [10, [slots(2), wholeChunk, soundCopies]],
]);

const room =
  (chunksOf: (shape: ArrayShape) => number): Refusal<ArrayShape> =>
  (shape) => {
    const chunks = chunksOf(shape);
    if (shape.componentBytes >= chunks * shape.chunkBytes) return null;
    const needed = chunks === 1 ? "a chunk" : `${chunks} chunks`;
    return `${shape.componentBytes} bytes of a member have no room for ${needed} of ${shape.chunkBytes}`;
  };

const someRoom: Refusal<ArrayShape> = ({ componentBytes }) =>
  componentBytes > 0 ? null : "members have no room";

const roomOnEach: Refusal<ArrayShape> = (shape) => {
  const empty = linearMemberBytes(shape).findIndex((bytes) => bytes === 0);
  if (empty === -1) return null;
  return `the member of slot ${empty} has ${shape.dataBytes[empty]} bytes, not one chunk`;
};

const raid0Layout: Refusal<ArrayShape> = (shape) => {
  if (shape.layout === RAID0_ORIGINAL || shape.layout === RAID0_ALTERNATE) return null;
  if (!raid0LayoutMatters(shape)) return null;
  return "members of several sizes, and not known which layout of level 0: original or alternate";
};

const SIZE_REFUSALS: ReadonlyMap<number, readonly Refusal<ArrayShape>[]> = new Map([
  [-1, [roomOnEach]],
  [0, [roomOnEach, raid0Layout]],
  [1, [someRoom]],
  [4, [room(() => 1)]],
  [5, [room(() => 1)]],
  [6, [room(() => 1)]],
  [10, [room(({ layout }) => (layout >>> 8) & 0xff)]],
]);

/** Why there can be no array of this form, whatever its members, in words; null: there can. */
export function formRefusal(form: ArrayForm): string | null {
  const refusals = FORM_REFUSALS.get(form.level);
  if (refusals === undefined) return `level ${form.level} is unknown`;
  return firstOf(refusals, form);
}

/** Why there can be no array of this shape, in words without a path; null: there can. */
export function shapeRefusal(shape: ArrayShape): string | null {
  return formRefusal(shape) ?? firstOf(SIZE_REFUSALS.get(shape.level) ?? [], shape);
}

function firstOf<Subject>(refusals: readonly Refusal<Subject>[], subject: Subject): string | null {
  for (const refusal of refusals) {
    const found = refusal(subject);
    if (found !== null) return found;
  }
  return null;
}

function wordOf(level: number): string {
  return level === -1 ? "linear" : String(level);
}
