import { describe, expect, test } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import type { ArrayDescription } from "../../src/array/description.ts";
import { Doubt } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import {
  BITMAP_CLEAN,
  BITMAP_FIRST_USE,
  BITMAP_STALE,
  BITMAP_WRITE_ERROR,
  encodeBitmapSuperblock,
} from "../../src/metadata/bitmap-superblock.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../../src/metadata/superblock.ts";
import { put } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { KiB, startMachine, write } from "../sim/rule-machine.ts";
import {
  BITMAP_OFFSET_BYTES,
  bitmapOn,
  bitOn,
  editBit,
  editBitmap,
  editState,
  editSuperblock,
  stateOn,
  superblockOn,
} from "./on-disk.ts";

/**
 * How a running array is made of what its members say: a small mirror is written, stopped clean,
 * and changed on disk; then it is loaded again.
 */
const REGION_BYTES = 64 * KiB;
const BOTH = ["/disk0", "/disk1"];

/** Region 0 is Clean, the others Unwritten. */
async function stopped(bitmap: ArrayDescription["bitmap"] = "lockless"): Promise<Machine> {
  const machine = await startMachine(1, { bitmap });
  await write(machine, 0, REGION_BYTES);
  await machine.stop();
  return machine;
}

async function load(machine: Machine): Promise<RaidArray> {
  return machine.load(await machine.plan());
}

/** The states of the first four regions. */
function statesOf({ regions }: RaidArray): State[] {
  return [0, 1, 2, 3].map((region) => regions.state(region));
}

const { Unwritten, Clean, Dirty, NeedSync } = State;

describe("a clean array", () => {
  test("is what it was, needs no sync, and is not written by being loaded", async () => {
    const machine = await stopped();
    const array = await load(machine);
    expect(statesOf(array)).toEqual([Clean, Unwritten, Unwritten, Unwritten]);
    expect(array.metadata.knownZero).toBe(true);
    expect(array.status()).toMatchObject({ state: "clean", sync: null });
    await machine.world.until(array.start());
    expect(machine.trace.operations.filter(({ kind }) => kind !== "read")).toEqual([]);
  });
});

describe("the copies that count", () => {
  test("each region takes the worst byte of them", async () => {
    const machine = await stopped();
    editState(machine, "/disk0", 2, State.Dirty);
    editState(machine, "/disk1", 0, State.NeedSync);
    expect(statesOf(await load(machine))).toEqual([NeedSync, Unwritten, NeedSync, Unwritten]);
  });

  test.each([
    ["is older than the array", { events: 1 }],
    ["is marked stale", { state: BITMAP_STALE }],
    ["could not be written once", { state: BITMAP_WRITE_ERROR }],
    ["was never initialised", { state: BITMAP_FIRST_USE }],
  ])("are not those of a member whose bitmap %s", async (_name, fields) => {
    const machine = await stopped();
    editBitmap(machine, "/disk1", fields);
    editState(machine, "/disk1", 0, State.NeedSync);
    const array = await load(machine);
    expect(statesOf(array)).toEqual([Clean, Unwritten, Unwritten, Unwritten]);
  });

  test("may be an update ahead of the superblocks: the power failed between the two", async () => {
    const machine = await stopped();
    const { events } = superblockOn(machine, "/disk0");
    for (const path of BOTH) editBitmap(machine, path, { events: events + 1 });
    const array = await load(machine);
    expect(statesOf(array)).toEqual([Clean, Unwritten, Unwritten, Unwritten]);
    expect(array.regions.counts().needSync).toBe(0);
  });

  test("are written to the others before the first request", async () => {
    const machine = await stopped();
    editState(machine, "/disk0", 3, State.NeedSync);
    const array = await load(machine);
    array.set({ syncSpeedMax: 1 });
    await machine.world.until(array.start());
    expect(stateOn(machine, "/disk1", 3)).toBeGreaterThanOrEqual(State.NeedSync);
  });

  test("of events_cleared the latest counts: a member older than that lacks too much", async () => {
    const machine = await stopped();
    editBitmap(machine, "/disk0", { eventsCleared: 2 });
    editBitmap(machine, "/disk1", { eventsCleared: 3 });
    expect((await load(machine)).metadata.eventsCleared).toBe(3);
  });
});

