import { describe, expect, test } from "vitest";
import { REGIONS_PER_BLOCK } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { FEATURE_RECOVERY_OFFSET } from "../../src/metadata/features.ts";
import { decodeSuperblock, ROLE_FAULTY } from "../../src/metadata/superblock.ts";
import { expectInSyncEqual } from "../sim/checks.ts";
import { freshBytes } from "../sim/client.ts";
import type { Machine } from "../sim/machine.ts";
import { isSuperblock } from "../sim/order.ts";
import { KiB, MiB, startMachine, untilIssued, write } from "../sim/rule-machine.ts";
import type { Operation } from "../sim/traced.ts";
import { failWhile } from "./failing-members.ts";
import {
  BITMAP_OFFSET_BYTES,
  editState,
  stateOn,
  STATES_OFFSET_BYTES,
  superblockOn,
} from "./on-disk.ts";

/**
 * How a recovery ends: its target becomes a member in sync, or one of those it needs fails on the
 * way. A member comes back by bitmap to an array that was written without it.
 */
const never = new Promise<void>(() => undefined);

async function without(machine: Machine, ...paths: readonly string[]): Promise<void> {
  const { world, array } = machine;
  await write(machine, 0, 64 * KiB);
  for (const path of paths) {
    await world.until(array.fail(path));
    await world.until(array.remove(path));
  }
  await write(machine, 0, 64 * KiB);
}

describe("before a member is recorded in sync", () => {
  const TWO_BLOCKS = { sizeBytes: 40 * MiB };
  const REGION = REGIONS_PER_BLOCK + 7;

  /** A recovery that goes on after a restart; the second block of the bitmap never changes. */
  async function restarted(): Promise<Machine> {
    const machine = await startMachine(1, TWO_BLOCKS);
    await without(machine, "/disk1");
    machine.settings = { ...machine.settings, syncSpeedMax: 1024 };
    machine.array.set(machine.settings);
    await machine.world.until(machine.array.reAdd("/disk1"));
    machine.cut();
    editState(machine, "/disk1", REGION, State.NeedSync);
    machine.settings = { ...machine.settings, syncSpeedMax: 0 };
    const array = await machine.load(await machine.plan());
    expect(array.devices.slots[1]?.state).toBe("rebuilding");
    return machine;
  }

  const saysInSync = (machine: Machine) => (operation: Operation) => {
    if (operation.path !== "/disk1" || !isSuperblock(operation)) return false;
    const sectors = machine.disk("/disk1").sizeBytes / 512;
    const { featureMap } = decodeSuperblock(operation.bytes!, "/disk1", sectors);
    return (featureMap & FEATURE_RECOVERY_OFFSET) === 0;
  };

  test("it holds every block of the bitmap durably, also those that did not change", async () => {
    const machine = await restarted();
    const { world, array } = machine;
    await world.until(array.start());
    await untilIssued(machine, never, saysInSync(machine));
    const { operations } = machine.trace;
    const recorded = operations.find(saysInSync(machine))!;
    const blocks = new Set<number>();
    for (const { path, kind, offset, length, ended } of operations) {
      if (path !== "/disk1" || kind !== "writeDurable" || ended > recorded.issued) continue;
      const first = (offset - STATES_OFFSET_BYTES) / REGIONS_PER_BLOCK;
      for (let block = 0; block < length / REGIONS_PER_BLOCK; block++) blocks.add(first + block);
    }
    for (let block = 0; block < array.regions.blocks; block++) expect(blocks).toContain(block);
    await world.until(array.wait());
    expect(stateOn(machine, "/disk1", REGION)).toBe(stateOn(machine, "/disk0", REGION));
  });
});

