import { describe, expect, test } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import type { SyncVerb } from "../../src/array/status.ts";
import { expectInSyncEqual } from "../sim/checks.ts";
import { blankDisk, contents, put, type Shape } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { failOnce, failWhile } from "./failing-members.ts";

/** What users ask of syncs on a running array: check, repair, resync, idle, frozen. */
const VERBS: readonly SyncVerb[] = ["check", "repair", "resync", "idle", "frozen"];
const RAID5: Partial<Shape> = { level: "5", layout: 2, chunkBytes: 16 * KiB, raidDisks: 4 };
const SLOW = { syncSpeedMax: 512 * KiB };
const FAST = { syncSpeedMax: 0 };

/** All of it written, and clean. */
async function filled(shape: Partial<Shape> = {}, seed = 1): Promise<Machine> {
  const machine = await startMachine(seed, shape);
  const { world, array } = machine;
  for (let at = 0; at < array.sizeBytes; at += MiB) {
    await write(machine, at, Math.min(MiB, array.sizeBytes - at));
  }
  await world.until(world.sleep(1_000));
  expect(array.status()).toMatchObject({ state: "clean", sync: null });
  return machine;
}

/** One byte of a member's data is another, and nobody knows. */
function rot(machine: Machine, path: string, offset: number): void {
  const disk = machine.disk(path);
  const [byte] = contents(disk, machine.dataOffset + offset, 1);
  put(disk, Uint8Array.of(byte! ^ 0x10), machine.dataOffset + offset);
}

async function ask({ world, array }: Machine, verb: SyncVerb): Promise<void> {
  await world.until(array.sync(verb));
}

async function run(machine: Machine, verb: SyncVerb): Promise<void> {
  await ask(machine, verb);
  await machine.world.until(machine.array.wait());
}

/** Goes on until the status is so. */
async function untilStatus(
  { world, array }: Machine,
  holds: (status: ReturnType<RaidArray["status"]>) => boolean,
): Promise<void> {
  while (!holds(array.status())) expect(await world.step(), "something happens").toBe(true);
}

const runs = (action: string) => (status: ReturnType<RaidArray["status"]>) =>
  status.sync?.action === action && !status.sync.pending && status.sync.doneBytes > 0;

