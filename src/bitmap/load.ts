import { type Doubt, REGIONS_PER_BLOCK, type Regions } from "./regions.ts";
import { Action, type Conditions, State, stateFromDisk, worse } from "./transitions.ts";

/** How the bytes of the members become states (durability: load rules). */
export type LoadRule =
  /** The bitmap has seen every write: Dirty and Syncing become NeedSync. */
  | "reload"
  /** The bitmap has missed writes: everything may differ, also what is Unwritten. */
  | "stale"
  /** mdadm has just made it: bytes mean nothing, all Unwritten. */
  | "first-use"
  /** The same with --assume-clean: all Clean. */
  | "first-use-clean";

/**
 * Fills `regions` from the copies (region bytes of each fresh in-sync member) by `rule`; each
 * region takes the worst byte found. `doubt`: how far members fit together where a sync is needed.
 * Blocks that some member does not hold as they are now are left marked as changed.
 */
export function loadRegions(
  regions: Regions,
  copies: readonly Uint8Array[],
  rule: LoadRule,
  conditions: Conditions,
  doubt: Doubt,
): void {
  for (let region = 0; region < regions.count; region++) {
    regions.force(region, initialState(copies, region, rule));
    if (rule === "reload") regions.apply(region, Action.Reload, conditions);
    if (rule === "stale") regions.apply(region, Action.Stale, conditions);
    if (regions.state(region) === State.NeedSync) regions.setDoubt(region, doubt);
  }
  for (let block = 0; block < regions.blocks; block++) {
    if (copies.length > 0 && copies.every((copy) => holds(copy, regions, block))) {
      regions.takeChanged(block);
    }
  }
}

function initialState(copies: readonly Uint8Array[], region: number, rule: LoadRule): State {
  if (rule === "first-use") return State.Unwritten;
  if (rule === "first-use-clean") return State.Clean;
  let state: State = State.Unwritten;
  for (const copy of copies) state = worse(state, stateFromDisk(copy[region]!));
  return state;
}

/** A block that demands as much on disk as in memory need not be written before it is trusted. */
function holds(copy: Uint8Array, regions: Regions, block: number): boolean {
  const first = block * REGIONS_PER_BLOCK;
  const end = Math.min(first + REGIONS_PER_BLOCK, regions.count);
  for (let region = first; region < end; region++) {
    const inMemory = regions.state(region);
    const byte = copy[region]!;
    const marked = byte === State.Dirty || byte === State.NeedSync || byte === State.Syncing;
    if (inMemory !== byte && !(inMemory === State.NeedSync && marked)) return false;
  }
  return true;
}