describe("a target that fails while the survivor has no space to record it", () => {
  interface Stuck {
    readonly machine: Machine;
    readonly space: { missing: boolean };
  }

  /** The sync is about to write to its target, which will fail. */
  async function aboutToFail(unwritable: (offset: number) => boolean): Promise<Stuck> {
    const machine = await startMachine(1);
    await without(machine, "/disk1");
    const space = { missing: false };
    const lacksSpace = (offset: number): boolean => space.missing && unwritable(offset);
    failWhile(machine, "/disk0", "writeDurable", lacksSpace, "ENOSPC");
    await machine.world.until(machine.array.reAdd("/disk1"));
    failWhile(machine, "/disk1", "write", () => (space.missing = true));
    return { machine, space };
  }

  const recordedFaulty = (machine: Machine): boolean =>
    superblockOn(machine, "/disk0").roles[1] === ROLE_FAULTY;

  describe.each([
    ["bitmap superblock", (offset: number) => offset === BITMAP_OFFSET_BYTES],
    ["superblock", (offset: number) => offset < BITMAP_OFFSET_BYTES],
  ])("for its %s", (_name, unwritable) => {
    test("ends the sync, and the array tells so and goes on", async () => {
      const { machine } = await aboutToFail(unwritable);
      const { world, array } = machine;
      await world.until(world.sleep(5_000));
      expect(array.status()).toMatchObject({
        state: "active",
        degraded: 1,
        sync: null,
        lastSync: { action: "recovery", result: "stopped" },
        members: [{ state: "in_sync" }, { state: "faulty", writeErrors: 1 }],
      });
      expect(recordedFaulty(machine)).toBe(false);
      await world.until(array.read(Buffer.alloc(512), 0));
    });

    test("is recorded by the first request that finds space, before its answer", async () => {
      const { machine, space } = await aboutToFail(unwritable);
      const { world, array } = machine;
      await world.until(world.sleep(5_000));
      const bytes = freshBytes(world.random, 512);
      const full = { code: "no-space" };
      await expect(world.until(array.write(bytes, 0, false))).rejects.toMatchObject(full);
      await expect(world.until(array.flush())).rejects.toMatchObject(full);
      space.missing = false;
      await world.until(array.write(bytes, 0, false));
      expect(recordedFaulty(machine)).toBe(true);
      machine.cut();
      const { members } = await machine.plan();
      expect(members.map(({ use }) => use)).toEqual(["in_sync", "left out"]);
    });
  });
});

describe("after a recovery that failed, for its source could not be read", () => {
  /** Both targets of a recovery from /disk0, whose data cannot be read while `broken` says so. */
  async function failed(): Promise<{ machine: Machine; source: { broken: boolean } }> {
    const machine = await startMachine(1, { raidDisks: 3 });
    await without(machine, "/disk1", "/disk2");
    const source = { broken: true };
    const fails = (offset: number): boolean => source.broken && offset >= machine.dataOffset;
    failWhile(machine, "/disk0", "read", fails);
    const { world, array } = machine;
    await world.until(array.reAdd("/disk1"));
    await world.until(array.reAdd("/disk2"));
    await expect(world.until(array.wait())).rejects.toMatchObject({ code: "sync-failed" });
    return { machine, source };
  }

  test("nothing starts by itself, and nothing is called pending", async () => {
    const { machine, source } = await failed();
    source.broken = false;
    await machine.world.until(machine.world.sleep(60_000));
    expect(machine.array.status()).toMatchObject({ sync: null, lastSync: { result: "failed" } });
    expect(machine.array.devices.rebuilding()).toHaveLength(2);
  });

  test("a member that fails makes it start anew for the other", async () => {
    const { machine, source } = await failed();
    const { world, array } = machine;
    source.broken = false;
    await world.until(array.fail("/disk2"));
    await world.until(array.wait());
    expect(array.status()).toMatchObject({ sync: null, lastSync: { result: "done" } });
    expect(array.devices.inSync.map(({ slot }) => slot)).toEqual([0, 1]);
    expectInSyncEqual(machine, array);
  });

  test("so does one that is removed and comes back", async () => {
    const { machine, source } = await failed();
    const { world, array } = machine;
    await world.until(array.fail("/disk2"));
    await world.until(array.remove("/disk2"));
    await expect(world.until(array.wait())).rejects.toMatchObject({ code: "sync-failed" });
    source.broken = false;
    await world.until(array.add("/disk2", { writeMostly: false }));
    await world.until(array.wait());
    expect(array.devices.inSync).toHaveLength(3);
    expectInSyncEqual(machine, array);
  });

  test("once its targets are gone nothing is pending, and who waits is told how it ended", async () => {
    const { machine } = await failed();
    const { world, array } = machine;
    await world.until(array.fail("/disk1"));
    const waiting = array.wait();
    await world.until(array.fail("/disk2"));
    await expect(world.until(waiting)).rejects.toMatchObject({ code: "sync-failed" });
    await expect(world.until(array.wait())).rejects.toMatchObject({ code: "sync-failed" });
    expect(array.status().sync).toBeNull();
  });
});