describe("a check", () => {
  test.each<[string, Partial<Shape>, number]>([
    ["level 1", {}, 128],
    ["level 10 with small chunks", { ...RAID5, level: "10", layout: 0x102 }, 32],
    ["level 5", RAID5, 8],
    ["level 6", { ...RAID5, level: "6" }, 8],
  ])("at %s counts in md's units; a repair makes it right", async (_name, shape, sectors) => {
    const machine = await filled(shape);
    const { array } = machine;
    rot(machine, "/disk1", 256 * KiB + 7);
    await run(machine, "check");
    expect(array.status()).toMatchObject({
      mismatchCount: sectors,
      state: "clean",
      lastSync: { action: "check", result: "done", writtenBytes: 0 },
    });
    await run(machine, "repair");
    expect(array.status()).toMatchObject({
      mismatchCount: sectors,
      lastSync: { action: "repair", result: "done" },
    });
    expectInSyncEqual(machine, array);
    await run(machine, "check");
    expect(array.status().mismatchCount).toBe(0);
  });

  test("reads all that was written, on every member, and leaves the rest", async () => {
    const machine = await startMachine();
    await write(machine, 64 * KiB, 64 * KiB);
    await run(machine, "check");
    const { regionSize, unwritten } = machine.array.status().bitmap!;
    expect(machine.array.status().lastSync).toMatchObject({
      readBytes: 2 * regionSize,
      skippedBytes: unwritten * regionSize,
    });
  });

  test("starts its count anew, and shows it while it runs", async () => {
    const machine = await filled();
    rot(machine, "/disk1", 0);
    rot(machine, "/disk1", MiB);
    await run(machine, "repair");
    expect(machine.array.status().mismatchCount).toBe(256);
    rot(machine, "/disk1", 0);
    machine.array.set(SLOW);
    await ask(machine, "check");
    expect(machine.array.status().mismatchCount).toBe(0);
    await untilStatus(machine, runs("check"));
    expect(machine.array.status().mismatchCount).toBe(128);
  });

  test("is interrupted by a recovery, and goes on where it was", async () => {
    const machine = await filled({ raidDisks: 3, sizeBytes: 4 * MiB });
    const { world, array } = machine;
    await world.until(array.fail("/disk2"));
    await world.until(array.remove("/disk2"));
    await write(machine, 0, 64 * KiB);
    array.set(SLOW);
    await ask(machine, "check");
    await untilStatus(machine, (status) => runs("check")(status) && status.sync!.doneBytes >= MiB);
    await world.until(array.reAdd("/disk2"));
    await untilStatus(machine, ({ sync }) => sync?.action === "recovery");
    expect(array.status().lastSync, "the check has not ended").toBeNull();
    await untilStatus(machine, ({ sync }) => sync?.action === "check");
    expect(array.status().lastSync).toMatchObject({ action: "recovery", result: "done" });
    expect(array.status().sync!.doneBytes).toBeGreaterThanOrEqual(MiB);
    array.set(FAST);
    await world.until(array.wait());
    const { lastSync, mismatchCount } = array.status();
    expect(lastSync).toMatchObject({ action: "check", result: "done" });
    expect(mismatchCount).toBe(0);
    // Two members at first, three then, and nothing twice.
    expect(lastSync!.readBytes).toBeLessThan(3 * 4 * MiB);
  });

  test("is interrupted by a resync, where a write has found no space", async () => {
    const machine = await filled({ sizeBytes: 4 * MiB });
    const { world, array } = machine;
    array.set(SLOW);
    await ask(machine, "check");
    await untilStatus(machine, runs("check"));
    failOnce(machine, "/disk1", "write", () => true, "ENOSPC");
    await expect(write(machine, 3 * MiB, 4096)).rejects.toMatchObject({ code: "no-space" });
    const asked = array.status().sync!.doneBytes;
    expect(asked, "the check is far from there").toBeLessThan(3 * MiB);
    await untilStatus(machine, ({ sync }) => sync?.action === "resync");
    array.set(FAST);
    await untilStatus(machine, ({ lastSync }) => lastSync !== null);
    expect(array.status().lastSync).toMatchObject({ action: "resync", result: "done" });
    await world.until(array.wait());
    expect(array.status()).toMatchObject({ mismatchCount: 0, lastSync: { action: "check" } });
  });

  test("goes on without a member that fails", async () => {
    const machine = await filled({ raidDisks: 3 });
    const { world, array } = machine;
    array.set(SLOW);
    await ask(machine, "check");
    await untilStatus(machine, runs("check"));
    await world.until(array.fail("/disk1"));
    array.set(FAST);
    await world.until(array.wait());
    expect(array.status()).toMatchObject({ degraded: 1, mismatchCount: 0 });
    expect(array.status().lastSync).toMatchObject({ action: "check", result: "done" });
  });

  test("that is asked for twice is one; another is refused until it has ended", async () => {
    const machine = await filled();
    const { world, array } = machine;
    array.set(SLOW);
    await ask(machine, "check");
    await ask(machine, "check");
    const refused = { code: "sync-busy", message: expect.stringContaining("a check") as string };
    await expect(world.until(array.sync("repair"))).rejects.toMatchObject(refused);
    array.set(FAST);
    await world.until(array.wait());
    await run(machine, "repair");
    expect(array.status().lastSync).toMatchObject({ action: "repair", result: "done" });
  });

  test("has left its result when it is no longer shown", async () => {
    const machine = await filled();
    await ask(machine, "check");
    await untilStatus(machine, ({ sync }) => sync === null);
    expect(machine.array.status().lastSync?.action).toBe("check");
  });
});

describe("a resync that is asked for", () => {
  test("goes over what is clean too, and is called a resync", async () => {
    const machine = await filled();
    rot(machine, "/disk1", MiB);
    await run(machine, "resync");
    expect(machine.array.status()).toMatchObject({
      mismatchCount: 128,
      lastSync: { action: "resync", result: "done", skippedBytes: 0 },
    });
    expectInSyncEqual(machine, machine.array);
  });
});

describe("idle", () => {
  test("ends what was asked for: it was stopped, and nothing waits for it", async () => {
    const machine = await filled();
    const { world, array } = machine;
    array.set(SLOW);
    await ask(machine, "check");
    await untilStatus(machine, runs("check"));
    const waiting = array.wait();
    await ask(machine, "idle");
    await world.until(waiting);
    expect(array.status()).toMatchObject({
      sync: null,
      lastSync: { action: "check", result: "stopped" },
    });
  });

  test("lets what is needed start again", async () => {
    const machine = await filled();
    const { world, array } = machine;
    await world.until(array.fail("/disk1"));
    await world.until(array.remove("/disk1"));
    await write(machine, 0, 512 * KiB);
    array.set(SLOW);
    await world.until(array.reAdd("/disk1"));
    await ask(machine, "idle");
    expect(array.status()).toMatchObject({
      sync: { action: "recovery", pending: false },
      lastSync: { action: "recovery", result: "stopped" },
    });
    array.set(FAST);
    await world.until(array.wait());
    expect(array.devices.inSync).toHaveLength(2);
  });
});

