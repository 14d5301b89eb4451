import type { Extent, StripingGeometry } from "./geometry.ts";

/** What a level without redundancy has of its own. */
export interface StripingPlan {
  readonly sizeBytes: number;
  readonly stripeBytes: number;
  readonly raidDisks: number;
  readonly locate: (offset: number) => Extent;
  readonly bytesBefore: (slot: number, offset: number) => number;
}

/** What levels 0 and linear share: a lost member is lost, and there is nothing to track. */
export function stripingGeometry(plan: StripingPlan): StripingGeometry {
  const { sizeBytes, stripeBytes, raidDisks, locate, bytesBefore } = plan;
  return {
    kind: "striping",
    sizeBytes,
    trackedBytes: sizeBytes,
    stripeBytes,
    redundant: false,
    survives: (has) => {
      for (let slot = 0; slot < raidDisks; slot++) if (!has(slot)) return false;
      return true;
    },
    trackedStart: (offset) => offset,
    trackedEnd: (offset, length) => offset + length,
    memberDone: () => 0,
    trackedDone: () => 0,
    locate,
    bytesBefore,
  };
}
