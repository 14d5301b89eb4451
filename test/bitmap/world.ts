import { WriteBitmap } from "../../src/bitmap/bitmap.ts";
import type { BitmapStore } from "../../src/bitmap/marks.ts";
import { Regions } from "../../src/bitmap/regions.ts";
import type { Conditions, State } from "../../src/bitmap/transitions.ts";

export const REGION_BYTES = 64 * 1024;

/** A bitmap with a store that is always there and remembers what it was given. */
export class BitmapWorld implements BitmapStore {
  readonly regions: Regions;
  readonly bitmap: WriteBitmap;
  conditions: Conditions = { absent: false, degraded: false, lazyParity: false };
  /** What the disk holds: a byte a region. */
  readonly disk: Uint8Array;
  blockWrites = 0;
  dirtied = 0;
  /** Awaited before a block write counts. */
  beforeWrite: () => Promise<void> = () => Promise.resolve();
  /** Called when a region became Dirty. */
  onDirtied: () => void = () => undefined;
  parityWanted = 0;

  /** `bitmap`: what the array has. */
  constructor(trackedBytes: number, bitmap: "lockless" | "internal" | "none" = "lockless") {
    this.regions = Regions.create(trackedBytes, REGION_BYTES, true);
    this.disk = new Uint8Array(this.regions.blocks * 512);
    this.bitmap = new WriteBitmap(this.regions, {
      store: bitmap === "none" ? null : this,
      fine: bitmap === "lockless",
      conditions: () => this.conditions,
      parityWanted: () => this.parityWanted++,
      dirtied: () => {
        this.dirtied++;
        this.onDirtied();
      },
    });
  }

  async writeBlocks(first: number, bytes: Uint8Array): Promise<void> {
    this.blockWrites++;
    await this.beforeWrite();
    this.disk.set(bytes, first * 512);
  }

  /** A whole write of the regions. */
  async write(first: number, last = first): Promise<void> {
    await this.bitmap.begin(first, last);
    this.bitmap.end(first, last);
  }

  force(state: State, ...regions: readonly number[]): void {
    for (const region of regions) this.regions.force(region, state);
  }

  states(first: number, end: number): State[] {
    return Array.from({ length: end - first }, (_, index) => this.regions.state(first + index));
  }
}
