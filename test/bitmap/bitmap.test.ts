import { describe, expect, test } from "vitest";
import { Doubt, REGIONS_PER_BLOCK } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { deferred, isSettled, turn } from "./fake-clock.ts";
import { BitmapWorld, REGION_BYTES } from "./world.ts";

const { Unwritten, Clean, Dirty, NeedSync } = State;
const BLOCK_BYTES = REGIONS_PER_BLOCK * REGION_BYTES;

describe("begin", () => {
  test("lets a write go on only when its regions are durably marked", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    const disk = deferred();
    world.beforeWrite = () => disk.promise;
    const begun = world.bitmap.begin(3, 5);
    expect(await isSettled(begun)).toBe(false);
    disk.resolve();
    await begun;
    expect([...world.disk.subarray(3, 6)]).toEqual([Dirty, Dirty, Dirty]);
    expect(world.dirtied).toBeGreaterThan(0);
  });

  test("waits for a mark that another writer made and that is not durable yet", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    const disk = deferred();
    world.beforeWrite = () => disk.promise;
    void world.bitmap.begin(3, 3);
    const second = world.bitmap.begin(3, 3);
    expect(await isSettled(second)).toBe(false);
    disk.resolve();
    await second;
    expect(world.blockWrites).toBe(1);
  });

  test("marks every block that a long write touches", async () => {
    const world = new BitmapWorld(3 * BLOCK_BYTES);
    await world.write(REGIONS_PER_BLOCK - 1, 2 * REGIONS_PER_BLOCK);
    expect(world.disk[REGIONS_PER_BLOCK - 1]).toBe(Dirty);
    expect(world.disk[2 * REGIONS_PER_BLOCK - 1]).toBe(Dirty);
    expect(world.disk[2 * REGIONS_PER_BLOCK]).toBe(Dirty);
  });

  test("a region that is durably marked costs no block write", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.write(3);
    await world.write(3);
    expect(world.blockWrites).toBe(1);
  });

  test("that fails leaves no writer inside and lets the next one try again", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.beforeWrite = () => Promise.reject(new Error("no space"));
    await expect(world.bitmap.begin(3, 3)).rejects.toThrow("no space");
    expect(world.regions.isIdle(0, 512)).toBe(true);
    expect(world.bitmap.tryBegin(3, 3), "Dirty in memory, but not durably").toBe(false);
    world.beforeWrite = () => Promise.resolve();
    await world.write(3);
    expect(world.disk[3]).toBe(Dirty);
  });

  test("of two blocks of which one fails ends only when neither is written any more", async () => {
    const world = new BitmapWorld(2 * BLOCK_BYTES);
    const slow = deferred();
    let writes = 0;
    world.beforeWrite = () => (writes++ === 0 ? Promise.reject(new Error("gone")) : slow.promise);
    const begun = world.bitmap.begin(REGIONS_PER_BLOCK - 1, REGIONS_PER_BLOCK);
    begun.catch(() => undefined);
    expect(await isSettled(begun)).toBe(false);
    slow.resolve();
    await expect(begun).rejects.toThrow("gone");
  });
});

describe("tryBegin", () => {
  test("begins where every region is durably marked, and counts the writer", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.write(3, 4);
    expect(world.bitmap.tryBegin(3, 4)).toBe(true);
    expect(world.regions.isIdle(3, 5)).toBe(false);
    world.bitmap.end(3, 4);
    expect(world.regions.isIdle(0, 512)).toBe(true);
  });

  test("refuses a region that is not marked, and leaves no count behind", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.write(3);
    world.force(Clean, 4);
    expect(world.bitmap.tryBegin(4, 4)).toBe(false);
    expect(world.bitmap.tryBegin(3, 4)).toBe(false);
    expect(world.regions.isIdle(0, 512)).toBe(true);
  });

  test("refuses a mark that is on its way", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    const disk = deferred();
    world.beforeWrite = () => disk.promise;
    const begun = world.bitmap.begin(3, 3);
    await turn();
    expect(world.regions.state(3)).toBe(Dirty);
    expect(world.bitmap.tryBegin(3, 3)).toBe(false);
    disk.resolve();
    await begun;
    expect(world.bitmap.tryBegin(3, 3)).toBe(true);
  });

  test("refuses the window", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.write(3);
    world.regions.openWindow(2, 4);
    expect(world.bitmap.tryBegin(3, 3)).toBe(false);
    world.regions.closeWindow();
    expect(world.bitmap.tryBegin(3, 3)).toBe(true);
  });
});

