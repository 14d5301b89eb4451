import type { SyncControl } from "../sync/control.ts";
import type { SyncFailure } from "../sync/engine.ts";

/**
 * Slots that were reported by a run for blocks that nobody can stand in for. Once each is enough to
 * be told: what they hold is needed, and more reports could cost them their place in the array.
 */
export class NamedSlots {
  private readonly byRun = new WeakMap<SyncControl, Set<number>>();

  /** Those of `failed` that were not named before in this run; they are from now on. */
  add(control: SyncControl, failed: ReadonlyMap<number, SyncFailure>): Map<number, SyncFailure> {
    const named = this.byRun.get(control) ?? new Set();
    this.byRun.set(control, named);
    const fresh = new Map([...failed].filter(([slot]) => !named.has(slot)));
    for (const slot of fresh.keys()) named.add(slot);
    return fresh;
  }
}
