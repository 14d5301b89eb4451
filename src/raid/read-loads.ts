import type { Leg } from "./level.ts";

/** More than any number of reads under way. */
const WRITE_MOSTLY_LOAD = 1e6;

/**
 * What legs are busy with, for levels that can read the same bytes from several: a stream stays on
 * its leg; other reads go to the least busy, in turn; write-mostly ones are asked last.
 */
export class ReadLoads {
  /** Which of several equal legs comes first: another one for each read. */
  turn = 0;
  /** By slot: where on the member the last read ended, for sequential streams. */
  private readonly tails: number[] = [];
  /** By slot: reads under way in the pool. */
  private readonly busy: number[] = [];

  /** A read at this offset of the data area would continue the leg's last one. */
  continues(leg: Leg, offset: number): boolean {
    return !leg.writeMostly && this.tails[leg.slot ?? 0] === offset;
  }

  /** The leg with the lowest is to be asked. */
  of(leg: Leg): number {
    return (this.busy[leg.slot ?? 0] ?? 0) + (leg.writeMostly ? WRITE_MOSTLY_LOAD : 0);
  }

  /** A read of the leg ends there, in its data area. */
  readTo(leg: Leg, end: number): void {
    this.tails[leg.slot ?? 0] = end;
  }

  /** Counts the leg as busy meanwhile. */
  async during<T>(leg: Leg, work: () => Promise<T>): Promise<T> {
    const slot = leg.slot ?? 0;
    this.busy[slot] = (this.busy[slot] ?? 0) + 1;
    try {
      return await work();
    } finally {
      this.busy[slot] = this.busy[slot] - 1;
    }
  }
}
