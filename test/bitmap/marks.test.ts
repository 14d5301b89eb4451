import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockMarks, type BitmapStore } from "../../src/bitmap/marks.ts";
import { Regions, REGIONS_PER_BLOCK } from "../../src/bitmap/regions.ts";
import { Action, State } from "../../src/bitmap/transitions.ts";
import { deferred, isSettled, turn } from "./fake-clock.ts";
import { LONG, SEED } from "./seed.ts";

/**
 * Durable marks against a store that ends its writes when, and as, the test says. The store keeps
 * what would be on disk: for each block the number of the newest change that a finished write held.
 */
const BLOCKS = 3;
const HEALTHY = { absent: false, degraded: false, lazyParity: false };

interface PendingWrite {
  readonly first: number;
  readonly end: number;
  /** By block of the write: the changes that its copy holds. */
  readonly holds: readonly number[];
  readonly ends: ReturnType<typeof deferred>;
}

class World implements BitmapStore {
  readonly regions = Regions.create(BLOCKS * REGIONS_PER_BLOCK * 65536, 65536, true);
  readonly marks = new BlockMarks(this.regions, this);
  readonly pending: PendingWrite[] = [];
  readonly changes = new Array<number>(BLOCKS).fill(0);
  readonly onDisk = new Array<number>(BLOCKS).fill(0);
  started = 0;
  failures = 0;

  writeBlocks(first: number, bytes: Uint8Array): Promise<void> {
    const end = first + bytes.length / REGIONS_PER_BLOCK;
    for (const other of this.pending) {
      expect(first >= other.end || end <= other.first, "one write a block at a time").toBe(true);
    }
    for (let block = first; block < end; block++) {
      const at = (block - first) * REGIONS_PER_BLOCK;
      const copy = bytes.subarray(at, at + REGIONS_PER_BLOCK);
      expect(Buffer.compare(copy, this.regions.copyBlock(block))).toBe(0);
    }
    const ends = deferred();
    this.pending.push({ first, end, holds: this.changes.slice(first, end), ends });
    this.started++;
    return ends.promise;
  }

  /** A region of the block becomes Dirty and is marked, as a writer does it. */
  mark(block: number): Promise<void> {
    const first = block * REGIONS_PER_BLOCK;
    let region = first;
    while (this.regions.state(region) === State.Dirty) region++;
    this.regions.apply(region, Action.Startwrite, HEALTHY);
    this.changes[block]!++;
    this.marks.mark(block);
    return this.marks.commit(block);
  }

  /** A region of the block changes without a mark, as the daemon does it. */
  change(block: number): void {
    const first = block * REGIONS_PER_BLOCK;
    const state = this.regions.state(first + 511) === State.Clean ? State.Unwritten : State.Clean;
    this.regions.force(first + 511, state);
    this.changes[block]!++;
  }

  finish(index: number): void {
    const [write] = this.pending.splice(index, 1);
    for (let block = write!.first; block < write!.end; block++) {
      this.onDisk[block] = write!.holds[block - write!.first]!;
    }
    write!.ends.resolve();
  }

  fail(index: number): void {
    const [write] = this.pending.splice(index, 1);
    this.failures++;
    write!.ends.reject(new Error("the store failed"));
  }

  async settle(): Promise<void> {
    while (this.pending.length > 0) {
      this.finish(0);
      await turn();
    }
  }
}

const step = fc.record({
  kind: fc.constantFrom("mark", "mark", "mark", "change", "flush", "finish", "finish", "fail"),
  pick: fc.nat({ max: 1000 }),
});

