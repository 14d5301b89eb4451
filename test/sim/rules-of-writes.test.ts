/**
 * The durability rules that no crash has to show: each by its number, on the trace of what members
 * were asked, or on the disks of a machine that lost its power at the wrong moment.
 */
import { describe, expect, it } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { BITMAP_KINDS } from "../../src/metadata/layout.ts";
import { readAll } from "./checks.ts";
import { freshBytes, runClients } from "./client.ts";
import { Machine } from "./machine.ts";
import { Model } from "./model.ts";
import {
  changesData,
  expectInSteps,
  expectMarkedBeforeData,
  expectSyncedBeforeEqual,
  isSuperblock,
  kindOf,
} from "./order.ts";
import { KiB, QUICK, SHAPE, startMachine, untilIssued, write } from "./rule-machine.ts";
import type { Operation } from "./traced.ts";
import { World } from "./world.ts";

async function work(machine: Machine, requests: number): Promise<Model> {
  const model = new Model(machine.array.sizeBytes);
  const options = { requests, clients: 4, pauseMs: 400 };
  await machine.world.until(runClients(machine.world, machine.array, model, options));
  return model;
}

const isBitmapSuperblock = (machine: Machine) => (operation: Operation) =>
  operation.kind === "writeDurable" && operation.offset === machine.array.metadata.bitmapOffset();

const isStates = (machine: Machine) => (operation: Operation) =>
  operation.kind === "writeDurable" &&
  operation.offset === machine.array.metadata.statesOffset(kindOf(machine.array));

/** What holds of a bitmap that lies on members holds of each kind. */
const KINDS = BITMAP_KINDS.map((bitmap) => ({ bitmap }));

describe.for(KINDS)("1: durable before data, with a bitmap that is $bitmap", ({ bitmap }) => {
  it("a region is marked on every member before its data is issued to any", async () => {
    for (const inline of [false, true]) {
      const machine = new Machine(new World(2), { ...SHAPE, bitmap, raidDisks: 3 });
      machine.inline = inline;
      machine.settings = QUICK;
      await machine.start();
      await work(machine, 60);
      expectMarkedBeforeData(machine);
    }
  });

  it("a write that could be done at once does not overtake the mark of another", async () => {
    const machine = new Machine(new World(3), { ...SHAPE, bitmap });
    machine.inline = true;
    const array = await machine.start();
    await write(machine, 1024 * KiB, 4 * KiB);
    machine.trace.clear();
    const bytes = freshBytes(machine.world.random, 4 * KiB);
    const marking = array.write(bytes, 0, false);
    await untilIssued(machine, marking, ({ kind }) => kind === "writeDurable");
    expect(array.regions.state(0)).toBe(State.Dirty);
    expect(array.tryWrite(bytes, 8 * KiB, false)).toBe(false);
    await machine.world.until(marking);
    expect(array.tryWrite(bytes, 8 * KiB, false)).toBe(true);
  });
});

describe.for(KINDS)("2: equal is written only after sync ($bitmap)", ({ bitmap }) => {
  it("no state and no superblock says so before every member is synced", async () => {
    const machine = await startMachine(1, { bitmap });
    await work(machine, 25);
    await machine.world.until(machine.world.sleep(2_000));
    expect(machine.array.status().bitmap?.clean).toBeGreaterThan(0);
    await machine.world.until(machine.array.stop());
    expectSyncedBeforeEqual(machine);
  });

  // The array was cut when every region was Clean and the superblock not yet: nothing is to be
  // resynced, but what lies on the members is synced before the superblock says clean.
  it("a write during the sync that ends a rest keeps the superblock dirty", async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const machine = await startMachine(seed, { bitmap });
      await write(machine, 0, 4 * KiB);
      await untilIssued(machine, machine.world.sleep(2_000), (operation) => {
        const { issued } = operation;
        const states = machine.trace.operations.filter(isStates(machine));
        const cleaned = states.length > 2 && states.every(({ ended }) => ended < issued);
        return isBitmapSuperblock(machine)(operation) && cleaned;
      });
      machine.cut();
      const array = await machine.start();
      expect(array.status()).toMatchObject({ state: "active", bitmap: { dirty: 0, needSync: 0 } });
      machine.trace.clear();
      const rest = machine.world.sleep(2_000);
      await untilIssued(machine, rest, ({ kind }) => kind === "sync");
      await write(machine, 0, 512);
      await machine.world.until(rest);
      expect(array.status().state).toBe("clean");
      expectSyncedBeforeEqual(machine);
    }
  });
});

