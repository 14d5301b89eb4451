import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { expectInSyncEqual, expectUnmarkedEqual } from "../sim/checks.ts";
import { blankDisk } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { KiB, startMachine, write } from "../sim/rule-machine.ts";

/**
 * A member that held data comes back in full to an array that has trimmed it since: what it held
 * must not be seen again. The array is in pieces of 64 KiB; four of them are Unwritten.
 */
async function withOldMember(seed: number): Promise<Machine> {
  const machine = await startMachine(seed);
  const { world, array } = machine;
  await write(machine, 0, 256 * KiB);
  await world.until(array.flush());
  await world.until(array.fail("/disk1"));
  await world.until(array.remove("/disk1"));
  machine.disks.set("/disk2", blankDisk(machine.shape));
  await world.until(array.add("/disk2", { writeMostly: false }));
  await world.until(array.wait());
  await world.until(array.trim(0, 256 * KiB, true));
  await world.until(world.sleep(2_000));
  expect(array.regions.state(0)).toBe(State.Unwritten);
  await world.until(array.fail("/disk2"));
  await world.until(array.remove("/disk2"));
  machine.disks.delete("/disk2");
  return machine;
}

describe("a member that is rebuilt in full", () => {
  test("is zero where the array is Unwritten, also if the power failed on the way", async () => {
    for (let seed = 1; seed <= 24; seed++) {
      const machine = await withOldMember(seed);
      const { world } = machine;
      const added = machine.array
        .add("/disk1", { writeMostly: false })
        .then(() => machine.array.wait());
      await world.steps(added, 10 * seed);
      machine.cut();
      const array = await machine.start();
      const holdsSlot = array.devices.slots[1] !== null;
      if (!holdsSlot) continue; // the cut came before the superblocks gave it the slot
      await world.until(array.wait());
      expectUnmarkedEqual(machine, array);
      expectInSyncEqual(machine, array);
    }
  });
});