describe("infection", () => {
  test("a first region of a block turns alone", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.write(7);
    expect(world.regions.counts()).toMatchObject({ dirty: 1, unwritten: 511 });
    expect(world.bitmap.infections).toBe(0);
  });

  test("a second one turns the whole block, and a stream pays for it once", async () => {
    const world = new BitmapWorld(2 * BLOCK_BYTES);
    world.force(Clean, 100, 101);
    for (let region = 7; region < REGIONS_PER_BLOCK; region++) await world.write(region);
    expect(world.regions.counts()).toMatchObject({ dirty: 512, unwritten: 512 });
    expect(world.bitmap.infections).toBe(1);
    expect(world.blockWrites).toBe(2);
  });

  test("a block that holds a region in need of a sync counts as hot", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.force(NeedSync, 300);
    await world.write(7);
    expect(world.regions.counts()).toMatchObject({ dirty: 511, needSync: 1 });
  });

  test("leaves regions in need of a sync as they are", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.force(NeedSync, 300, 301);
    await world.write(7, 8);
    expect(world.states(300, 302)).toEqual([NeedSync, NeedSync]);
  });

  test("where parity is built lazily turns Unwritten to NeedSync and leaves Clean alone", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.conditions = { ...world.conditions, lazyParity: true };
    world.force(Clean, 100, 101);
    await world.write(7, 8);
    expect(world.states(100, 102)).toEqual([Clean, Clean]);
    expect(world.regions.counts()).toMatchObject({ needSync: 510, clean: 2 });
    expect(world.regions.doubt(101)).toBe(Doubt.None);
    expect(world.regions.doubt(102)).toBe(Doubt.Unbuilt);
  });

  test("asks for a resync where parity is to be built, though the write itself needs none", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.conditions = { ...world.conditions, lazyParity: true };
    world.force(Clean, 7, 8);
    world.force(Dirty, 9, 10);
    await world.write(7, 8);
    expect(world.states(7, 12)).toEqual([Dirty, Dirty, Dirty, Dirty, NeedSync]);
    expect(world.parityWanted).toBe(1);
  });

  test.each([
    ["a member is absent", { absent: true, degraded: true, lazyParity: false }],
    ["a member is rebuilding", { absent: false, degraded: true, lazyParity: false }],
  ])("does not happen while %s: the sync would copy it all", async (_name, conditions) => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.conditions = conditions;
    await world.write(7, 8);
    expect(world.regions.counts().unwritten).toBe(510);
    expect(world.bitmap.infections).toBe(0);
  });
});

describe("a degraded array", () => {
  test("with a member absent records what that one lacks", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.conditions = { absent: true, degraded: true, lazyParity: false };
    await world.write(7);
    expect(world.disk[7]).toBe(NeedSync);
    expect(world.regions.isSuspect(7)).toBe(false);
  });
});

