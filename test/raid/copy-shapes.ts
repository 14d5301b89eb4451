/** Arrays of level 10 for tests. */
import type { ArrayShape, CopiesGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { BLOCK } from "./level-bench.ts";

export const CHUNK = BLOCK;

/** md's layout numbers. */
const NAMES: Readonly<Record<string, number>> = {
  n2: 0x102,
  n3: 0x103,
  f2: 0x201,
  f3: 0x301,
  o2: 0x10201,
  o3: 0x10301,
  n2f2: 0x202,
  f2sets: 0x40201,
};

/** `chunks`: on each member. */
export function copiesShape(name: string, raidDisks: number, chunks = 12): ArrayShape {
  const componentBytes = chunks * CHUNK;
  const dataBytes = new Array<number>(raidDisks).fill(componentBytes);
  return {
    level: 10,
    layout: NAMES[name]!,
    chunkBytes: CHUNK,
    raidDisks,
    componentBytes,
    dataBytes,
  };
}

export const copiesGeometry = (shape: ArrayShape): CopiesGeometry =>
  geometryOf(shape) as CopiesGeometry;

/** Layouts on numbers of members that they fill evenly, and on others. */
export const COPIES_SHAPES: readonly (readonly [string, number])[] = [
  ["n2", 2],
  ["n2", 3],
  ["n2", 4],
  ["n2", 5],
  ["n3", 4],
  ["f2", 2],
  ["f2", 3],
  ["f2", 5],
  ["f3", 4],
  ["o2", 2],
  ["o2", 4],
  ["o2", 5],
  ["o3", 5],
  ["n2f2", 4],
  ["f2sets", 4],
];
