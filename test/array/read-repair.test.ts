import { describe, expect, test } from "vitest";
import { FALLBACK_BLOCK_BYTES } from "../../src/raid/level.ts";
import { contents } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { changesData } from "../sim/order.ts";
import { KiB, startMachine, write } from "../sim/rule-machine.ts";
import { failOnce, failWhile } from "./failing-members.ts";

/**
 * A member that is not the source of pinned reads fails a read: the client gets its data, the
 * error is counted, and what cannot be read is written anew. Everything is Clean and equal.
 */
const BLOCK = FALLBACK_BLOCK_BYTES;
const LENGTH = 4 * BLOCK;
const BAD_BLOCK = 2;

interface Bench {
  readonly machine: Machine;
  readonly data: Uint8Array;
}

async function bench(): Promise<Bench> {
  const machine = await startMachine(1);
  const { world, array } = machine;
  const data = await write(machine, 0, 64 * KiB);
  await world.until(world.sleep(2_000));
  expect(array.status()).toMatchObject({ state: "clean", bitmap: { dirty: 0, needSync: 0 } });
  machine.trace.clear();
  return { machine, data };
}

/** Two reads of one place, which is no stream: each member gets one. What is to repair is then. */
async function readFromEach({ machine, data }: Bench): Promise<void> {
  for (let count = 0; count < 2; count++) {
    const into = Buffer.alloc(LENGTH);
    await machine.world.until(machine.array.read(into, 0));
    expect(into.equals(data.subarray(0, LENGTH))).toBe(true);
    await machine.world.until(machine.world.sleep(100));
  }
}

const readErrors = ({ array }: Machine): number[] =>
  array.status().members.map((member) => member.readErrors);

function dataChanges(machine: Machine): [path: string, offset: number, length: number][] {
  return machine.trace.operations
    .filter((operation) => changesData(machine, operation))
    .map(({ path, offset, length }) => [path, offset - machine.dataOffset, length]);
}

describe("a block that it cannot read", () => {
  test("is served from another, counted, and written anew: that block and no more", async () => {
    const { machine, data } = await bench();
    const start = machine.dataOffset + BAD_BLOCK * BLOCK;
    let bad = true;
    failWhile(machine, "/disk1", "write", (offset) => {
      if (offset === start) bad = false;
      return false;
    });
    failWhile(machine, "/disk1", "read", (offset, length) => {
      return bad && offset < start + BLOCK && offset + length > start;
    });
    await readFromEach({ machine, data });
    expect(readErrors(machine)).toEqual([0, 1]);
    expect(dataChanges(machine)).toEqual([["/disk1", BAD_BLOCK * BLOCK, BLOCK]]);
    const repaired = contents(machine.disk("/disk1"), start, BLOCK);
    expect(repaired.equals(data.subarray(BAD_BLOCK * BLOCK, (BAD_BLOCK + 1) * BLOCK))).toBe(true);
    await readFromEach({ machine, data });
    expect(readErrors(machine)).toEqual([0, 1]);
  });

  test("nor write fails the member", async () => {
    const { machine, data } = await bench();
    const inBlock = (offset: number): boolean => offset >= machine.dataOffset;
    failWhile(machine, "/disk1", "write", inBlock);
    failWhile(machine, "/disk1", "read", inBlock);
    await readFromEach({ machine, data });
    expect(machine.array.status().members[1]).toMatchObject({ state: "faulty", writeErrors: 1 });
  });
});

describe("a read that fails but for once", () => {
  test("is counted, and nothing is written", async () => {
    const { machine, data } = await bench();
    failOnce(machine, "/disk1", "read", () => true);
    await readFromEach({ machine, data });
    expect(readErrors(machine)).toEqual([0, 1]);
    expect(dataChanges(machine)).toEqual([]);
    expect(machine.array.devices.inSync).toHaveLength(2);
  });
});
