import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { decodeSuperblock } from "../../src/metadata/superblock.ts";
import type { Machine } from "../sim/machine.ts";
import { changesData, isSuperblock } from "../sim/order.ts";
import { KiB, startMachine, write } from "../sim/rule-machine.ts";
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
