import { describe, expect, it } from "vitest";
import {
  decodeSuperblock,
  ROLE_FAULTY,
  type Superblock,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../src/metadata/superblock.ts";
import { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { BITMAP_KINDS } from "../../src/metadata/layout.ts";
import { expectInSyncEqual } from "../sim/checks.ts";
import { contents, put } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import type { Operation } from "../sim/traced.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { editBitmap, editSuperblock, superblockOn } from "./on-disk.ts";

/** The member of slot 1 is away, and the other one has been written since; all is stopped. */
async function withoutDisk1(seed = 1): Promise<Machine> {
  const machine = await startMachine(seed, { bitmap: "internal" });
  await write(machine, 0, 64 * KiB);
  await machine.world.until(machine.array.fail("/disk1"));
  await machine.world.until(machine.array.remove("/disk1"));
  await write(machine, 1 * MiB, 64 * KiB);
  await machine.stop();
  return machine;
}

/** As md leaves a member: one event on. */
function grow(machine: Machine, path: string, fields: Partial<Superblock>): void {
  const events = superblockOn(machine, path).events + 1;
  editSuperblock(machine, path, { events, ...fields });
  editBitmap(machine, path, {
    events,
    ...(fields.sizeSectors === undefined ? {} : { syncSizeSectors: fields.sizeSectors }),
  });
}

/** A disk with the same bytes, and more behind them. */
function enlarge(machine: Machine, path: string, bytes: number): void {
  const disk = machine.disk(path);
  const larger = new SimulatedDisk(disk.sizeBytes + bytes);
  put(larger, contents(disk, 0, disk.sizeBytes), 0);
  machine.disks.set(path, larger);
}

const GROWN: [how: string, grown: (machine: Machine) => void][] = [
  ["in slots", (machine) => grow(machine, "/disk0", { raidDisks: 3 })],
  [
    "in size",
    (machine) => {
      for (const path of machine.paths) enlarge(machine, path, 1 * MiB);
      const { sizeSectors, dataSizeSectors } = superblockOn(machine, "/disk0");
      const more = (1 * MiB) / 512;
      grow(machine, "/disk0", {
        sizeSectors: sizeSectors + more,
        dataSizeSectors: dataSizeSectors + more,
      });
    },
  ],
];

describe.each(GROWN)("a member of an array that grew %s while it was away", (_how, grown) => {
  it("is not taken back by bitmap; in full it is, and counts after a restart", async () => {
    const machine = await withoutDisk1();
    const { world } = machine;
    grown(machine);
    const array = await machine.start(["/disk0"]);
    await expect(world.until(array.reAdd("/disk1"))).rejects.toMatchObject({
      code: "re-add-refused",
      message: expect.stringContaining("another shape") as string,
    });
    await world.until(array.add("/disk1", { writeMostly: false }));
    await write(machine, array.sizeBytes - 64 * KiB, 64 * KiB);
    await world.until(array.wait());
    expectInSyncEqual(machine, array);
    await machine.stop();
    for (const paths of [machine.paths, machine.paths.toReversed()]) {
      const { members } = await machine.plan(paths);
      expect(members.map(({ use }) => use)).toEqual(["in_sync", "in_sync"]);
    }
  });
});

describe("an array that was put back from a backup", () => {
  it.for(BITMAP_KINDS)(
    "copies all to the member that knew what the backup does not (%s)",
    async (bitmap) => {
      const machine = await startMachine(1, { bitmap });
      const { world } = machine;
      await write(machine, 0, 64 * KiB);
      await machine.stop();
      const disk = machine.disk("/disk0");
      const backup = contents(disk, 0, disk.sizeBytes);
      let array = await machine.start();
      await write(machine, 1 * MiB, 64 * KiB);
      await world.until(world.sleep(2_000));
      await machine.stop();
      put(machine.disk("/disk0"), backup, 0);
      array = await machine.start(["/disk0"]);
      await write(machine, 512 * KiB, 64 * KiB);
      await expect(world.until(array.reAdd("/disk1"))).rejects.toMatchObject({
        code: "re-add-refused",
      });
      await world.until(array.add("/disk1", { writeMostly: false }));
      await world.until(array.wait());
      expectInSyncEqual(machine, array);
    },
  );
});

describe("an old member that is added before its absence was recorded", () => {
  it("is written only when the others call it failed", async () => {
    const machine = await startMachine(1, { bitmap: "internal" });
    await write(machine, 0, 64 * KiB);
    await machine.stop();
    editSuperblock(machine, "/disk1", { events: superblockOn(machine, "/disk1").events - 2 });
    const array = await machine.start(["/disk0"]);
    await machine.world.until(array.add("/disk1", { writeMostly: false }));
    const superblocks = machine.trace.operations.filter(
      ({ kind, offset }) => kind === "writeDurable" && offset === SUPERBLOCK_OFFSET_BYTES,
    );
    const first = superblocks.find(({ path }) => path === "/disk1")!;
    const before = superblocks.filter(
      ({ path, ended }) => path === "/disk0" && ended < first.issued,
    );
    const rolesOf = ({ bytes }: Operation) => decodeSuperblock(bytes!, "", 4 * MiB).roles;
    expect(before.map((operation) => rolesOf(operation)[1])).toEqual([ROLE_FAULTY, ROLE_FAULTY]);
    await machine.world.until(array.wait());
    expectInSyncEqual(machine, array);
    await machine.stop();
  });
});
