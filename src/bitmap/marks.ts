import type { Regions } from "./regions.ts";
import { REGIONS_PER_BLOCK } from "./regions.ts";

/** Where bitmap blocks go: every active member. */
export interface BitmapStore {
  /**
   * Writes the states of blocks `first`, `first + 1`, ... of the bitmap to every active member, and resolves
   * when they are durable on each that is still active. A member that fails is ejected and
   * recorded meanwhile; rejects if the states are durable nowhere or space is missing.
   */
  writeBlocks(first: number, states: Uint8Array): Promise<void>;
}

/**
 * Durable marks by block, with group commit.
 *
 * Invariant (durable before data): a writer issues data only when `durable[block]` has reached
 * the `marked[block]` it saw after its own transition, whoever made the mark. A write of a block
 * makes durable the marks that were in the copy it wrote, no others; a block has one write under
 * way at a time, so copies reach the disk in order.
 */
export class BlockMarks {
  private readonly regions: Regions;
  private readonly store: BitmapStore;
  private readonly marked: Float64Array;
  private readonly durable: Float64Array;
  private readonly writing = new Map<number, Promise<void>>();
  blocksWritten = 0;

  constructor(regions: Regions, store: BitmapStore) {
    this.regions = regions;
    this.store = store;
    this.marked = new Float64Array(regions.blocks);
    this.durable = new Float64Array(regions.blocks);
  }

  mark(block: number): void {
    this.marked[block] = this.marked[block]! + 1;
  }

  isDurable(block: number): boolean {
    return this.durable[block]! >= this.marked[block]!;
  }

  /** Resolves when every mark made in the block so far is durable. */
  async commit(block: number): Promise<void> {
    const sequence = this.marked[block]!;
    while (this.durable[block]! < sequence) {
      const underway = this.writing.get(block);
      if (underway === undefined) await this.write(block, block + 1);
      // A write that began before our mark does not cover it; its failure is not ours either.
      else await underway.catch(() => undefined);
    }
  }

  /** Writes every block that changed since it was last written; resolves when they are durable. */
  async flush(): Promise<void> {
    // What a write under way took with it counts as written only when that write has ended.
    const all: Promise<void>[] = [...this.writing.values()];
    for (let block = 0; block < this.regions.blocks; block++) {
      if (!this.regions.isChanged(block)) continue;
      let end = block + 1;
      while (end < this.regions.blocks && this.regions.isChanged(end)) end++;
      all.push(this.writeWhenFree(block, end));
      block = end;
    }
    await Promise.all(all);
  }

  private async writeWhenFree(first: number, end: number): Promise<void> {
    for (;;) {
      const underway: Promise<void>[] = [];
      for (let block = first; block < end; block++) {
        const write = this.writing.get(block);
        if (write !== undefined) underway.push(write);
      }
      if (underway.length === 0) return this.write(first, end);
      await Promise.allSettled(underway);
    }
  }

  /** Writes blocks [first, end) as they are now. None of them may have a write under way. */
  private write(first: number, end: number): Promise<void> {
    const bytes = new Uint8Array((end - first) * REGIONS_PER_BLOCK);
    const sequences: number[] = [];
    for (let block = first; block < end; block++) {
      // The flag is taken before the copy: a change behind it is seen by the next flush.
      this.regions.takeChanged(block);
      sequences.push(this.marked[block]!);
      bytes.set(this.regions.copyBlock(block), (block - first) * REGIONS_PER_BLOCK);
    }
    const write = this.store.writeBlocks(first, bytes).then(
      () => {
        this.settle(first, end);
        this.blocksWritten += end - first;
        for (let block = first; block < end; block++) {
          this.durable[block] = Math.max(this.durable[block]!, sequences[block - first]!);
        }
      },
      (error: unknown) => {
        this.settle(first, end);
        for (let block = first; block < end; block++) this.regions.markChanged(block);
        throw error;
      },
    );
    for (let block = first; block < end; block++) this.writing.set(block, write);
    return write;
  }

  private settle(first: number, end: number): void {
    for (let block = first; block < end; block++) this.writing.delete(block);
  }
}