describe("members of which only some have a bitmap", () => {
  const without = { featureMap: 0, bitmapOffsetSectors: 0 };

  test("the array has none if the freshest says so", async () => {
    const machine = await stopped();
    const { events } = superblockOn(machine, "/disk1");
    editSuperblock(machine, "/disk1", { ...without, events: events + 1 });
    const array = await load(machine);
    expect(array.status()).toMatchObject({ bitmap: null, knownZero: false });
    expect(array.regions.counts()).toMatchObject({ unwritten: 0, needSync: 0 });
  });

  test("it has one if the freshest says so, and the others hold it before the first request", async () => {
    const machine = await stopped();
    const { events } = superblockOn(machine, "/disk1");
    editSuperblock(machine, "/disk0", without);
    editBitmap(machine, "/disk1", { events: events + 1 });
    editSuperblock(machine, "/disk1", { events: events + 1 });
    editState(machine, "/disk0", 0, State.Unwritten);
    const array = await load(machine);
    expect(array.status().bitmap?.type).toBe("lockless");
    expect(statesOf(array)).toEqual([Clean, Unwritten, Unwritten, Unwritten]);
    await machine.world.until(array.start());
    expect(stateOn(machine, "/disk0", 0)).toBe(Clean);
  });

  test("of two superblocks that are as new, the one with a bitmap counts", async () => {
    for (const path of BOTH) {
      const machine = await stopped();
      editSuperblock(machine, path, without);
      expect((await load(machine)).status().bitmap?.type).toBe("lockless");
    }
  });
});

describe("a bitmap that nobody has in order", () => {
  async function stale(): Promise<Machine> {
    const machine = await stopped();
    for (const path of BOTH) editBitmap(machine, path, { events: 1 });
    return machine;
  }

  test("everything may differ, and nothing is known to be zero", async () => {
    const array = await load(await stale());
    expect(statesOf(array)).toEqual([NeedSync, NeedSync, NeedSync, NeedSync]);
    expect(array.regions.isSuspect(3)).toBe(true);
    expect(array.metadata.knownZero).toBe(false);
  });

  test("superblocks are ahead of it until a write: then it is in order first", async () => {
    const machine = await stale();
    const array = await load(machine);
    array.set({ syncSpeedMax: 1 });
    await machine.world.until(array.start());
    machine.trace.clear();
    await write(machine, 0, 4 * KiB);
    // The resync under way reads this one and does not write it.
    const written = machine.trace.operations
      .filter(({ path, kind }) => path === "/disk0" && kind !== "read")
      .map(({ offset }) => offset);
    expect(written.slice(0, 2)).toEqual([BITMAP_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES]);
    expect(written.at(-1)).toBe(machine.dataOffset);
  });
});

describe("a bitmap that mdadm has just made", () => {
  async function firstUse(state: number, events: number): Promise<RaidArray> {
    const machine = await stopped();
    for (const path of BOTH) {
      editSuperblock(machine, path, { events });
      editBitmap(machine, path, { state, events, knownZero: null });
      editState(machine, path, 2, State.Dirty);
    }
    return load(machine);
  }

  test("is all Unwritten", async () => {
    const array = await firstUse(BITMAP_FIRST_USE, 1);
    expect(statesOf(array)).toEqual([Unwritten, Unwritten, Unwritten, Unwritten]);
    expect(array.metadata.knownZero).toBe(false);
  });

  test("is all Clean with --assume-clean", async () => {
    const array = await firstUse(BITMAP_FIRST_USE | BITMAP_CLEAN, 1);
    expect(statesOf(array)).toEqual([Clean, Clean, Clean, Clean]);
  });

  test("says nothing if a kernel has run the array since", async () => {
    const array = await firstUse(BITMAP_FIRST_USE, 2);
    expect(statesOf(array)).toEqual([NeedSync, NeedSync, NeedSync, NeedSync]);
  });
});

describe("known-zero", () => {
  test("is void when something else has updated the array, even back to the same events", async () => {
    const machine = await stopped();
    const utime = { seconds: 1_700_000_000, microseconds: 0 };
    for (const path of BOTH) editSuperblock(machine, path, { utime });
    const array = await load(machine);
    expect(array.metadata.knownZero).toBe(false);
    expect(statesOf(array)).toEqual([Clean, Unwritten, Unwritten, Unwritten]);
  });

  test("is void if one member does not say so", async () => {
    const machine = await stopped();
    editBitmap(machine, "/disk1", { knownZero: null });
    expect((await load(machine)).metadata.knownZero).toBe(false);
  });
});

