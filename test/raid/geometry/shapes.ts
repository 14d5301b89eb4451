import type { ArrayShape } from "../../../src/raid/geometry/geometry.ts";

/** A chunk of the tests: the smallest there is. */
export const CHUNK = 4096;
export const MIB = 1024 * 1024;

/** An array of `raidDisks` members that hold `chunks` chunks each. */
export function shapeOf(
  level: number,
  layout: number,
  raidDisks: number,
  options: Partial<ArrayShape> & { readonly chunks?: number } = {},
): ArrayShape {
  const { chunks = 12, chunkBytes = CHUNK, ...rest } = options;
  const componentBytes = chunks * chunkBytes;
  const dataBytes = Array.from({ length: raidDisks }, () => componentBytes);
  return { level, layout, chunkBytes, raidDisks, componentBytes, dataBytes, ...rest };
}

/** Sets of slots, as functions that ask for one. */
export function allSets(raidDisks: number): ReadonlySet<number>[] {
  return Array.from(
    { length: 2 ** raidDisks },
    (_, bits) =>
      new Set([...new Array(raidDisks).keys()].filter((slot) => Math.floor(bits / 2 ** slot) % 2)),
  );
}
