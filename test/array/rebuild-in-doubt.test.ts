/**
 * Parity is rebuilt where a write has failed. Other data of the stripe cannot be read just then, so a
 * client's write may leave that parity behind: it must not count as rebuilt, or the write is refused.
 */
import { expect, test } from "vitest";
import { blankDisk } from "../sim/disks.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { failWhile } from "./failing-members.ts";

const CHUNK = 64 * KiB;

test.each([1 * MiB, 64 * KiB])("regions of %d bytes", async (regionBytes) => {
  const machine = await startMachine(1, {
    level: "4",
    layout: 0,
    chunkBytes: CHUNK,
    raidDisks: 3,
    sizeBytes: 2 * MiB,
    bitmap: "internal",
    regionBytes,
  });
  const { world, array, dataOffset } = machine;
  // In the second region, which the rebuild has not reached yet.
  const start = 2 * regionBytes;
  const at = start + 4 * KiB;
  let expected = (await write(machine, 0, array.sizeBytes)).subarray(at, at + 4 * KiB);
  await world.until(world.sleep(2_000));
  await world.until(array.fail("2"));
  await world.until(array.remove("2"));
  machine.disks.set("/disk3", blankDisk(machine.shape));
  array.set({ syncSpeedMax: 128 * KiB, syncSpeedMin: 0 });
  await world.until(array.add("/disk3", { writeMostly: false }));
  await world.until(world.sleep(100));

  let full = true;
  failWhile(machine, "/disk0", "write", (offset) => full && offset >= dataOffset, "ENOSPC");
  const failing = array.write(Buffer.alloc(4 * KiB, 1), start + CHUNK / 2, false);
  await expect(world.until(failing)).rejects.toMatchObject({ code: "no-space" });
  full = false;
  expect(array.regions.isSuspect(1)).toBe(true);

  let bad = true;
  const other = dataOffset + regionBytes + 4 * KiB;
  failWhile(machine, "/disk1", "read", (offset) => bad && offset === other);
  let writes = 0;
  while (array.devices.inSync.length < 3) {
    const bytes = Buffer.alloc(4 * KiB, ++writes);
    const answer = array.write(bytes, at, true).then(
      () => (expected = bytes),
      () => undefined,
    );
    await world.until(answer);
    await world.until(world.sleep(50));
  }
  bad = false;
  expect(writes, "the rebuild takes its time").toBeGreaterThan(50);

  await world.until(array.fail("0"));
  const into = Buffer.alloc(4 * KiB);
  await world.until(array.read(into, at));
  expect(into.equals(expected)).toBe(true);
});
