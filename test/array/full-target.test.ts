import { describe, expect, test } from "vitest";
import { expectInSyncEqual } from "../sim/checks.ts";
import { freshBytes } from "../sim/client.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";

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
