/** The levels, layouts and chunks that syncs are tested with. */
import { LAYOUTS, levelNumber, titleOf } from "../raid/oracle-shapes.ts";
import type { OracleShape } from "../raid/oracle-placement.ts";
import { REGION_BYTES } from "./level-bench.ts";

export interface LevelCase {
  readonly title: string;
  readonly shape: OracleShape;
}

const KiB = 1024;

/** Chunks much smaller than a region, and larger than one. */
const CHUNKS: readonly number[] = [4 * KiB, 32 * KiB];
/** Not a multiple of a region, nor of the larger chunk. */
const COMPONENT_BYTES = 6 * REGION_BYTES + 4 * KiB;

function shapeOf(
  level: number,
  layout: number,
  chunkBytes: number,
  raidDisks: number,
): OracleShape {
  return { level, layout, chunkBytes, raidDisks, componentBytes: COMPONENT_BYTES, dataBytes: [] };
}

/** Every layout of every level that has redundancy; with small chunks of several widths. */
export const LEVEL_CASES: readonly LevelCase[] = LAYOUTS.filter(
  ({ level }) => level !== "0" && level !== "linear",
).flatMap((layout) =>
  (layout.level === "1" ? [0] : CHUNKS).flatMap((chunkBytes) =>
    (chunkBytes > REGION_BYTES ? [1] : [0, 1, 2]).map((more) => {
      const raidDisks = layout.least + more;
      const chunk = chunkBytes === 0 ? "" : `, chunk ${chunkBytes / KiB} KiB`;
      return {
        title: `${titleOf(layout)} of ${raidDisks}${chunk}`,
        shape: shapeOf(levelNumber(layout.level), layout.layout, chunkBytes, raidDisks),
      };
    }),
  ),
);

/** One case of a level, for what does not depend on its layout. */
export function shapeOfLevel(
  level: 1 | 4 | 5 | 6 | 10,
  raidDisks: number,
  options: { layout?: number; chunkBytes?: number } = {},
): OracleShape {
  const layouts = { 1: 0, 4: 0, 5: 2, 6: 2, 10: 0x102 };
  const { layout = layouts[level], chunkBytes = level === 1 ? 0 : 16 * KiB } = options;
  return shapeOf(level, layout, chunkBytes, raidDisks);
}
