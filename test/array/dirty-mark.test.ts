import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { decodeSuperblock } from "../../src/metadata/superblock.ts";
import { expectSame, readAll } from "../sim/checks.ts";
import type { Shape } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { changesData, isSuperblock } from "../sim/order.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { editBitmap, editSuperblock, superblockOn } from "./on-disk.ts";

/**
 * When superblocks say that writers may be at work: an array that was stopped clean is changed on
 * disk as another program or a lost bitmap would leave it, and runs again.
 */
const BOTH = ["/disk0", "/disk1"];
const REGION_BYTES = 64 * KiB;
/** md stopped a resync here: in the middle of region 2. */
const MD_RESYNC_OFFSET_SECTORS = 300;

const resyncOffsets = (machine: Machine): (number | "clean")[] =>
  BOTH.map((path) => superblockOn(machine, path).resyncOffsetSectors);

describe("a stop while members may differ, though nothing was written", () => {
  /** The bitmap has missed writes, so all regions are suspect; the superblocks say clean. */
  async function stoppedInResync(): Promise<Machine> {
    const machine = await startMachine(1);
    await write(machine, 0, 4 * REGION_BYTES);
    await machine.stop();
    for (const path of BOTH) editBitmap(machine, path, { events: 1 });
    machine.settings = { ...machine.settings, syncSpeedMax: 1024 };
    const array = await machine.start();
    expect(array.status()).toMatchObject({ state: "clean", sync: { action: "resync" } });
    await machine.stop();
    return machine;
  }

  test("leaves superblocks that do not say clean", async () => {
    expect(resyncOffsets(await stoppedInResync())).toEqual([0, 0]);
  });

  test("is followed by a start that suspects what was not copied, and copies it", async () => {
    const machine = await stoppedInResync();
    const array = await machine.load(await machine.plan());
    const left = Array.from({ length: array.regions.count }, (_, region) => region).filter(
      (region) => array.regions.state(region) === State.NeedSync,
    );
    expect(left.length).toBeGreaterThan(0);
    for (const region of left) expect(array.regions.isSuspect(region)).toBe(true);
    array.set({ syncSpeedMax: 0 });
    await machine.world.until(array.start());
    await machine.world.until(array.wait());
    expect(array.regions.anySuspect()).toBe(false);
    await machine.stop();
    expect(resyncOffsets(machine)).toEqual(["clean", "clean"]);
  });
});

describe("an array without a bitmap whose resync md stopped half-way", () => {
  async function halfWay(): Promise<Machine> {
    const machine = await startMachine(1, { bitmap: "none" });
    await machine.stop();
    for (const path of BOTH) {
      editSuperblock(machine, path, { resyncOffsetSectors: MD_RESYNC_OFFSET_SECTORS });
    }
    return machine;
  }

  test("says dirty from the start on, durably on every member, before the first write", async () => {
    const machine = await halfWay();
    machine.settings = { ...machine.settings, syncSpeedMax: 1024 };
    await machine.start();
    machine.trace.clear();
    await write(machine, 0, 4 * KiB);
    const { operations } = machine.trace;
    // The resync reads this member and does not write it.
    const data = operations.find((one) => one.path === "/disk0" && changesData(machine, one));
    const before = operations.filter((one) => isSuperblock(one) && one.ended < data!.issued);
    const sectors = machine.disk("/disk0").sizeBytes / 512;
    const said = before.map(({ path, bytes }) => {
      return [path, decodeSuperblock(bytes!, path, sectors).resyncOffsetSectors];
    });
    expect(said.sort()).toEqual(BOTH.map((path) => [path, 0]));
  });

  test("suspects what was written below md's offset after a crash", async () => {
    const machine = await halfWay();
    machine.settings = { ...machine.settings, syncSpeedMax: 1024 };
    await machine.start();
    await write(machine, 0, 4 * KiB);
    machine.cut();
    const array = await machine.load(await machine.plan());
    expect(array.regions.isSuspect(0)).toBe(true);
  });

  test("is clean after a resync and a stop, though nobody wrote", async () => {
    const machine = await halfWay();
    const array = await machine.start();
    await machine.world.until(array.wait());
    await machine.stop();
    expect(resyncOffsets(machine)).toEqual(["clean", "clean"]);
  });
});

