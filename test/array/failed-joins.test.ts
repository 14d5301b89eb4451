import { describe, expect, test } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import { expectInSyncEqual, expectUnmarkedEqual } from "../sim/checks.ts";
import { blankDisk } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { KiB, startMachine, write } from "../sim/rule-machine.ts";
import { failOnce } from "./failing-members.ts";
import { BITMAP_OFFSET_BYTES, STATES_OFFSET_BYTES } from "./on-disk.ts";

/**
 * A member joins, and what has to be durable for that fails: on /disk0, the survivor, space is
 * missing for the bitmap, the bitmap superblock or the superblock; or the new member breaks.
 */
const FULL = { code: "no-space" };

type Part = (offset: number) => boolean;

const PARTS: [name: string, part: Part][] = [
  ["bitmap", (offset) => offset === STATES_OFFSET_BYTES],
  ["bitmap superblock", (offset) => offset === BITMAP_OFFSET_BYTES],
  ["superblock", (offset) => offset < BITMAP_OFFSET_BYTES],
];

/** /disk1 has failed, and lacks a write since; /disk2 is blank. */
async function degraded(): Promise<Machine> {
  const machine = await startMachine(1);
  await write(machine, 0, 128 * KiB);
  await machine.world.until(machine.array.fail("/disk1"));
  await write(machine, 64 * KiB, 128 * KiB);
  machine.disks.set("/disk2", blankDisk(machine.shape));
  return machine;
}

/** Not of the update that records a new member as a spare: it is punched, and joins now. */
function whenPunched({ trace }: Machine, matches: Part): Part {
  const punched = (): boolean => trace.operations.some(({ kind }) => kind === "punch");
  return (offset) => punched() && matches(offset);
}

/** Each member's path and state; slots first. */
const members = ({ array }: Machine): [path: string | null, state: string][] =>
  array.status().members.map(({ path, state }) => [path, state]);

async function expectClosed(machine: Machine, path: string): Promise<void> {
  const read = machine.member(path).read(Buffer.alloc(512), 0);
  await expect(machine.world.until(read)).rejects.toThrow(/closed/);
}

/** The array goes on with /disk0 alone, and a crash finds no other in sync. */
async function expectAlone(machine: Machine): Promise<void> {
  expect(machine.array.devices.writable.map(({ member }) => member.path)).toEqual(["/disk0"]);
  await write(machine, 256 * KiB, 64 * KiB);
  await machine.world.until(machine.array.flush());
}

async function expectWhole(machine: Machine, path: string): Promise<void> {
  await machine.world.until(machine.array.wait());
  expect(members(machine)).toEqual([
    ["/disk0", "in_sync"],
    [path, "in_sync"],
  ]);
  expectUnmarkedEqual(machine, machine.array);
  expectInSyncEqual(machine, machine.array);
}

/** Both are in sync, and /disk2 is a spare. */
async function withSpare(): Promise<Machine> {
  const machine = await startMachine(1);
  const { world, array } = machine;
  await write(machine, 0, 128 * KiB);
  machine.disks.set("/disk2", blankDisk(machine.shape));
  await world.until(array.add("/disk2", { writeMostly: false }));
  expect(members(machine)[2]).toEqual(["/disk2", "spare"]);
  machine.trace.clear();
  return machine;
}

function expectSpareWaits(machine: Machine): void {
  expect(members(machine)).toEqual([
    ["/disk0", "in_sync"],
    ["/disk1", "faulty"],
    ["/disk2", "spare"],
  ]);
  expect(machine.array.status().sync).toMatchObject({
    action: "recovery",
    pending: true,
    waitingFor: expect.stringContaining("free space") as string,
  });
}