describe("whatever order the store ends its writes in, and whichever fail", () => {
  test("a commit and a flush resolve only when what they cover is on disk", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const world = new World();
        const promises: Promise<unknown>[] = [];
        const covers = (operation: Promise<void>, blocks: readonly number[]): void => {
          const due = [...world.changes];
          const failuresBefore = world.failures;
          const checked = operation.then(
            () => {
              for (const block of blocks) {
                expect(world.onDisk[block]).toBeGreaterThanOrEqual(due[block]!);
              }
            },
            () => expect(world.failures).toBeGreaterThan(failuresBefore),
          );
          promises.push(checked);
        };
        for (const { kind, pick } of steps) {
          const block = pick % BLOCKS;
          const index = pick % Math.max(1, world.pending.length);
          if (kind === "mark") covers(world.mark(block), [block]);
          else if (kind === "change") world.change(block);
          else if (kind === "flush") covers(world.marks.flush(), [0, 1, 2]);
          else if (world.pending.length > 0) world[kind](index);
          await turn();
        }
        await world.settle();
        await Promise.all(promises);
        const last = world.marks.flush();
        await world.settle();
        await last;
        expect(world.onDisk).toEqual(world.changes);
      }),
      { numRuns: LONG ? 20_000 : 300, seed: SEED },
    );
  });
});

describe("group commit", () => {
  test("marks of one block that come while it is written share the next write", async () => {
    const world = new World();
    const first = world.mark(0);
    const others = Array.from({ length: 10 }, () => world.mark(0));
    expect(world.pending).toHaveLength(1);
    world.finish(0);
    await first;
    expect(await isSettled(Promise.race(others))).toBe(false);
    expect(world.pending).toHaveLength(1);
    world.finish(0);
    await Promise.all(others);
    expect(world.started).toBe(2);
    expect(world.marks.blocksWritten).toBe(2);
  });

  test("blocks do not wait for one another", async () => {
    const world = new World();
    const slow = world.mark(0);
    const quick = world.mark(1);
    world.finish(1);
    await quick;
    expect(await isSettled(slow)).toBe(false);
    await world.settle();
  });

  test("a mark that is durable costs nothing", async () => {
    const world = new World();
    const mark = world.mark(2);
    expect(world.marks.isDurable(2)).toBe(false);
    await world.settle();
    await mark;
    expect(world.marks.isDurable(2)).toBe(true);
    await world.marks.commit(2);
    expect(world.started).toBe(1);
  });
});

describe("a write that fails", () => {
  test("rejects the commit that made it, and not one that only waited for it", async () => {
    const world = new World();
    const own = world.mark(0);
    const waiting = world.mark(0);
    world.fail(0);
    await expect(own).rejects.toThrow("the store failed");
    await turn();
    world.finish(0);
    await waiting;
    expect(world.marks.isDurable(0)).toBe(true);
  });

  test("leaves the block to be written again", async () => {
    const world = new World();
    const own = world.mark(0);
    world.fail(0);
    await expect(own).rejects.toThrow();
    expect(world.marks.isDurable(0)).toBe(false);
    expect(world.regions.isChanged(0)).toBe(true);
    const again = world.marks.commit(0);
    await world.settle();
    await again;
    expect(world.onDisk[0]).toBe(1);
  });
});

describe("flush", () => {
  test("writes neighbours at once and leaves alone what has not changed", async () => {
    const world = new World();
    world.change(0);
    world.change(1);
    const flushed = world.marks.flush();
    expect(world.pending.map(({ first, end }) => [first, end])).toEqual([[0, 2]]);
    await world.settle();
    await flushed;
    await world.marks.flush();
    expect(world.started).toBe(1);
  });

  test("waits for a write under way that took the change with it", async () => {
    const world = new World();
    void world.mark(0);
    const flushed = world.marks.flush();
    expect(await isSettled(flushed)).toBe(false);
    world.finish(0);
    await flushed;
    expect(world.started).toBe(1);
  });

  test("after a write under way, writes what changed since that began", async () => {
    const world = new World();
    void world.mark(0);
    world.change(0);
    const flushed = world.marks.flush();
    expect(world.pending).toHaveLength(1);
    world.finish(0);
    expect(await isSettled(flushed)).toBe(false);
    world.finish(0);
    await flushed;
    expect(world.onDisk[0]).toBe(2);
  });
});
