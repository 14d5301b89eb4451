import type { ArrayShape, MirrorGeometry } from "./geometry.ts";
import { clamp } from "./arithmetic.ts";

/** Level 1: every member holds the array's bytes at the same offsets. */
export function mirrorGeometry({ componentBytes, raidDisks }: ArrayShape): MirrorGeometry {
  const identity = (bytes: number): number => clamp(bytes, componentBytes);
  return {
    kind: "mirror",
    sizeBytes: componentBytes,
    trackedBytes: componentBytes,
    stripeBytes: 0,
    redundant: true,
    survives: (has) => {
      for (let slot = 0; slot < raidDisks; slot++) if (has(slot)) return true;
      return false;
    },
    trackedStart: (offset) => offset,
    trackedEnd: (offset, length) => offset + length,
    memberDone: identity,
    trackedDone: identity,
  };
}
