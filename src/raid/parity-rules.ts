import type { SyncRange } from "../sync/engine.ts";
import type { StripeMap } from "./geometry/geometry.ts";

/** How far a sync believes parity, and what it does about it. */
export interface ParityRules {
  /** Parity is good: what is lost follows from it. */
  readonly trusts: boolean;
  /** Parity is compared with the data. */
  readonly verifies: boolean;
  /** Parity that is not as the data say is written anew. */
  readonly corrects: boolean;
}

export function rulesFor({ action, everywhere, unbuilt }: SyncRange): ParityRules {
  return {
    // A repair is what a user accepts the parity with that a crash has left.
    trusts: !everywhere || action === "repair",
    verifies: action !== "recovery" || everywhere || unbuilt,
    corrects: action !== "check",
  };
}

/** What a sync can do with a stripe, some slots of which are lost. */
export interface StripeFate {
  /** Indexes into the stripe's data: what is lost of it. */
  readonly lostData: readonly number[];
  /** For P and for Q: it is lost (or the level has none), it is needed for lost data, it is compared. */
  readonly p: ParityUse;
  readonly q: ParityUse;
}

export type ParityUse = "none" | "lost" | "needed" | "verified" | "unused";

/**
 * Judges a stripe of which some slots are lost. `unknown`: data is lost, and parity is not to be
 * trusted; `unreadable`: more is lost than the level can bear.
 */
export function judgeStripe(
  map: StripeMap,
  isLost: (slot: number) => boolean,
  { trusts, verifies }: ParityRules,
): StripeFate | "unknown" | "unreadable" {
  const lostData: number[] = [];
  for (const [index, slot] of map.data.entries()) if (isLost(slot)) lostData.push(index);
  const spare: ParityUse = verifies ? "verified" : "unused";
  let missing = lostData.length;
  const use = (slot: number): ParityUse => {
    if (slot < 0) return "none";
    if (isLost(slot)) return "lost";
    return missing-- > 0 ? "needed" : spare;
  };
  const p = use(map.p);
  const q = use(map.q);
  if (lostData.length === 0) return { lostData, p, q };
  if (missing > 0) return "unreadable";
  return trusts ? { lostData, p, q } : "unknown";
}
