import { describe, expect, test } from "vitest";
import type { ArraySettings } from "../../src/array/status.ts";
import { blankDisk } from "../sim/disks.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";

/**
 * How fast a sync goes: a blank member is rebuilt in full, and virtual time tells what that took,
 * with clients at work all the time or without.
 */
const SIZE_BYTES = 4 * MiB;
/** The engine pays for a window after it has copied it. */
const WINDOW_BYTES = 512 * KiB;

/** Bytes a second that the recovery made on the average of its whole run. */
async function speedOfRecovery(
  settings: Partial<ArraySettings>,
  clients: "busy" | "idle",
): Promise<number> {
  const machine = await startMachine(1, { sizeBytes: SIZE_BYTES });
  const { world, array } = machine;
  await write(machine, 0, SIZE_BYTES);
  await world.until(array.fail("/disk1"));
  await world.until(array.remove("/disk1"));
  machine.disks.set("/disk2", blankDisk(machine.shape));
  array.set(settings);
  let done = false;
  const load = async (): Promise<void> => {
    while (!done && clients === "busy") {
      const into = Buffer.alloc(512);
      if (!array.tryRead(into, 0)) await array.read(into, 0);
      await world.sleep(50);
    }
  };
  const loaded = load();
  await world.until(array.add("/disk2", { writeMostly: false }));
  const started = world.now;
  await world.until(array.wait());
  const seconds = (world.now - started) / 1000;
  done = true;
  await world.until(loaded);
  expect(array.devices.inSync).toHaveLength(2);
  return (SIZE_BYTES - WINDOW_BYTES) / seconds;
}

describe("a sync", () => {
  const MAX = 1 * MiB;
  const MIN = 256 * KiB;

  test.each(["idle", "busy"] as const)(
    "is never above the maximum, clients %s",
    async (clients) => {
      for (const syncSpeedMin of [0, 100 * MAX]) {
        const speed = await speedOfRecovery({ syncSpeedMax: MAX, syncSpeedMin }, clients);
        expect(speed).toBeLessThanOrEqual(MAX);
        expect(speed, "nor far below it").toBeGreaterThan(MAX / 2);
      }
    },
  );

  test("makes way for clients down to the minimum", async () => {
    const speeds = { syncSpeedMax: MAX, syncSpeedMin: MIN };
    expect(await speedOfRecovery(speeds, "busy")).toBeLessThan(1.25 * MIN);
    expect(await speedOfRecovery(speeds, "idle")).toBeGreaterThan(MAX / 2);
  });
});
