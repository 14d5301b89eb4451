import { describe, expect, test } from "vitest";
import { expectInSyncEqual } from "../sim/checks.ts";
import { freshBytes } from "../sim/client.ts";
import { blankDisk } from "../sim/disks.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { failOnce } from "./failing-members.ts";
import { superblockOn } from "./on-disk.ts";

/**
 * A member that is rebuilt runs out of space for what clients write: only that member lacks it. The
 * others fit together, so nothing is in doubt, and the rebuild does not end without it.
 */
const SHAPES = [
  { name: "level 1", shape: { sizeBytes: 2 * MiB } },
  {
    name: "level 5",
    shape: { level: "5", layout: 2, chunkBytes: 64 * KiB, raidDisks: 4, sizeBytes: 2 * MiB },
  },
] as const;

describe.each(SHAPES)("a member of $name that is rebuilt and full", ({ shape }) => {
  test("casts no doubt on the others, and is not done before it holds everything", async () => {
    const machine = await startMachine(3, shape);
    const { world, array } = machine;
    await write(machine, 0, array.sizeBytes);
    await world.until(array.fail("/disk1"));
    await world.until(array.remove("/disk1"));
    await write(machine, 0, array.sizeBytes);
    array.set({ syncSpeedMax: 64 * KiB });
    await world.until(array.reAdd("/disk1"));
    const target = machine.member("/disk1");
    // The first window is copied at once; what is written there now must be copied again.
    await world.until(world.sleep(100));
    target.failOperation({ nth: 1, kind: "write", code: "ENOSPC" });
    const bytes = freshBytes(world.random, array.sizeBytes / 2);
    const written = array.write(bytes, 0, false);
    await expect(world.until(written)).rejects.toMatchObject({ code: "no-space" });
    expect(array.regions.anySuspect()).toBe(false);
    expect(array.devices.slots[1]?.state).toBe("rebuilding");
    array.set({ syncSpeedMax: 0 });
    await world.until(array.wait());
    expect(array.devices.slots[1]?.state).toBe("in_sync");
    await world.until(array.stop());
    expectInSyncEqual(machine, array);
  });
});

const KEPT = (["none", "internal", "lockless"] as const).flatMap((bitmap) =>
  SHAPES.map(({ name, shape }) => {
    const regions = bitmap === "internal" ? { regionBytes: 64 * KiB } : {};
    return { name: `${name}, bitmap ${bitmap}`, shape: { ...shape, bitmap, ...regions } };
  }),
);

describe.each(KEPT)("a rebuild of $name that lacks what it had passed", ({ shape }) => {
  test("is not finished there for whoever goes on after a stop", async () => {
    const machine = await startMachine(3, shape);
    const { world, array } = machine;
    await write(machine, 0, array.sizeBytes);
    await world.until(world.sleep(2_000));
    await world.until(array.fail("/disk1"));
    await world.until(array.remove("/disk1"));
    machine.disks.set("/disk1", blankDisk(machine.shape));
    array.set({ syncSpeedMax: 128 * KiB });
    await world.until(array.add("/disk1", { writeMostly: false }));
    await world.until(world.sleep(4_000));
    expect(superblockOn(machine, "/disk1").recoveryOffsetSectors).not.toBe(0);
    array.set({ daemonSleepMs: 600_000 }); // no checkpoint comes to record it
    const { dataOffset } = machine;
    failOnce(machine, "/disk1", "write", (offset) => offset === dataOffset, "ENOSPC");
    const written = array.write(freshBytes(world.random, 256 * KiB), 0, false);
    await expect(world.until(written)).rejects.toMatchObject({ code: "no-space" });
    expect(array.devices.slots[1]?.state).toBe("rebuilding");
    // md goes on at the offset, and looks at nothing below it: before anything says clean.
    await world.until(world.sleep(100));
    expect(superblockOn(machine, "/disk1")).toMatchObject({
      recoveryOffsetSectors: 0,
      resyncOffsetSectors: 0,
    });
    await machine.stop();
    expect(superblockOn(machine, "/disk1").recoveryOffsetSectors).toBe(0);
    machine.settings = {};
    const again = await machine.start();
    await machine.world.until(again.wait());
    expect(again.devices.slots[1]?.state).toBe("in_sync");
    await machine.world.until(again.stop());
    expectInSyncEqual(machine, again);
  });
});