describe("an internal bitmap", () => {
  test("of a clean array is all Clean: nothing is Unwritten, synced, or written", async () => {
    const machine = await stopped("internal");
    const array = await load(machine);
    expect(statesOf(array)).toEqual([Clean, Clean, Clean, Clean]);
    expect(array.metadata.knownZero).toBe(false);
    expect(array.status()).toMatchObject({ state: "clean", sync: null });
    await machine.world.until(array.start());
    expect(machine.trace.operations.filter(({ kind }) => kind !== "read")).toEqual([]);
  });

  test("asks for a sync where any member has a bit, and gets it there alone", async () => {
    const machine = await stopped("internal");
    editBit(machine, "/disk0", 2, true);
    editBit(machine, "/disk1", 0, true);
    const array = await load(machine);
    expect(statesOf(array)).toEqual([NeedSync, Clean, NeedSync, Clean]);
    expect(array.regions.counts().needSync).toBe(2);
    array.set({ syncSpeedMax: 1 });
    await machine.world.until(array.start());
    expect([0, 1, 2, 3].map((region) => bitOn(machine, "/disk1", region))).toEqual([1, 0, 1, 0]);
  });

  test.each([
    ["is older than the array", { events: 1 }],
    ["is marked stale", { state: BITMAP_STALE }],
    ["could not be written once", { state: BITMAP_WRITE_ERROR }],
  ])("that %s says nothing: everything may differ", async (_name, fields) => {
    const machine = await stopped("internal");
    for (const path of BOTH) editBitmap(machine, path, fields);
    const array = await load(machine);
    expect(statesOf(array)).toEqual([NeedSync, NeedSync, NeedSync, NeedSync]);
    expect(array.regions.isSuspect(3)).toBe(true);
  });

  test("that is an update ahead of the superblocks is as good as they are", async () => {
    const machine = await stopped("internal");
    const { events } = superblockOn(machine, "/disk0");
    for (const path of BOTH) editBitmap(machine, path, { events: events + 1 });
    expect(statesOf(await load(machine))).toEqual([Clean, Clean, Clean, Clean]);
  });

  test("after a crash asks for a sync of what was being written, also where a bit was for more", async () => {
    const machine = await startMachine(3, { bitmap: "internal", regionBytes: 1024 * KiB });
    await write(machine, 1024 * KiB, 4 * KiB);
    machine.cut();
    const array = await load(machine);
    expect(array.regions.counts()).toMatchObject({ clean: 1, needSync: 1 });
    expect([0, 1].map((region) => array.regions.isSuspect(region))).toEqual([false, true]);
    await machine.world.until(array.start());
    await machine.world.until(array.wait());
    await machine.world.until(array.stop());
    expect(bitOn(machine, "/disk0", 1)).toBe(0);
    expect(superblockOn(machine, "/disk0").resyncOffsetSectors).toBe("clean");
  });

  test("keeps what md has set up: its daemon's sleep, writes behind, the space it may use", async () => {
    const machine = await stopped("internal");
    const kept = { daemonSleepSeconds: 17, writeBehind: 256, sectorsReserved: 8 };
    for (const path of BOTH) editBitmap(machine, path, kept);
    const array = await load(machine);
    await machine.world.until(array.start());
    await write(machine, 0, 4 * KiB);
    await machine.stop();
    for (const path of BOTH) {
      const found = bitmapOn(machine, path);
      expect(found).toMatchObject({ kind: "internal", ...kept });
      expect(found.events).toBe(superblockOn(machine, path).events);
    }
  });

  test("has no Unwritten regions in memory either: what is trimmed, or written near it, is Clean", async () => {
    const machine = await startMachine(1, { bitmap: "internal" });
    const { world, array } = machine;
    await write(machine, 0, 4 * REGION_BYTES);
    await world.until(array.trim(0, 2 * REGION_BYTES, false));
    expect(array.regions.counts()).toMatchObject({ unwritten: 0, dirty: 4 });
    await world.until(world.sleep(2_000));
    expect(array.regions.counts()).toMatchObject({ unwritten: 0, clean: array.regions.count });
    expect(array.status()).toMatchObject({ state: "clean", bitmap: { infections: 0 } });
  });

  test("that would reach into the data, whatever it says of itself, is refused", async () => {
    const machine = await startMachine(1, { bitmap: "internal", sizeBytes: 4096 * KiB });
    await machine.stop();
    for (const path of BOTH) {
      const small = { regionSectors: 1, syncSizeSectors: 8, sectorsReserved: 0 };
      const bitmap = encodeBitmapSuperblock({ ...bitmapOn(machine, path), ...small });
      // It has two sectors there, and needs a bit for each of 8192.
      const offset = machine.dataOffset - 1024;
      put(machine.disk(path), bitmap, offset);
      const bitmapOffsetSectors = (offset - SUPERBLOCK_OFFSET_BYTES) / 512;
      editSuperblock(machine, path, { bitmapOffsetSectors });
    }
    await expect(load(machine)).rejects.toMatchObject({
      code: "bitmap-corrupt",
      message: "/disk0: a bitmap of 8192 regions reaches into the data",
    });
  });

  test("beside a lockless one is refused: they are not of one array", async () => {
    const machine = await stopped("internal");
    editBitmap(machine, "/disk1", { kind: "lockless", sectorsReserved: 256 });
    await expect(load(machine)).rejects.toMatchObject({
      code: "bitmap-corrupt",
      message: "/disk1: the bitmap is lockless, on /disk0 it is internal",
    });
  });

  test("has the bit of each region where md looks for it, also beyond the first 512", async () => {
    const shape = { sizeBytes: 2432 * 4 * KiB, regionBytes: 4 * KiB };
    const machine = await startMachine(1, { ...shape, bitmap: "internal" });
    const written = [5, 511, 512, 2431];
    for (const region of written) await write(machine, region * 4 * KiB, 512);
    const regions = [...new Array(machine.array.regions.count).keys()];
    expect(regions.filter((region) => bitOn(machine, "/disk1", region) === 1)).toEqual(written);
  });

  test("of a parity array that was stopped clean and degraded doubts no parity", async () => {
    const shape = { level: "5", layout: 2, chunkBytes: 64 * KiB, raidDisks: 3 } as const;
    const machine = await startMachine(1, { ...shape, bitmap: "internal" });
    await machine.world.until(machine.array.fail("/disk1"));
    await write(machine, 0, 4 * KiB);
    expect(machine.array.regions.state(0)).toBe(NeedSync);
    await machine.stop();
    const array = await load(machine);
    expect(array.regions.state(0)).toBe(NeedSync);
    expect(array.regions.anyDoubtIn(0, array.regions.count - 1)).toBe(false);
  });

  test("that missed writes of a parity array says nothing of its parity either", async () => {
    const shape = { level: "5", layout: 2, chunkBytes: 64 * KiB, raidDisks: 3 } as const;
    const machine = await startMachine(1, { ...shape, bitmap: "internal" });
    await machine.stop();
    for (const path of machine.paths) editBitmap(machine, path, { state: BITMAP_STALE });
    const { regions } = await load(machine);
    expect(regions.doubt(0)).toBe(Doubt.Unbuilt);
  });

  test("of a parity array has no parity to make: a first write is Dirty and asks for no sync", async () => {
    const shape = { level: "5", layout: 2, chunkBytes: 64 * KiB, raidDisks: 3 } as const;
    const machine = await startMachine(1, { ...shape, bitmap: "internal" });
    await write(machine, 0, 4 * KiB);
    expect(machine.array.regions.state(0)).toBe(Dirty);
    expect(machine.array.status().sync).toBeNull();
  });
});

