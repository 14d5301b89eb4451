/**
 * The durability rules that no crash has to show: each by its number, on the trace of what members
 * were asked, or on the disks of a machine that lost its power at the wrong moment.
 */
import { describe, expect, it } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { BITMAP_KINDS } from "../../src/metadata/layout.ts";
import { roleOf, ROLE_SPARE } from "../../src/metadata/superblock.ts";
import { expectInSyncEqual, expectUnmarkedEqual, readAll } from "./checks.ts";
import { blankDisk } from "./disks.ts";
import type { Machine } from "./machine.ts";
import { changesData, isSuperblock } from "./order.ts";
import { KiB, MiB, QUICK, startMachine, untilIssued, write } from "./rule-machine.ts";

describe("4: failure before answer", () => {
  it("a cut while a failure is recorded leaves no survivor behind", async () => {
    for (let steps = 0; steps < 60; steps++) {
      const machine = await startMachine(steps, { raidDisks: 3 });
      await write(machine, 0, 4 * KiB);
      const failing = machine.array.fail("/disk2");
      await machine.world.steps(failing, steps);
      machine.cut();
      const { members, missingActive } = await machine.plan();
      expect(missingActive).toEqual([]);
      expect(members.slice(0, 2).map(({ use }) => use)).toEqual(["in_sync", "in_sync"]);
    }
  });
});

describe("members are never two updates apart", () => {
  it("a cut while a member joins leaves it rebuilding, or as it was", async () => {
    const uses = new Set<string>();
    for (let steps = 0; steps < 60; steps++) {
      const machine = await startMachine(steps);
      await write(machine, 0, 4 * KiB);
      await machine.world.until(machine.array.fail("/disk1"));
      await machine.world.until(machine.array.remove("/disk1"));
      await machine.world.steps(machine.array.reAdd("/disk1"), steps);
      machine.cut();
      const { members, missingActive } = await machine.plan();
      expect(missingActive).toEqual([]);
      expect(members[0]?.use).toBe("in_sync");
      uses.add(members[1]?.use ?? "");
    }
    expect([...uses].sort()).toEqual(["left out", "rebuilding"]);
  });

  it("nor after a cut that found them one apart, when the next is cut too", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const machine = await startMachine(seed, { raidDisks: 3 });
      const { world } = machine;
      const first = machine.array.write(new Uint8Array(4 * KiB), 0, false);
      await untilIssued(machine, first, isSuperblock);
      await world.steps(first, 2);
      machine.cut();
      await machine.start();
      await world.steps(machine.array.fail(world.pick(["/disk1", "/disk2"])), world.below(12));
      machine.cut();
      const { missingActive } = await machine.plan();
      expect(missingActive).toEqual([]);
    }
  });
});

describe("7: no space", () => {
  it("for what ends a recovery: it waits, says so, and ends when there is some", async () => {
    const machine = await startMachine();
    const { world, array } = machine;
    await write(machine, 0, 64 * KiB);
    await world.until(array.fail("/disk1"));
    await write(machine, 64 * KiB, 64 * KiB);
    await world.until(array.remove("/disk1"));
    await world.until(array.reAdd("/disk1"));
    machine.trace.clear();
    await untilIssued(machine, new Promise(() => undefined), (operation) =>
      changesData(machine, operation),
    );
    for (const nth of [1, 2, 3]) {
      machine.member("/disk0").failOperation({ nth, kind: "writeDurable", code: "ENOSPC" });
    }
    await world.until(world.sleep(900));
    expect(array.status().sync?.waitingFor).toMatch(/space/);
    await world.until(array.wait());
    expect(array.devices.all().map(({ state }) => state)).toEqual(["in_sync", "in_sync"]);
    machine.cut();
    const { members } = await machine.plan();
    expect(members.map(({ use }) => use)).toEqual(["in_sync", "in_sync"]);
  });
});

describe("10: read-repair", () => {
  it("never writes to a read-only array, however many reads fail", async () => {
    const machine = await startMachine();
    await write(machine, 0, 256 * KiB);
    await machine.stop();
    const array = await machine.load(await machine.plan(machine.paths, true), true);
    await machine.world.until(array.start());
    machine.member("/disk0").failOperation({ nth: 1, kind: "read", persistent: true });
    machine.trace.clear();
    for (let count = 0; count < 60; count++) {
      await machine.world.until(array.read(Buffer.alloc(4 * KiB), (count % 60) * 4 * KiB));
    }
    await machine.world.until(array.stop());
    const kinds = new Set(machine.trace.operations.map(({ kind }) => kind));
    expect([...kinds]).toEqual(["read"]);
  });
});