describe.each(PARTS)("without space for the %s", (_name, unwritable) => {
  test("a re-add is refused and undone; the member is closed and can be re-added", async () => {
    const machine = await degraded();
    const { world, array } = machine;
    await world.until(array.remove("/disk1"));
    failOnce(machine, "/disk0", "writeDurable", unwritable, "ENOSPC");
    await expect(world.until(array.reAdd("/disk1"))).rejects.toMatchObject(FULL);
    expect(members(machine)).toEqual([
      ["/disk0", "in_sync"],
      [null, "missing"],
    ]);
    await expectClosed(machine, "/disk1");
    await expectAlone(machine);
    await world.until(array.reAdd("/disk1"));
    await expectWhole(machine, "/disk1");
  });

  test("an add is refused and undone: who failed keeps the slot, the new one can be added", async () => {
    const machine = await degraded();
    const { world, array } = machine;
    failOnce(machine, "/disk0", "writeDurable", whenPunched(machine, unwritable), "ENOSPC");
    const added = array.add("/disk2", { writeMostly: false });
    await expect(world.until(added)).rejects.toMatchObject(FULL);
    expect(members(machine)).toEqual([
      ["/disk0", "in_sync"],
      ["/disk1", "faulty"],
    ]);
    expect(array.devices.slots[1]?.slot).toBe(1);
    await expectClosed(machine, "/disk2");
    await expectAlone(machine);
    await world.until(array.add("/disk2", { writeMostly: false }));
    await world.until(array.remove("/disk1"));
    await expectWhole(machine, "/disk2");
  });

  test("a spare that could not take the slot stays one, says so, and takes it later", async () => {
    const machine = await withSpare();
    const { world, array } = machine;
    failOnce(machine, "/disk0", "writeDurable", whenPunched(machine, unwritable), "ENOSPC");
    await world.until(array.fail("/disk1"));
    await world.until(world.sleep(1_000));
    expectSpareWaits(machine);
    await expectAlone(machine);
    await world.until(array.wait());
    await world.until(array.remove("/disk1"));
    await expectWhole(machine, "/disk2");
  });

  test.each([
    ["re-add", false, (array: RaidArray) => array.reAdd("/disk1")],
    ["add", true, (array: RaidArray) => array.add("/disk2", { writeMostly: false })],
  ])(
    "a crash after a refused %s finds no member that counts and lacks data",
    async (_verb, inFull, ask) => {
      const machine = await degraded();
      const { world, array } = machine;
      await world.until(array.remove("/disk1"));
      const part = inFull ? whenPunched(machine, unwritable) : unwritable;
      failOnce(machine, "/disk0", "writeDurable", part, "ENOSPC");
      await expect(world.until(ask(array))).rejects.toMatchObject(FULL);
      await expectAlone(machine);
      machine.cut();
      const restarted = await machine.start();
      expectUnmarkedEqual(machine, restarted);
      await world.until(restarted.wait());
      expectUnmarkedEqual(machine, restarted);
      expectInSyncEqual(machine, restarted);
    },
  );
});

describe.each(PARTS)("a new member that cannot be written its %s", (_name, unwritable) => {
  test("rejects the verb, is faulty, and may be removed and added again", async () => {
    const machine = await degraded();
    const { world, array } = machine;
    await world.until(array.remove("/disk1"));
    const added = array.reAdd("/disk1");
    await world.steps(added, 0); // it is opened
    failOnce(machine, "/disk1", "writeDurable", unwritable);
    await expect(world.until(added)).rejects.toMatchObject({ code: "io-error" });
    expect(members(machine)).toEqual([
      ["/disk0", "in_sync"],
      ["/disk1", "faulty"],
    ]);
    await expectAlone(machine);
    await world.until(array.remove("/disk1"));
    await world.until(array.add("/disk1", { writeMostly: false }));
    await expectWhole(machine, "/disk1");
  });
});

describe("a new member that fails before it joins", () => {
  const SUPERBLOCK: Part = (offset) => offset < BITMAP_OFFSET_BYTES;
  const add = ({ array }: Machine) => array.add("/disk2", { writeMostly: false });

  test("as it becomes a spare is never used, and is let go; its slot stays free", async () => {
    const machine = await degraded();
    const added = add(machine);
    await machine.world.steps(added, 0); // it is opened
    failOnce(machine, "/disk2", "writeDurable", SUPERBLOCK);
    machine.trace.clear();
    await expect(machine.world.until(added)).rejects.toMatchObject({ code: "io-error" });
    expect(machine.trace.operations.filter(({ kind }) => kind === "punch")).toEqual([]);
    expect(members(machine)).toEqual([
      ["/disk0", "in_sync"],
      ["/disk1", "faulty"],
    ]);
    await expectClosed(machine, "/disk2");
    await expectAlone(machine);
    await machine.world.until(add(machine));
    await machine.world.until(machine.array.remove("/disk1"));
    await expectWhole(machine, "/disk2");
  });

  test("as it becomes a spare of an array that is whole is let go too, and may be added again", async () => {
    const machine = await startMachine(1);
    machine.disks.set("/disk2", blankDisk(machine.shape));
    const added = add(machine);
    await machine.world.steps(added, 0); // it is opened
    failOnce(machine, "/disk2", "writeDurable", SUPERBLOCK);
    await expect(machine.world.until(added)).rejects.toMatchObject({ code: "io-error" });
    expect(members(machine)).toHaveLength(2);
    await expectClosed(machine, "/disk2");
    await machine.world.until(add(machine));
    expect(members(machine)[2]).toEqual(["/disk2", "spare"]);
  });

  test("while it is blanked takes no slot", async () => {
    const machine = await degraded();
    const { array, world } = machine;
    const added = add(machine);
    await world.steps(added, 0); // it is opened
    const member = machine.member("/disk2");
    const punch = member.punch.bind(member);
    member.punch = async (offset, length) => {
      failOnce(machine, "/disk2", "writeDurable", SUPERBLOCK);
      await array.metadata.update();
      await punch(offset, length);
    };
    await expect(world.until(added)).rejects.toMatchObject({ code: "io-error" });
    expect(members(machine)).toEqual([
      ["/disk0", "in_sync"],
      ["/disk1", "faulty"],
    ]);
    await expectClosed(machine, "/disk2");
    await expectAlone(machine);
  });
});

