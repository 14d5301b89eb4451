/**
 * Writes where parity is not believed, on a whole array: what was acknowledged is there after the
 * user accepted parity with a repair, and after what is missing was rebuilt.
 */
import { describe, expect, test } from "vitest";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { failWhile } from "../array/failing-members.ts";
import { oracleShape } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";

const CHUNK = 64 * KiB;
const BLOCK = 4 * KiB;

interface Bench {
  readonly machine: Machine;
  readonly geometry: ParityGeometry;
}

async function bench(level: "5" | "6", raidDisks: number): Promise<Bench> {
  const machine = await startMachine(1, { level, layout: 2, chunkBytes: CHUNK, raidDisks });
  const { world, array } = machine;
  for (let at = 0; at < array.sizeBytes; at += MiB) {
    await write(machine, at, Math.min(MiB, array.sizeBytes - at));
  }
  await world.until(world.sleep(2_000));
  return { machine, geometry: geometryOf(oracleShape(machine.shape)) as ParityGeometry };
}

async function read({ machine }: Bench, offset: number): Promise<Buffer> {
  const into = Buffer.alloc(BLOCK);
  await machine.world.until(machine.array.read(into, offset));
  return into;
}

/** A write of this chunk finds no space on a survivor: its region is suspect from now on. */
async function makeSuspect({ machine, geometry }: Bench, stripe: number, index: number) {
  const { world, array, dataOffset } = machine;
  const { data } = geometry.stripe(stripe);
  let full = true;
  const path = `/disk${data[index]!}`;
  failWhile(machine, path, "write", (offset) => full && offset >= dataOffset, "ENOSPC");
  const offset = stripe * geometry.stripeBytes + index * CHUNK + CHUNK / 2;
  await expect(world.until(array.write(Buffer.alloc(BLOCK, 1), offset, false))).rejects.toThrow();
  full = false;
  expect(array.regions.isSuspect(array.regions.at(stripe * CHUNK))).toBe(true);
}

/** Waits for syncs, whether or not they fail. */
async function settle({ machine: { world, array } }: Bench): Promise<void> {
  await world.until(array.wait().catch(() => undefined));
}

async function repair(one: Bench): Promise<void> {
  const { world, array } = one.machine;
  array.set({ syncSpeedMax: 0 });
  await settle(one);
  await world.until(array.sync("repair"));
  await settle(one);
}

describe("level 6, two members lost and one of them rebuilding", () => {
  async function twoLost(gone: (one: Bench) => number, rebuilt: (one: Bench) => number) {
    const one = await bench("6", 5);
    const { world, array } = one.machine;
    const [absent, back] = [gone(one), rebuilt(one)];
    await world.until(array.fail(String(absent)));
    await world.until(array.fail(String(back)));
    // Both lack something everywhere.
    for (let at = 0; at < array.sizeBytes; at += MiB) {
      await write(one.machine, at, Math.min(MiB, array.sizeBytes - at));
    }
    await world.until(array.remove(String(back)));
    return { one, absent, back };
  }

  const STRIPE = 8;

  test("a write to the chunk that is rebuilt is refused or kept", async () => {
    const { one, back } = await twoLost(
      ({ geometry }) => geometry.stripe(STRIPE).data[0]!,
      ({ geometry }) => geometry.stripe(STRIPE).data[1]!,
    );
    const { machine, geometry } = one;
    const { world, array } = machine;
    array.set({ syncSpeedMax: 64 * KiB });
    await world.until(array.reAdd(`/disk${back}`));
    await makeSuspect(one, STRIPE, 2);
    const offset = STRIPE * geometry.stripeBytes + CHUNK;
    const outcome = world.until(array.write(Buffer.alloc(BLOCK, 0xab), offset, true));
    await expect(outcome).rejects.toThrow("cannot be known");
    const before = await read(one, offset + CHUNK);
    await repair(one);
    expect(await read(one, offset + CHUNK)).toEqual(before);
  });

  test.each(["p", "q"] as const)("what it lacks follows, %s being rebuilt", async (which) => {
    const { one, absent, back } = await twoLost(
      ({ geometry }) => geometry.stripe(0).data[0]!,
      ({ geometry }) => geometry.stripe(0)[which],
    );
    const { machine } = one;
    const { world, array } = machine;
    const lost = await read(one, 0);
    array.set({ syncSpeedMax: 64 * KiB });
    await world.until(array.reAdd(`/disk${back}`));
    // The rebuild has been here when the region becomes suspect.
    while ((array.status().sync?.doneBytes ?? 0) < 3 * CHUNK) await world.until(world.sleep(100));
    await makeSuspect(one, 0, 2);
    const bytes = Buffer.alloc(BLOCK, 0xab);
    await world.until(array.write(bytes, CHUNK, true));
    await repair(one);
    await world.until(array.remove(String(absent)));
    await world.until(array.reAdd(`/disk${absent}`));
    await settle(one);
    expect(array.status().members.map(({ state }) => state)).not.toContain("rebuilding");
    expect(array.status().degraded).toBe(0);
    expect(await read(one, CHUNK)).toEqual(bytes);
    expect(await read(one, 0)).toEqual(lost);
    await world.until(array.sync("check"));
    await settle(one);
    expect(array.status().mismatchCount).toBe(0);
  });
});

test("where the old bytes cannot be read, what parity says of a lost chunk stays", async () => {
  const one = await bench("5", 4);
  const { machine, geometry } = one;
  const { world, array, dataOffset } = machine;
  const lost = await read(one, 0);
  const [gone, unreadable] = geometry.stripe(0).data as [number, number];
  await world.until(array.fail(String(gone)));
  array.regions.setSuspect(0, true);
  await write(machine, CHUNK + CHUNK / 2, BLOCK);
  let bad = true;
  const start = dataOffset;
  failWhile(
    machine,
    `/disk${unreadable}`,
    "read",
    (at) => bad && at >= start && at < start + BLOCK,
  );
  const written = world.until(array.write(Buffer.alloc(BLOCK, 0x11), CHUNK, true));
  await expect(written).rejects.toThrow("read failed");
  bad = false;
  await world.until(array.sync("repair"));
  await settle(one);
  expect(await read(one, 0)).toEqual(lost);
});

test("a write is not refused for another that came with it", async () => {
  const one = await bench("5", 4);
  const { machine, geometry } = one;
  const { world, array } = machine;
  await world.until(array.fail(String(geometry.stripe(0).data[0]!)));
  array.regions.setSuspect(0, true);
  const bytes = Buffer.alloc(BLOCK, 0x22);
  const lost = array.write(Buffer.alloc(BLOCK, 1), BLOCK, false).catch((error: unknown) => error);
  const there = array.write(bytes, CHUNK, false);
  await world.until(there);
  expect(await world.until(lost)).toMatchObject({ code: "unknown-data" });
  expect(await read(one, CHUNK)).toEqual(bytes);
});
