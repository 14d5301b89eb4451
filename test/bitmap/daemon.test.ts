import { beforeEach, describe, expect, test } from "vitest";
import { Daemon } from "../../src/bitmap/daemon.ts";
import { REGIONS_PER_PAGE } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { FakeClock, turn } from "./fake-clock.ts";
import { BitmapWorld, REGION_BYTES } from "./world.ts";

/** The daemon with a clock that the test turns, two pages of regions, and a host that keeps a log. */
const { Unwritten, Clean, Dirty, NeedSync } = State;
const SLEEP_MS = 30_000;
const IDLE_MS = 5_000;

let world: BitmapWorld;
let clock: FakeClock;
let daemon: Daemon;
/** What the daemon asked of its host, in order. */
let log: string[];
let mayClean: boolean;
let isActive: boolean;
let syncMembers: () => Promise<boolean>;
let recordEventsCleared: () => Promise<void>;

beforeEach(() => {
  world = new BitmapWorld(2 * REGIONS_PER_PAGE * REGION_BYTES);
  clock = new FakeClock();
  log = [];
  mayClean = true;
  isActive = false;
  syncMembers = () => Promise.resolve(true);
  recordEventsCleared = () => Promise.resolve();
  const host = {
    mayClean: () => mayClean,
    isActive: () => isActive,
    syncMembers: () => {
      log.push("sync");
      return syncMembers();
    },
    recordEventsCleared: () => {
      log.push("record");
      return recordEventsCleared();
    },
    idle: () => {
      log.push("idle");
      return Promise.resolve();
    },
    failed: () => {
      log.push("failed");
    },
  };
  daemon = new Daemon(world.bitmap, host, clock);
  world.onDirtied = () => daemon.poke();
});

const stateOf = (region: number): State => world.regions.state(region);

describe("timing", () => {
  test("a pass begins `sleep` after the first Dirty, not after the last", async () => {
    await world.write(1);
    await clock.pass(SLEEP_MS - IDLE_MS - 1);
    await world.write(1);
    await clock.pass(IDLE_MS);
    expect(log).toEqual([]);
    expect(stateOf(1)).toBe(Dirty);
    await clock.pass(1);
    expect(log).toEqual(["sync", "record", "idle"]);
    expect(stateOf(1)).toBe(Clean);
    expect(daemon.lastRun).toBe(clock.wallTime());
  });

  test("an array that is not written has no passes", async () => {
    await world.write(1);
    await clock.pass(10 * SLEEP_MS);
    expect(log).toEqual(["sync", "record", "idle"]);
  });

  test("an array that superblocks call active has them, until they do not", async () => {
    isActive = true;
    daemon.wake();
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["idle"]);
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["idle", "idle"]);
    isActive = false;
    await clock.pass(10 * SLEEP_MS);
    expect(log).toEqual(["idle", "idle", "idle"]);
  });

  test("a page that was written within `idle` before the pass waits for the next", async () => {
    await world.write(1);
    await world.write(REGIONS_PER_PAGE + 1);
    await clock.pass(SLEEP_MS - 1000);
    await world.write(1);
    await clock.pass(1000);
    expect(stateOf(1)).toBe(Dirty);
    expect(stateOf(REGIONS_PER_PAGE + 1)).toBe(Clean);
    expect(log).toEqual(["sync", "record"]);
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Clean);
    expect(log.at(-1)).toBe("idle");
  });

  test("a page that is always written stays Dirty", async () => {
    await world.write(1);
    for (let second = 0; second < 120; second++) {
      await clock.pass(1000);
      await world.write(1);
    }
    expect(stateOf(1)).toBe(Dirty);
    expect(log).toEqual([]);
  });

  test("new settings hold at once", async () => {
    await world.write(1);
    daemon.sleepMs = 200;
    daemon.idleMs = 100;
    daemon.rearm();
    await clock.pass(200);
    expect(stateOf(1)).toBe(Clean);
  });

  test("the age of the oldest Dirty is shown, and is none when all is clean", async () => {
    expect(daemon.oldestDirtyMs).toBeNull();
    await world.write(1);
    await clock.pass(7000);
    await world.write(2);
    expect(daemon.oldestDirtyMs).toBe(7000);
    await clock.pass(SLEEP_MS);
    await clock.pass(SLEEP_MS);
    expect(daemon.oldestDirtyMs).toBeNull();
  });
});

describe("what a pass leaves alone", () => {
  test("a region with a writer inside", async () => {
    await world.bitmap.begin(1, 1);
    await world.write(2);
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Dirty);
    expect(stateOf(2)).toBe(Clean);
    world.bitmap.end(1, 1);
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Clean);
  });

  test("a region that was written between the note and the turn, even if it is idle again", async () => {
    await world.write(1);
    syncMembers = async () => {
      await world.write(1);
      return true;
    };
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["sync", "record"]);
    expect(stateOf(1)).toBe(Dirty);
  });

  test("a region that a writer is in by the time of the turn", async () => {
    await world.write(1);
    syncMembers = async () => {
      await world.bitmap.begin(1, 1);
      return true;
    };
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Dirty);
  });

  test("regions that need a sync", async () => {
    await world.write(1);
    world.force(NeedSync, 5);
    await clock.pass(SLEEP_MS);
    expect(stateOf(5)).toBe(NeedSync);
    expect(log, "the array is not idle").toEqual(["sync", "record"]);
  });
});