describe("an array without a member that nobody writes to any more", () => {
  const RAID5 = { level: "5", layout: 2, chunkBytes: 16 * KiB, raidDisks: 4 } as const;
  const SHAPES: [string, Partial<Shape>][] = [
    ["level 1", {}],
    ["level 1 with an internal bitmap", { bitmap: "internal", regionBytes: 64 * KiB }],
    ["level 5", RAID5],
    ["level 5 with an internal bitmap", { ...RAID5, bitmap: "internal", regionBytes: 64 * KiB }],
    ["level 5 without a bitmap", { ...RAID5, bitmap: "none" }],
    ["level 6", { ...RAID5, level: "6" }],
  ];
  const LEFT = ["/disk0", "/disk2", "/disk3"];

  /** Written before the member went, and after. */
  async function degraded(shape: Partial<Shape>): Promise<Machine> {
    const machine = await startMachine(1, shape);
    const { world, array } = machine;
    await write(machine, 0, MiB);
    await world.until(array.fail("/disk1"));
    await write(machine, MiB / 2, MiB);
    return machine;
  }

  const offsets = (machine: Machine): unknown[] =>
    LEFT.filter((path) => machine.paths.includes(path)).map(
      (path) => superblockOn(machine, path).resyncOffsetSectors,
    );

  test.each(SHAPES)("%s: is marked clean, and a power cut costs nothing", async (_, shape) => {
    const machine = await degraded(shape);
    const { world, array } = machine;
    expect(new Set(offsets(machine))).toEqual(new Set([0]));
    await world.until(world.sleep(2_000));
    expect(array.status()).toMatchObject({ state: "clean", degraded: 1 });
    expect(new Set(offsets(machine))).toEqual(new Set(["clean"]));
    const held = await world.until(readAll(array));
    machine.cut();
    const again = await machine.start();
    expect(again.regions.anySuspect()).toBe(false);
    expectSame(await machine.world.until(readAll(again)), held, "the array after the cut");
  });

  test.each(SHAPES)("%s: says dirty again, durably, before the next write", async (_, shape) => {
    const machine = await degraded(shape);
    const { world } = machine;
    await world.until(world.sleep(2_000));
    machine.trace.clear();
    await write(machine, 0, 4 * KiB);
    const { operations } = machine.trace;
    const data = operations.find((one) => changesData(machine, one));
    const sectors = machine.disk("/disk0").sizeBytes / 512;
    const before = operations.filter((one) => isSuperblock(one) && one.ended < data!.issued);
    const said = before.map(
      ({ path, bytes }) => decodeSuperblock(bytes!, path, sectors).resyncOffsetSectors,
    );
    expect(said).toEqual(LEFT.filter((path) => machine.paths.includes(path)).map(() => 0));
    await world.until(world.sleep(2_000));
    expect(machine.array.status().state).toBe("clean");
  });

  test("is marked clean also after writes to what was marked before it started", async () => {
    const machine = await degraded(RAID5);
    await machine.stop();
    const array = await machine.start();
    await write(machine, MiB / 2, 4 * KiB);
    expect(array.status().state).toBe("active");
    await machine.world.until(machine.world.sleep(2_000));
    expect(array.status().state).toBe("clean");
  });

  test("stays marked as long as somebody writes", async () => {
    const machine = await degraded(RAID5);
    const { world, array } = machine;
    for (let at = 0; at < 40; at++) {
      await write(machine, 64 * KiB, 4 * KiB);
      await world.until(world.sleep(50));
      expect(array.status().state).toBe("active");
    }
  });

  test("stays marked while a region is suspect", async () => {
    const machine = await degraded(RAID5);
    machine.cut();
    const forced = await machine.load(await machine.plan(undefined, false, true));
    await machine.world.until(forced.start());
    await write(machine, 0, 4 * KiB);
    await machine.world.until(machine.world.sleep(5_000));
    expect(forced.regions.anySuspect()).toBe(true);
    expect(forced.status().state).toBe("active");
  });
});
