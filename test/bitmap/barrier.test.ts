import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { Regions } from "../../src/bitmap/regions.ts";
import { Action, State } from "../../src/bitmap/transitions.ts";
import { seededRandom } from "../member/seeded.ts";
import { turn } from "./fake-clock.ts";
import { LONG, SEED } from "./seed.ts";

/**
 * The barrier under real threads. Writers count themselves in and out of a second array, the
 * guards, while they are inside; whoever holds a window or a suspended idle page looks at the
 * guards and must find nobody. A lost wake-up shows as a test that does not end.
 */
const COUNT = 12;
const REGION_BYTES = 64 * 1024;
const MILLISECONDS = LONG ? 60_000 : 800;
const HEALTHY = { absent: false, degraded: false, lazyParity: false };

class Arena {
  readonly regions = Regions.create(COUNT * REGION_BYTES, REGION_BYTES);
  readonly guards = new Int32Array(new SharedArrayBuffer(4 * COUNT));
  readonly random = seededRandom(SEED);
  readonly ends = performance.now() + MILLISECONDS;

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  /** Starts the other thread; what it answers when its time is over. */
  thread<Answer>(role: "sync" | "insistent" | "writer" | "applier"): Promise<Answer> {
    const worker = new Worker(new URL("./barrier-thread.js", import.meta.url), {
      workerData: {
        role,
        shared: this.regions.shared,
        inside: this.guards.buffer,
        milliseconds: MILLISECONDS,
        seed: SEED,
      },
    });
    return new Promise<Answer>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  }

  /** Enters, stays a while, leaves, until the time is over; how often. */
  async write(): Promise<number> {
    const { regions, guards } = this;
    let writes = 0;
    while (performance.now() < this.ends) {
      const first = this.below(COUNT);
      const last = Math.min(COUNT - 1, first + this.below(3));
      await regions.enter(first, last);
      for (let region = first; region <= last; region++) Atomics.add(guards, region, 1);
      if (this.below(8) === 0) await turn();
      for (let region = first; region <= last; region++) Atomics.sub(guards, region, 1);
      regions.leave(first, last);
      writes++;
      if (writes % 64 === 0) await turn();
    }
    return writes;
  }
}

describe(`the barrier between threads (NBD_RAID_SEED=${SEED})`, () => {
  test("no writer is inside while a sync holds its window, and each gets in again", async () => {
    const arena = new Arena();
    const sync = arena.thread<{ windows: number; violations: number }>("sync");
    const writes = await Promise.all(Array.from({ length: 8 }, () => arena.write()));
    const { windows, violations } = await sync;
    expect(violations).toBe(0);
    expect(windows).toBeGreaterThan(100);
    expect(Math.min(...writes)).toBeGreaterThan(0);
    expect(arena.regions.isIdle(0, COUNT)).toBe(true);
  });

  test("a writer waits for no endless row of windows over the same regions", async () => {
    const arena = new Arena();
    const { regions, guards } = arena;
    const sync = arena.thread<{ windows: number }>("insistent");
    let longest = 0;
    while (performance.now() < arena.ends) {
      const before = Atomics.load(guards, 0);
      await regions.enter(0, 0);
      longest = Math.max(longest, Atomics.load(guards, 0) - before);
      regions.leave(0, 0);
      await turn();
    }
    expect((await sync).windows).toBeGreaterThan(20);
    // One or two, and those that go by while this thread has no core.
    expect(longest).toBeLessThan(20);
  });

  test("no writer of another thread is in a page that is suspended and idle", async () => {
    const arena = new Arena();
    const { regions, guards } = arena;
    const thread = arena.thread<{ writes: number }>("writer");
    let held = 0;
    let violations = 0;
    while (performance.now() < arena.ends) {
      regions.suspend(0);
      const region = arena.below(COUNT);
      if (regions.isIdle(region, region + 1)) {
        held++;
        for (let look = 0; look < 100; look++) {
          if (Atomics.load(guards, region) !== 0) violations++;
        }
      }
      regions.resume(0);
      await turn();
    }
    const { writes } = await thread;
    expect(violations).toBe(0);
    expect(held).toBeGreaterThan(100);
    expect(writes).toBeGreaterThan(100);
    expect(regions.isIdle(0, COUNT)).toBe(true);
  });

  test("of two threads that turn one region, each turn is one thread's", async () => {
    const arena = new Arena();
    const { regions } = arena;
    for (let region = 0; region < COUNT; region++) regions.force(region, State.Clean);
    const thread = arena.thread<{ balance: number[] }>("applier");
    const balance = new Array<number>(COUNT).fill(0);
    for (let round = 0; performance.now() < arena.ends; round++) {
      const region = arena.below(COUNT);
      const dirties = arena.below(2) === 0;
      const before = regions.apply(region, dirties ? Action.Startwrite : Action.Daemon, HEALTHY);
      if (before === State.Clean && dirties) balance[region]!++;
      if (before === State.Dirty && !dirties) balance[region]!--;
      if (round % 1000 === 0) await turn();
    }
    const other = (await thread).balance;
    for (let region = 0; region < COUNT; region++) {
      const dirty = regions.state(region) === State.Dirty ? 1 : 0;
      expect(balance[region]! + other[region]!, `region ${region}`).toBe(dirty);
    }
  });
});