describe("a spare that cannot be blanked", () => {
  /** The slot of /disk1 is free, and the spare was tried. */
  async function tried(kind: "punch" | "sync", code: "EIO" | "ENOSPC"): Promise<Machine> {
    const machine = await withSpare();
    const { world, array } = machine;
    machine.member("/disk2").failOperation({ nth: 1, kind, code });
    await world.until(array.fail("/disk1"));
    await world.until(world.sleep(1_000));
    return machine;
  }

  test("for want of space is not tried again and again, but soon", async () => {
    const machine = await tried("punch", "ENOSPC");
    const { world, array } = machine;
    machine.member("/disk2").failOperation({ nth: 1, kind: "punch", code: "ENOSPC" });
    expectSpareWaits(machine);
    machine.trace.clear();
    await world.until(world.sleep(45_000));
    expect(machine.trace.operations.filter(({ kind }) => kind === "punch")).toHaveLength(1);
    expectSpareWaits(machine);
    await expectAlone(machine);
    await world.until(array.wait());
    expect(array.status()).toMatchObject({ degraded: 0, sync: null });
    await world.until(array.remove("/disk1"));
    await expectWhole(machine, "/disk2");
  });

  test("for want of space is tried again when a member is removed", async () => {
    const machine = await tried("punch", "ENOSPC");
    const { world, array } = machine;
    await world.until(array.remove("/disk1"));
    await world.until(world.sleep(1_000));
    await expectWhole(machine, "/disk2");
    expect(array.status()).toMatchObject({ sync: null, lastSync: { action: "recovery" } });
  });

  test("lets another take the slot meanwhile", async () => {
    const machine = await withSpare();
    const { world, array } = machine;
    machine.disks.set("/disk3", blankDisk(machine.shape));
    await world.until(array.add("/disk3", { writeMostly: false }));
    machine.member("/disk2").failOperation({ nth: 1, kind: "punch", code: "ENOSPC" });
    await world.until(array.fail("/disk1"));
    await world.until(world.sleep(1_000));
    await world.until(array.wait());
    expect(members(machine)).toEqual([
      ["/disk0", "in_sync"],
      ["/disk3", "in_sync"],
      ["/disk2", "spare"],
      ["/disk1", "faulty"],
    ]);
  });

  test("and is removed is waited for no more", async () => {
    const machine = await tried("punch", "ENOSPC");
    const { world, array } = machine;
    const waited = array.wait();
    await world.until(array.remove("/disk2"));
    await world.until(waited);
    expect(array.status()).toMatchObject({ degraded: 1, sync: null });
  });

  test("is not waited for once the array stops", async () => {
    const machine = await tried("punch", "ENOSPC");
    const waited = machine.array.wait();
    await machine.world.until(machine.array.stop());
    await machine.world.until(waited);
  });

  test.each([
    ["punch", "EIO"],
    ["sync", "EIO"],
    ["sync", "ENOSPC"],
  ] as const)("since its %s ends with %s is faulty, and not tried again", async (kind, code) => {
    const machine = await tried(kind, code);
    machine.trace.clear();
    await machine.world.until(machine.world.sleep(60_000));
    expect(members(machine)[2]).toEqual(["/disk2", "faulty"]);
    expect(machine.trace.operations.filter(({ path }) => path === "/disk2")).toEqual([]);
    expect(machine.array.status().sync).toBeNull();
  });
});
