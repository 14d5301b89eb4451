/** Machines for tests of single rules, and how far they go. */
import { expect } from "vitest";
import { freshBytes } from "./client.ts";
import { MIRROR, type Shape } from "./disks.ts";
import { Machine } from "./machine.ts";
import type { Operation } from "./traced.ts";
import { World } from "./world.ts";

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const SHAPE: Shape = {
  ...MIRROR,
  raidDisks: 2,
  sizeBytes: 2 * MiB,
  bitmap: "lockless",
  writeMostly: false,
};
export const QUICK = { daemonSleepMs: 300, barrierIdleMs: 100 };

export async function startMachine(seed = 1, shape: Partial<Shape> = {}): Promise<Machine> {
  const machine = new Machine(new World(seed), { ...SHAPE, ...shape });
  machine.settings = QUICK;
  await machine.start();
  return machine;
}

export async function write(machine: Machine, offset: number, length: number): Promise<Uint8Array> {
  const bytes = freshBytes(machine.world.random, length);
  await machine.world.until(machine.array.write(bytes, offset, false));
  return bytes;
}

/** Goes on until the engine issues an operation that `matches`, and no further. */
export async function untilIssued(
  machine: Machine,
  work: Promise<unknown>,
  matches: (operation: Operation) => boolean,
): Promise<void> {
  while (!machine.trace.operations.some(matches)) {
    expect(await machine.world.steps(work, 1), "the operation is issued").toBe(false);
  }
}