describe("without a bitmap", () => {
  test("a clean array needs nothing", async () => {
    const array = await load(await stopped("none"));
    expect(array.regions.counts().needSync).toBe(0);
    expect(array.status().bitmap).toBeNull();
  });

  test("an unclean one is resynced from where its superblock says", async () => {
    const machine = await stopped("none");
    for (const path of BOTH) editSuperblock(machine, path, { resyncOffsetSectors: 300 });
    const array = await load(machine);
    expect(statesOf(array)).toEqual([Clean, Clean, NeedSync, NeedSync]);
    expect([1, 2].map((region) => array.regions.isSuspect(region))).toEqual([false, true]);
  });
});

describe("an unclean stop", () => {
  async function unclean(): Promise<Machine> {
    const machine = await startMachine(3);
    await write(machine, 0, 128 * KiB);
    machine.cut();
    return machine;
  }

  test("makes what was being written suspect", async () => {
    const array = await load(await unclean());
    expect(statesOf(array)[0]).toBe(NeedSync);
    expect(array.regions.anySuspect()).toBe(true);
  });

  test("is not called clean by a stop before the resync has ended", async () => {
    const machine = await unclean();
    machine.settings = { ...machine.settings, syncSpeedMax: 1024 };
    await machine.start();
    expect(machine.array.regions.anySuspect()).toBe(true);
    await machine.stop();
    for (const path of BOTH) expect(superblockOn(machine, path).resyncOffsetSectors).toBe(0);
    machine.settings = { ...machine.settings, syncSpeedMax: 0 };
    const array = await machine.start();
    await machine.world.until(array.wait());
    await machine.stop();
    for (const path of BOTH) expect(superblockOn(machine, path).resyncOffsetSectors).toBe("clean");
  });
});