describe("11: who may join", () => {
  async function withoutDisk1(machine: Machine): Promise<void> {
    await write(machine, 0, 64 * KiB);
    await machine.world.until(machine.array.fail("/disk1"));
    await machine.world.until(machine.array.remove("/disk1"));
    await write(machine, 1 * MiB, 64 * KiB);
  }

  it.for(BITMAP_KINDS)(
    "by bitmap while nothing was forgotten, and then only what is marked is copied (%s)",
    async (bitmap) => {
      const machine = await startMachine(1, { bitmap });
      const { world } = machine;
      await write(machine, 512 * KiB, 64 * KiB);
      await world.until(world.sleep(2_000));
      await withoutDisk1(machine);
      machine.trace.clear();
      await world.until(machine.array.reAdd("/disk1"));
      await world.until(machine.array.wait());
      const copied = machine.trace.operations.filter((operation) =>
        changesData(machine, operation),
      );
      const starts = copied.map(({ offset }) => offset - machine.dataOffset);
      expect(starts.sort((a, b) => a - b)).toEqual([0, 1 * MiB]);
      expectInSyncEqual(machine, machine.array);
    },
  );

  it.for(BITMAP_KINDS)(
    "not by bitmap once regions became clean without it (%s)",
    async (bitmap) => {
      const machine = await startMachine(1, { bitmap });
      const { world } = machine;
      await withoutDisk1(machine);
      machine.disks.set("/disk2", blankDisk(machine.shape));
      await world.until(machine.array.add("/disk2", { writeMostly: false }));
      await world.until(machine.array.wait());
      await world.until(world.sleep(2_000));
      expect(machine.array.status().bitmap?.needSync).toBe(0);
      await world.until(machine.array.fail("/disk2"));
      await world.until(machine.array.remove("/disk2"));
      await expect(world.until(machine.array.reAdd("/disk1"))).rejects.toMatchObject({
        code: "re-add-refused",
      });
      await world.until(machine.array.add("/disk1", { writeMostly: false }));
      await world.until(machine.array.wait());
      expectInSyncEqual(machine, machine.array);
    },
  );

  it("by an internal bitmap after a restart and a crash without it: what is marked stays so", async () => {
    const machine = await startMachine(1, { bitmap: "internal" });
    const { world } = machine;
    await withoutDisk1(machine);
    await world.until(world.sleep(2_000));
    await machine.stop();
    const gone = machine.paths.filter((path) => path !== "/disk1");
    const load = async () => machine.load(await machine.plan(gone));
    let array = await load();
    expect(array.regions.counts().needSync).toBe(2);
    machine.settings = QUICK;
    await world.until(array.start());
    await write(machine, 512 * KiB, 4 * KiB);
    machine.cut();
    array = await load();
    expect(array.regions.counts().needSync).toBe(3);
    await world.until(array.start());
    await world.until(array.wait());
    await world.until(world.sleep(2_000));
    expect(array.regions.counts().needSync).toBe(3);
    machine.trace.clear();
    await world.until(array.reAdd("/disk1"));
    await world.until(array.wait());
    const copied = machine.trace.operations.filter(
      (operation) => operation.path === "/disk1" && changesData(machine, operation),
    );
    const starts = copied.map(({ offset }) => offset - machine.dataOffset);
    expect(starts.sort((a, b) => a - b)).toEqual([0, 512 * KiB, 1 * MiB]);
    expectInSyncEqual(machine, array);
    await world.until(world.sleep(2_000));
    expect(array.status()).toMatchObject({ state: "clean", bitmap: { dirty: 0, needSync: 0 } });
  });

  it("two halves that each went on without the other are not put together", async () => {
    const machine = await startMachine();
    await write(machine, 0, 64 * KiB);
    for (const path of machine.paths) {
      machine.cut();
      await machine.start([path]);
      await write(machine, 0, 64 * KiB);
    }
    machine.cut();
    const { refusal } = await machine.plan();
    expect(refusal?.code).toBe("split-brain");
    expect(refusal?.message).toMatch(/\/disk0.*\/disk1/);
  });
});

describe("a member that failed is just stale", () => {
  it("where one that it counts on brought back the one that it does not", async () => {
    const machine = await startMachine(1, { raidDisks: 3 });
    const { world } = machine;
    for (const path of ["/disk0", "/disk1"]) {
      await world.until(machine.array.fail(path));
      await write(machine, 0, 64 * KiB);
    }
    await world.until(machine.array.remove("/disk0"));
    await world.until(machine.array.add("/disk0", { writeMostly: false }));
    await world.until(machine.array.wait());
    await machine.stop();
    const { refusal, members } = await machine.plan();
    expect(refusal).toBeNull();
    expect(members.map(({ use }) => use)).toEqual(["in_sync", "left out", "in_sync"]);
  });
});

