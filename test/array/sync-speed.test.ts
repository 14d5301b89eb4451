import { describe, expect, test } from "vitest";
import type { ArraySettings } from "../../src/array/status.ts";
import { blankDisk, contents } from "../sim/disks.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";

/**
 * How fast a sync goes: a blank member is rebuilt in full, and virtual time tells what that took,
 * with clients at work all the time or without.
 */
const SIZE_BYTES = 4 * MiB;
/** The engine pays for a window after it has copied it. */
const WINDOW_BYTES = 512 * KiB;
/** What a quarter of a second pays for at 256 KiB a second. */
const PIECE_BYTES = 64 * KiB;

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

describe("a large region", () => {
  test("is synced a little at a time, and writes to it get in between", async () => {
    const shape = { sizeBytes: SIZE_BYTES, bitmap: "internal", regionBytes: SIZE_BYTES } as const;
    const machine = await startMachine(1, shape);
    const { world, array } = machine;
    await write(machine, 0, SIZE_BYTES);
    await world.until(array.fail("/disk1"));
    await world.until(array.remove("/disk1"));
    machine.disks.set("/disk2", blankDisk(machine.shape));
    array.set({ syncSpeedMax: 256 * KiB, syncSpeedMin: 0 });
    await world.until(array.add("/disk2", { writeMostly: false }));
    const data = (path: string): Buffer =>
      contents(machine.disk(path), machine.dataOffset, SIZE_BYTES);
    /** Pieces of 64 KiB that both members hold. */
    const copied = (): number => {
      const [one, other] = [data("/disk0"), data("/disk2")];
      const starts = Array.from({ length: SIZE_BYTES / PIECE_BYTES }, (_, n) => n * PIECE_BYTES);
      return starts.filter(
        (at) => one.compare(other, at, at + PIECE_BYTES, at, at + PIECE_BYTES) === 0,
      ).length;
    };
    let most = 0;
    let writes = 0;
    for (let before = 0; array.devices.inSync.length < 2; before = copied()) {
      await world.until(world.sleep(100));
      await write(machine, (writes++ * 60 * KiB) % SIZE_BYTES, 4 * KiB);
      most = Math.max(most, copied() - before);
    }
    expect(writes, "the rebuild takes its time").toBeGreaterThan(100);
    expect(most, "pieces between two writes").toBeLessThanOrEqual(2);
    await world.until(machine.stop());
    expect(copied()).toBe(SIZE_BYTES / PIECE_BYTES);
  });
});
