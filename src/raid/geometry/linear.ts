import { clamp, roundDown } from "./arithmetic.ts";
import type { ArrayShape, StripingGeometry } from "./geometry.ts";
import { stripingGeometry } from "./striping.ts";

/** Level linear: members one behind the other in slot order, rounded down to chunks if there are any. */
export function linearGeometry(shape: ArrayShape): StripingGeometry {
  const { raidDisks } = shape;
  /** By slot: where in the array the member ends. */
  const ends: number[] = [];
  let end = 0;
  for (const bytes of linearMemberBytes(shape)) ends.push((end += bytes));
  return stripingGeometry({
    sizeBytes: end,
    stripeBytes: 0,
    raidDisks,
    locate: (offset) => {
      let slot = 0;
      while (offset >= ends[slot]! && slot < raidDisks - 1) slot++;
      const start = slot === 0 ? 0 : ends[slot - 1]!;
      return { slot, offset: offset - start, length: ends[slot]! - offset };
    },
    bytesBefore: (slot, offset) => {
      const start = slot === 0 ? 0 : ends[slot - 1]!;
      return clamp(offset - start, ends[slot]! - start);
    },
  });
}

/** By slot: what the array uses of each member. */
export function linearMemberBytes({ dataBytes, chunkBytes, raidDisks }: ArrayShape): number[] {
  const used = dataBytes.slice(0, raidDisks);
  return chunkBytes === 0 ? used : used.map((bytes) => roundDown(bytes, chunkBytes));
}
