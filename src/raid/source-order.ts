import { byWriteMostly } from "./legs.ts";
import type { Leg, Legs } from "./level.ts";

/**
 * Legs in sync in the order in which pinned reads and syncs ask them: by slot, write-mostly ones
 * last. Whoever comes into sync later is put behind the others, so that whatever is read first of
 * the legs that hold it stays so while it is in sync.
 */
export class SourceOrder<L extends Leg> {
  private readonly legs: Legs<L>;
  /** The legs that the order is of; `Legs` gives another array when they change. */
  private current: readonly L[] = [];
  private order: L[] = [];
  /** By slot: the place in the order. */
  private ranks: (number | undefined)[] = [];

  constructor(legs: Legs<L>) {
    this.legs = legs;
  }

  ranked(): readonly L[] {
    this.refresh();
    return this.order;
  }

  /** Infinity: nobody in sync is there. */
  rankOf(slot: number): number {
    this.refresh();
    return this.ranks[slot] ?? Infinity;
  }

  private refresh(): void {
    const { inSync } = this.legs;
    if (inSync === this.current) return;
    const stayed = this.order.filter((leg) => inSync.includes(leg));
    const joined = inSync.filter((leg) => !this.order.includes(leg)).sort(byWriteMostly);
    this.current = inSync;
    this.order = [...stayed, ...joined];
    this.ranks = [];
    for (const [rank, leg] of this.order.entries()) this.ranks[leg.slot ?? 0] = rank;
  }
}