describe("what keeps a pass from cleaning anything", () => {
  test("a failed sync", async () => {
    await world.write(1);
    syncMembers = () => Promise.resolve(false);
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["sync"]);
    expect(stateOf(1)).toBe(Dirty);
    expect(daemon.lastRun).toBeNull();
    syncMembers = () => Promise.resolve(true);
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Clean);
  });

  test("a host that forbids it: nothing is even synced, and it hears when nobody writes", async () => {
    await world.write(1);
    mayClean = false;
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["idle"]);
    await clock.pass(SLEEP_MS - 1000);
    await world.write(1);
    await clock.pass(1000);
    expect(log).toEqual(["idle"]);
    mayClean = true;
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Clean);
  });

  test("a member that is lost while the members are synced", async () => {
    await world.write(1);
    syncMembers = () => {
      mayClean = false;
      return Promise.resolve(true);
    };
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["sync"]);
    expect(stateOf(1)).toBe(Dirty);
  });

  test("a member that is lost while events_cleared is recorded", async () => {
    await world.write(1);
    recordEventsCleared = () => {
      mayClean = false;
      return Promise.resolve();
    };
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Dirty);
  });

  test("events_cleared that cannot be recorded; the pass is tried again", async () => {
    await world.write(1);
    recordEventsCleared = () => Promise.reject(new Error("no space"));
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["sync", "record", "failed"]);
    expect(stateOf(1)).toBe(Dirty);
    recordEventsCleared = () => Promise.resolve();
    await clock.pass(SLEEP_MS);
    expect(stateOf(1)).toBe(Clean);
  });
});

describe("a pass", () => {
  test("syncs the members once for all pages, and writes each changed block once", async () => {
    await world.write(1);
    await world.write(REGIONS_PER_PAGE + 1);
    const before = world.blockWrites;
    await clock.pass(SLEEP_MS);
    expect(log).toEqual(["sync", "record", "idle"]);
    expect(world.blockWrites - before).toBe(2);
    expect(world.disk[1]).toBe(Clean);
    expect(world.disk[REGIONS_PER_PAGE + 1]).toBe(Clean);
  });

  test("turns nothing before the members are synced and events_cleared is recorded", async () => {
    await world.write(1);
    const seen: State[] = [];
    syncMembers = () => {
      seen.push(stateOf(1));
      return Promise.resolve(true);
    };
    recordEventsCleared = () => {
      seen.push(stateOf(1));
      return Promise.resolve();
    };
    await clock.pass(SLEEP_MS);
    expect(seen).toEqual([Dirty, Dirty]);
    expect(stateOf(1)).toBe(Clean);
  });

  test("turns trimmed regions to Unwritten", async () => {
    await world.write(1);
    world.bitmap.noteTrimmed(REGION_BYTES, REGION_BYTES);
    await clock.pass(SLEEP_MS);
    expect(world.disk[1]).toBe(Unwritten);
  });

  test("leaves no page suspended, also when it is cut short", async () => {
    await world.write(1);
    await world.write(REGIONS_PER_PAGE + 1);
    let asked = 0;
    Object.defineProperty(world, "conditions", {
      get: () => {
        if (++asked === 1) mayClean = false;
        return { absent: false, degraded: false, lazyParity: false };
      },
    });
    await clock.pass(SLEEP_MS);
    expect(world.regions.counts()).toMatchObject({ clean: 1, dirty: 1 });
    expect(world.regions.tryEnter(0, REGIONS_PER_PAGE)).toBe(true);
  });

  test("waits for no writer, and holds none up after it", async () => {
    await world.bitmap.begin(1, 1);
    await world.write(2);
    await clock.pass(SLEEP_MS);
    expect(world.bitmap.tryBegin(1, 1)).toBe(true);
  });
});

describe("a checkpoint of a resync", () => {
  test("turns what is idle below its end at once", async () => {
    await world.write(1);
    await world.write(9);
    expect(await daemon.checkpoint(9)).toBe(true);
    expect(log).toEqual(["sync", "record"]);
    expect(world.disk[1]).toBe(Clean);
    expect(stateOf(9)).toBe(Dirty);
  });

  test("with nothing to turn has synced nobody, and says so", async () => {
    expect(await daemon.checkpoint(100)).toBe(false);
    expect(log).toEqual([]);
  });

  test("tells if the members could not be synced or may not be cleaned", async () => {
    await world.write(1);
    syncMembers = () => Promise.resolve(false);
    expect(await daemon.checkpoint(9)).toBe(false);
    mayClean = false;
    expect(await daemon.checkpoint(9)).toBe(false);
    expect(stateOf(1)).toBe(Dirty);
  });
});

describe("stop", () => {
  test("waits for the pass under way; none begins after it", async () => {
    await world.write(1);
    let finish = (): void => undefined;
    syncMembers = () => new Promise((resolve) => (finish = () => resolve(true)));
    await clock.pass(SLEEP_MS);
    let stopped = false;
    const stop = daemon.stop().then(() => (stopped = true));
    await turn();
    expect(stopped).toBe(false);
    finish();
    await stop;
    expect(stateOf(1)).toBe(Clean);
    await world.write(1);
    await clock.pass(10 * SLEEP_MS);
    expect(stateOf(1)).toBe(Dirty);
  });

  test("cancels the pass that waits for its time", async () => {
    await world.write(1);
    await daemon.stop();
    await clock.pass(10 * SLEEP_MS);
    expect(log).toEqual([]);
  });
});
