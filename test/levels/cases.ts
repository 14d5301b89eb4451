/** The arrays that tests of levels run: each level and layout, short chunks and long ones. */
import { LAYOUTS, type Layout, titleOf } from "../raid/oracle-shapes.ts";
import type { Shape } from "../sim/disks.ts";

const KiB = 1024;
const isLong = process.env["NBD_RAID_LONG"] === "1";

export interface Case {
  readonly title: string;
  readonly shape: Shape;
}

/** Of a short chunk there are many in a region of the bitmap, of a long one several regions in it. */
const CHUNKS = [
  { chunkBytes: 4 * KiB, memberBytes: 392 * KiB },
  { chunkBytes: 512 * KiB, memberBytes: 2048 * KiB },
];

const WIDE = 7;

/** How many members: of each layout one number that it is at home with, and others in the long form. */
function memberCounts({ level, least }: Layout): number[] {
  if (level === "linear" || level === "0") return isLong ? [1, 2, 3, 5] : [3];
  if (level === "1") return isLong ? [2, 3] : [2];
  if (level === "10") return isLong ? [least, least + 1, least + 2, least + 3] : [least + 1];
  return isLong ? [Math.max(3, least), 4, 5, 6, 8] : [level === "6" ? 5 : 4];
}

function* casesOf(layout: Layout): Iterable<Case> {
  const { level } = layout;
  for (const members of memberCounts(layout)) {
    for (const { chunkBytes, memberBytes } of level === "1" ? CHUNKS.slice(1) : CHUNKS) {
      // So many that it pays to change parity by what changed, where that is quickly done.
      const wide = !isLong && level === "6" && chunkBytes === CHUNKS[0]!.chunkBytes;
      const raidDisks = wide ? WIDE : members;
      const slots = Array.from({ length: raidDisks }, (_, slot) => slot);
      const unredundant = level === "linear" || level === "0";
      // Odd lengths, so that there are zones and rests.
      const sizes = slots.map((slot) => memberBytes - ((slot * 2) % 3) * chunkBytes + slot * 512);
      yield {
        title: `${titleOf(layout)}, ${raidDisks} members, chunks of ${chunkBytes / KiB}K`,
        shape: {
          level,
          layout: layout.layout,
          chunkBytes: level === "1" ? 0 : chunkBytes,
          raidDisks,
          sizeBytes: memberBytes,
          ...(unredundant ? { sizes } : {}),
          bitmap: unredundant ? "none" : "lockless",
          writeMostly: false,
        },
      };
    }
  }
}

export const CASES: readonly Case[] = LAYOUTS.flatMap((layout) => [...casesOf(layout)]);

const COMMON = [/^level (linear|1|4)/, /original/, /alternate/, /left-symmetric/, /10 [nfo]2/];

/** One or two layouts of each level; all in the long form. */
export function isCommon({ title }: Case): boolean {
  return isLong || COMMON.some((common) => common.test(title));
}

const WITH_INTERNAL = /^level (1|4),|left-symmetric|10 n2/;

/** Those of each level with redundancy, with md's classic bitmap; all layouts in the long form. */
export const INTERNAL_CASES: readonly Case[] = CASES.filter(
  ({ title, shape }) => shape.bitmap === "lockless" && (isLong || WITH_INTERNAL.test(title)),
).map(({ title, shape }) => ({
  title: `${title}, internal bitmap`,
  // Larger ones are synced piece by piece where syncs are slow.
  shape: { ...shape, bitmap: "internal", regionBytes: Math.max(64 * KiB, shape.chunkBytes) },
}));