describe("a member that fails during a stop", () => {
  it("is recorded, and the others are left clean", async () => {
    for (const kind of ["sync", "writeDurable"] as const) {
      for (let nth = 1; nth <= (kind === "sync" ? 1 : 4); nth++) {
        const machine = await startMachine();
        await write(machine, 0, 4 * KiB);
        machine.member("/disk1").failOperation({ nth, kind, persistent: true });
        await machine.stop();
        const { freshest, members } = await machine.plan();
        expect(members.map(({ use }) => use)).toEqual(["in_sync", "left out"]);
        expect(freshest.resyncOffsetSectors).toBe("clean");
      }
    }
  });
});

describe("12: before a member is recorded in sync", () => {
  it("an old member is a spare, durably, before what it held is thrown away", async () => {
    const machine = await startMachine(5, { bitmap: "none" });
    const { world } = machine;
    await write(machine, 0, 64 * KiB);
    await world.until(machine.array.fail("/disk1"));
    await world.until(machine.array.remove("/disk1"));
    machine.trace.clear();
    const added = machine.array.add("/disk1", { writeMostly: false });
    await untilIssued(machine, added, ({ kind }) => kind === "punch");
    machine.cut();
    const { members } = await machine.plan();
    const old = members.find(({ found }) => found.path === "/disk1");
    expect(old?.use).toBe("spare");
    const superblock = old!.found.superblock;
    expect(roleOf(superblock, superblock.devNumber)).toBe(ROLE_SPARE);
  });

  it("what is Unwritten is zero on it, whatever it held", async () => {
    const machine = await startMachine();
    const { world } = machine;
    await write(machine, 0, 256 * KiB);
    await world.until(machine.array.fail("/disk1"));
    await world.until(machine.array.remove("/disk1"));
    machine.disks.set("/disk2", blankDisk(machine.shape));
    await world.until(machine.array.add("/disk2", { writeMostly: false }));
    await world.until(machine.array.wait());
    await world.until(machine.array.trim(0, 256 * KiB, true));
    await world.until(world.sleep(2_000));
    expect(machine.array.regions.state(0)).toBe(State.Unwritten);
    await world.until(machine.array.fail("/disk2"));
    await world.until(machine.array.add("/disk1", { writeMostly: false }));
    await world.until(machine.array.wait());
    expectUnmarkedEqual(machine, machine.array);
    expectInSyncEqual(machine, machine.array);
  });

  it("a cut at any moment of a recovery leaves no member that counts and lacks data", async () => {
    for (let steps = 0; steps < 400; steps += 7) {
      const machine = await startMachine(steps);
      const { world } = machine;
      await write(machine, 0, 640 * KiB);
      await world.until(machine.array.flush());
      await world.until(machine.array.fail("/disk0"));
      const bytes = await write(machine, 64 * KiB, 640 * KiB);
      await world.until(machine.array.flush());
      await world.until(machine.array.remove("/disk0"));
      const recovered = machine.array.reAdd("/disk0").then(() => machine.array.wait());
      await world.steps(recovered, steps);
      machine.cut();
      const array = await machine.load(await machine.plan());
      expectUnmarkedEqual(machine, array);
      const held = await world.until(readAll(array));
      expect(held.subarray(64 * KiB, 704 * KiB).equals(bytes)).toBe(true);
    }
  });

  // At a limited speed, so that there are checkpoints. What lies below one is not copied again.
  it("a recovery that was cut goes on where the disks are sure to hold what it copied", async () => {
    let checkpoints = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const machine = await startMachine(seed);
      const { world } = machine;
      machine.settings = { ...QUICK, syncSpeedMin: 0, syncSpeedMax: 1 * MiB };
      machine.array.set(machine.settings);
      await write(machine, 0, 2 * MiB);
      await world.until(world.sleep(2_000));
      await world.until(machine.array.fail("/disk1"));
      machine.disks.set("/disk2", blankDisk(machine.shape));
      await world.until(machine.array.add("/disk2", { writeMostly: false }));
      await world.until(world.sleep(1_200 + world.below(400)));
      machine.cut();
      const array = await machine.load(await machine.plan());
      expectUnmarkedEqual(machine, array);
      const [target] = array.devices.rebuilding();
      const from = target?.recovery?.offset ?? 0;
      if (from > 0) checkpoints++;
      await world.until(array.start());
      await world.until(array.wait());
      expect(array.status().lastSync?.readBytes).toBe(2 * MiB - from);
      expectInSyncEqual(machine, array);
    }
    expect(checkpoints).toBeGreaterThan(6);
  });
});