describe("trims", () => {
  const trimmedAfter = (offset: number, length: number, tracked = 8 * REGION_BYTES): number[] => {
    const world = new BitmapWorld(tracked);
    const regions = Array.from({ length: world.regions.count }, (_, region) => region);
    world.force(Dirty, ...regions);
    world.bitmap.noteTrimmed(offset, length);
    for (const region of regions) world.bitmap.clean(region);
    return regions.filter((region) => world.regions.state(region) === Unwritten);
  };

  test("count where a region lies wholly inside: both ends round inward", () => {
    expect(trimmedAfter(2 * REGION_BYTES, 3 * REGION_BYTES)).toEqual([2, 3, 4]);
    expect(trimmedAfter(2 * REGION_BYTES + 1, 3 * REGION_BYTES)).toEqual([3, 4]);
    expect(trimmedAfter(2 * REGION_BYTES - 1, 3 * REGION_BYTES)).toEqual([2, 3]);
    expect(trimmedAfter(2 * REGION_BYTES, 3 * REGION_BYTES - 1)).toEqual([2, 3]);
    expect(trimmedAfter(2 * REGION_BYTES + 1, REGION_BYTES - 2)).toEqual([]);
    expect(trimmedAfter(0, 8 * REGION_BYTES)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("count for a last region that is short, if its end is trimmed too", () => {
    const tracked = 3 * REGION_BYTES + 4096;
    expect(trimmedAfter(2 * REGION_BYTES, REGION_BYTES + 4096, tracked)).toEqual([2, 3]);
    expect(trimmedAfter(2 * REGION_BYTES, REGION_BYTES + 4095, tracked)).toEqual([2]);
    expect(trimmedAfter(3 * REGION_BYTES + 1, 4095, tracked)).toEqual([]);
  });

  test("are forgotten when the region is written again, inline or not", async () => {
    const world = new BitmapWorld(4 * REGION_BYTES);
    await world.write(0, 3);
    world.bitmap.noteTrimmed(0, 4 * REGION_BYTES);
    expect(world.bitmap.tryBegin(1, 1), "a write that would not forget").toBe(false);
    await world.write(1);
    expect(world.bitmap.tryBegin(1, 1)).toBe(true);
    world.bitmap.end(1, 1);
    for (let region = 0; region < 4; region++) world.bitmap.clean(region);
    expect(world.states(0, 4)).toEqual([Unwritten, Clean, Unwritten, Unwritten]);
  });

  test("count once: a region that is written and cleaned later is Clean", async () => {
    const world = new BitmapWorld(REGION_BYTES);
    await world.write(0);
    world.bitmap.noteTrimmed(0, REGION_BYTES);
    world.bitmap.clean(0);
    await world.write(0);
    world.bitmap.clean(0);
    expect(world.regions.state(0)).toBe(Clean);
  });

  test("do not hide that a region needs a sync", () => {
    const world = new BitmapWorld(REGION_BYTES);
    world.force(NeedSync, 0);
    world.bitmap.noteTrimmed(0, REGION_BYTES);
    world.bitmap.clean(0);
    expect(world.regions.state(0)).toBe(NeedSync);
  });

  test("do not turn a region while the array is degraded", async () => {
    const world = new BitmapWorld(REGION_BYTES);
    await world.write(0);
    world.bitmap.noteTrimmed(0, REGION_BYTES);
    world.conditions = { absent: false, degraded: true, lazyParity: false };
    world.bitmap.clean(0);
    expect(world.regions.state(0)).toBe(Dirty);
  });
});

describe("a write that found no space", () => {
  test("leaves its regions suspect and in need of a sync, in memory now and on disk by flush", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.bitmap.begin(3, 4);
    world.bitmap.needsSync(3, 4);
    world.bitmap.end(3, 4);
    expect(world.states(3, 5)).toEqual([NeedSync, NeedSync]);
    expect([3, 4, 5].map((region) => world.regions.isSuspect(region))).toEqual([true, true, false]);
    await world.bitmap.flush();
    expect([...world.disk.subarray(3, 5)]).toEqual([NeedSync, NeedSync]);
  });

  test("makes a region suspect that needed a sync before", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    world.force(NeedSync, 3);
    await world.bitmap.begin(3, 3);
    expect(world.bitmap.needsSync(3, 3)).toBe(true);
    expect(world.regions.isSuspect(3)).toBe(true);
  });

  test("tells whether that was known, so that a sync that failed is not tried for each write", async () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    await world.bitmap.begin(3, 4);
    expect(world.bitmap.needsSync(3, 3)).toBe(true);
    expect(world.bitmap.needsSync(3, 3)).toBe(false);
    expect(world.bitmap.needsSync(3, 4)).toBe(true);
    expect(world.bitmap.needsSync(3, 4)).toBe(false);
  });

  test("in a region that was never marked is a broken invariant", () => {
    const world = new BitmapWorld(BLOCK_BYTES);
    expect(() => world.bitmap.needsSync(3, 3)).toThrow("invariant");
  });
});

describe("without a bitmap on disk", () => {
  test("states live in memory, nothing is written, and nothing is infected", async () => {
    const world = new BitmapWorld(BLOCK_BYTES, "none");
    await world.write(3, 4);
    expect(world.states(3, 5)).toEqual([Dirty, Dirty]);
    expect(world.bitmap.tryBegin(3, 4)).toBe(true);
    world.bitmap.end(3, 4);
    world.bitmap.touchAll();
    await world.bitmap.flush();
    expect(world.blockWrites).toBe(0);
    expect(world.bitmap.blocksWritten).toBe(0);
    expect(world.bitmap.infections).toBe(0);
    expect(world.bitmap.persistent).toBe(false);
  });
});

describe("with an internal bitmap, which has a bit a region", () => {
  test("nothing is infected: a region is marked for its own writes alone", async () => {
    const world = new BitmapWorld(BLOCK_BYTES, "internal");
    await world.write(3, 5);
    await world.write(9);
    const counts = { unwritten: 508, clean: 0, dirty: 4, needSync: 0, syncing: 0 };
    expect(world.regions.counts()).toEqual(counts);
    expect(world.bitmap.infections).toBe(0);
    expect(world.blockWrites).toBe(2);
  });

  test.each(["internal", "none"] as const)("what was trimmed ends Clean (%s)", async (kind) => {
    const world = new BitmapWorld(2 * REGION_BYTES, kind);
    world.force(Clean, 0, 1);
    await world.write(0, 1);
    world.bitmap.noteTrimmed(0, 2 * REGION_BYTES);
    expect(world.bitmap.tryBegin(0, 1)).toBe(true);
    world.bitmap.end(0, 1);
    for (const region of [0, 1]) world.bitmap.clean(region);
    expect(world.states(0, 2)).toEqual([Clean, Clean]);
  });
});

test("touchAll makes the next flush write every block", async () => {
  const world = new BitmapWorld(3 * BLOCK_BYTES);
  world.bitmap.touchAll();
  await world.bitmap.flush();
  expect(world.bitmap.blocksWritten).toBe(3);
  expect(world.blockWrites).toBe(1);
});