describe("frozen", () => {
  async function frozen(): Promise<Machine> {
    const machine = await filled();
    const { world, array } = machine;
    await world.until(array.fail("/disk1"));
    await world.until(array.remove("/disk1"));
    await write(machine, 0, 512 * KiB);
    await ask(machine, "frozen");
    await world.until(array.reAdd("/disk1"));
    return machine;
  }

  test("lets nothing start, and says so", async () => {
    const machine = await frozen();
    const { world, array } = machine;
    await world.until(world.sleep(10_000));
    expect(array.status()).toMatchObject({
      degraded: 1,
      sync: {
        action: "recovery",
        pending: true,
        waitingFor: expect.stringContaining("frozen") as string,
      },
    });
    let waited = false;
    void array.wait().then(() => (waited = true));
    await world.until(world.sleep(1_000));
    expect(waited).toBe(false);
  });

  test("ends with idle", async () => {
    const machine = await frozen();
    const { world, array } = machine;
    const waiting = array.wait();
    await ask(machine, "idle");
    await world.until(waiting);
    expect(array.status()).toMatchObject({ degraded: 0, lastSync: { action: "recovery" } });
  });

  test("ends with a check, which comes after what is needed", async () => {
    const machine = await frozen();
    await run(machine, "check");
    const { lastSync, degraded } = machine.array.status();
    expect(degraded).toBe(0);
    expect(lastSync).toMatchObject({ action: "check", result: "done" });
  });
});

describe("a degraded array of level 5 after a crash", () => {
  /** One member is gone when it starts again; what a crash may have torn is suspect. */
  async function crashed(): Promise<{ machine: Machine; bytes: Uint8Array }> {
    const machine = await startMachine(1, RAID5);
    const { world } = machine;
    const bytes = await write(machine, 0, 256 * KiB);
    await world.until(machine.array.flush());
    machine.cut();
    const paths = ["/disk0", "/disk2", "/disk3"];
    const array = await machine.load(await machine.plan(paths, false, true));
    await world.until(array.start());
    await world.until(array.wait());
    return { machine, bytes };
  }

  test("does not sync again and again what nobody can know", async () => {
    const { machine } = await crashed();
    const { world, array } = machine;
    await world.until(world.sleep(60_000));
    expect(array.status().sync).toBeNull();
    expect(array.regions.anySuspect()).toBe(true);
  });

  test("cannot be rebuilt until a repair has accepted what parity says", async () => {
    const { machine, bytes } = await crashed();
    const { world, array } = machine;
    const into = Buffer.alloc(bytes.length);
    await expect(world.until(array.read(into, 0))).rejects.toMatchObject({ code: "unknown-data" });
    machine.disks.set("/new", blankDisk(machine.shape));
    await world.until(array.add("/new", { writeMostly: false }));
    await expect(world.until(array.wait())).rejects.toMatchObject({ code: "sync-failed" });
    expect(array.status()).toMatchObject({ degraded: 1, lastSync: { action: "recovery" } });
    await run(machine, "check");
    expect(array.status().degraded, "a check accepts nothing").toBe(1);
    await run(machine, "repair");
    expect(array.status()).toMatchObject({ degraded: 0, sync: null });
    await world.until(array.read(into, 0));
    expect(into.equals(bytes)).toBe(true);
    expectInSyncEqual(machine, array);
  });
});

describe("are refused", () => {
  test.each(VERBS)("%s at a level without redundancy", async (verb) => {
    const machine = await startMachine(1, { level: "0", layout: 1, chunkBytes: 16 * KiB });
    await expect(machine.world.until(machine.array.sync(verb))).rejects.toMatchObject({
      code: "not-supported",
    });
    expect(machine.array.status().sync).toBeNull();
  });

  test("on a read-only array", async () => {
    const machine = await filled();
    await machine.stop();
    const array = await machine.load(await machine.plan(machine.paths, true), true);
    await expect(machine.world.until(array.sync("check"))).rejects.toMatchObject({
      code: "read-only",
    });
  });
});

describe("what a repair has mended", () => {
  test.each<[string, Partial<Shape>]>([
    ["level 1", {}],
    ["level 5", RAID5],
  ])("is durable when it is done, on %s", async (_, shape) => {
    for (let seed = 1; seed <= 6; seed++) {
      const machine = await filled(shape, seed);
      rot(machine, "/disk1", 256 * KiB + 7);
      await run(machine, "repair");
      machine.cut();
      await machine.start();
      await run(machine, "check");
      expect(machine.array.status().mismatchCount, `seed ${seed}`).toBe(0);
    }
  });

  test("is durable when a check rewrote what a member could not read", async () => {
    const machine = await filled();
    const bad = machine.dataOffset + 64 * KiB;
    machine.trace.clear();
    const onIt = (kind: string): number =>
      machine.trace.operations.findLastIndex((one) => one.path === "/disk1" && one.kind === kind);
    failWhile(machine, "/disk1", "read", (offset, length) => {
      return onIt("write") < 0 && offset <= bad && bad < offset + length;
    });
    await run(machine, "check");
    expect(onIt("write")).toBeGreaterThanOrEqual(0);
    expect(onIt("sync")).toBeGreaterThan(onIt("write"));
  });
});