describe.for(KINDS)("3: order of metadata ($bitmap)", ({ bitmap }) => {
  it("a clean stop syncs members, then writes states, bitmap superblock, superblocks", async () => {
    const machine = await startMachine(1, { bitmap });
    await write(machine, 0, 4 * KiB);
    machine.trace.clear();
    await machine.world.until(machine.array.stop());
    const { operations } = machine.trace;
    // events_cleared precedes the states; the update of the array follows them.
    const first = operations.findIndex(isStates(machine));
    expectInSteps(operations.slice(0, first), [
      ({ kind }) => kind === "sync",
      isBitmapSuperblock(machine),
    ]);
    expectInSteps(operations.slice(first), [
      isStates(machine),
      isBitmapSuperblock(machine),
      isSuperblock,
    ]);
  });

  it("the first write says dirty in the superblocks before its data", async () => {
    const machine = await startMachine(1, { bitmap });
    machine.trace.clear();
    await write(machine, 0, 4 * KiB);
    expectInSteps(machine.trace.operations, [
      isBitmapSuperblock(machine),
      isSuperblock,
      (operation) => changesData(machine, operation),
    ]);
  });
});

describe("5: flush", () => {
  it("does not share a sync that began before it", async () => {
    const machine = new Machine(new World(1), SHAPE);
    machine.inline = true;
    const array = await machine.start();
    await write(machine, 0, 4 * KiB);
    machine.trace.clear();
    const early = array.flush();
    await untilIssued(machine, early, ({ kind }) => kind === "sync");
    expect(array.tryWrite(freshBytes(machine.world.random, 512), 0, false)).toBe(true);
    await machine.world.until(Promise.all([early, array.flush()]));
    const { operations } = machine.trace;
    const written = operations.findIndex((operation) => changesData(machine, operation));
    const later = operations.slice(written).filter(({ kind }) => kind === "sync");
    expect(later.map(({ path }) => path).sort()).toEqual(["/disk0", "/disk1"]);
  });
});

describe("8: pinned reads", () => {
  /** Power is cut between a write's two members: they differ, and nobody knows. */
  async function differing(): Promise<Machine> {
    const machine = await startMachine(3);
    await write(machine, 0, 64 * KiB);
    await machine.world.until(machine.array.flush());
    machine.member("/disk1").failOperation({ nth: 1, kind: "write" });
    const never = machine.array.write(freshBytes(machine.world.random, 64 * KiB), 0, false);
    await untilIssued(machine, never, (operation) => changesData(machine, operation));
    await machine.world.steps(never, 2);
    machine.cut();
    return machine;
  }

  it("before and during the resync one member answers all reads of a region", async () => {
    const machine = await differing();
    const { world } = machine;
    const array = await machine.load(await machine.plan());
    expect(array.regions.state(0)).toBe(State.NeedSync);
    machine.trace.clear();
    for (let count = 0; count < 20; count++) {
      await world.until(array.read(Buffer.alloc(4 * KiB), (count % 4) * 8 * KiB));
    }
    const readers = new Set(machine.trace.operations.map(({ path }) => path));
    expect([...readers]).toEqual(["/disk0"]);
  });

  it("what was read stays when the source is failed after a resync of a degraded array", async () => {
    const machine = await startMachine(4, { raidDisks: 3 });
    const { world } = machine;
    await world.until(machine.array.fail("/disk2"));
    const writes = Array.from({ length: 8 }, (_, index) =>
      machine.array.write(freshBytes(world.random, 64 * KiB), index * 64 * KiB, false),
    );
    await world.until(Promise.all(writes));
    machine.cut();
    const array = await machine.start();
    await world.until(array.wait());
    const before = await world.until(readAll(array));
    await world.until(array.fail("/disk0"));
    machine.cut();
    const after = await world.until(readAll(await machine.load(await machine.plan())));
    expect(after.equals(before)).toBe(true);
  });
});
