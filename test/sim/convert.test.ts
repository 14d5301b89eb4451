/**
 * Conversions that are cut short: at every event of one the power fails, or the process dies, or a
 * member fails what it is asked. What is found then assembles as it was or as it will be, with
 * what clients wrote, and converting it again does what is left.
 */
import { describe, expect, test } from "vitest";
import { type ConvertedArray, convertMembers } from "../../src/array/convert.ts";
import type { WantedBitmap } from "../../src/array/convert-plan.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { editBitmap, editSuperblock, superblockOn } from "../array/on-disk.ts";
import { expectInSyncEqual, readAll } from "./checks.ts";
import { type Shape, sizeOf } from "./disks.ts";
import type { Machine } from "./machine.ts";
import { expectInSteps, isSuperblock } from "./order.ts";
import { KiB, MiB, startMachine, untilIssued, write } from "./rule-machine.ts";
import type { Operation } from "./traced.ts";

const isLong = process.env["NBD_RAID_LONG"] === "1";

const KINDS = ["lockless", "internal", "none"] as const;
type Kind = (typeof KINDS)[number];

const SHAPES: readonly { readonly name: string; readonly shape: Partial<Shape> }[] = [
  { name: "level 1", shape: {} },
  { name: "level 5", shape: { level: "5", layout: 2, chunkBytes: 64 * KiB, raidDisks: 3 } },
  { name: "level 10", shape: { level: "10", layout: 0x102, chunkBytes: 64 * KiB, raidDisks: 3 } },
];

const DIRECTIONS = KINDS.flatMap((from) => KINDS.map((to) => ({ from, to }))).filter(
  ({ from, to }) => from !== to,
);
const CASES = SHAPES.flatMap(({ name, shape }) =>
  DIRECTIONS.map(({ from, to }) => ({ title: `${name}, ${from} to ${to}`, shape, from, to })),
);
/** The short form looks at each moment of a mirror, and at some of each of the others. */
const strideOf = (shape: Partial<Shape>): number => (isLong || shape.level === undefined ? 1 : 7);

interface Subject {
  readonly machine: Machine;
  /** What clients read. */
  readonly bytes: Buffer;
}

/** Half written, stopped clean. */
async function stopped(shape: Partial<Shape>, bitmap: Kind, seed = 1): Promise<Subject> {
  const machine = await startMachine(seed, { ...shape, sizeBytes: 1 * MiB, bitmap });
  const size = sizeOf(machine.shape);
  await write(machine, 64 * KiB + 512, size / 2);
  const bytes = await machine.world.until(readAll(machine.array));
  await machine.stop();
  return { machine, bytes };
}

async function begin(machine: Machine, wanted: WantedBitmap): Promise<Promise<ConvertedArray>[]> {
  const { members } = await machine.plan();
  const found = members.map((member) => member.found);
  // In a list: a promise alone would be waited for.
  const work = convertMembers(found, wanted, machine.world.clock);
  work.catch(() => undefined);
  return [work];
}

async function convert(machine: Machine, wanted: WantedBitmap): Promise<ConvertedArray> {
  const [work] = await begin(machine, wanted);
  return machine.world.until(work!);
}

function off(machine: Machine): void {
  machine.kill();
}

/** Whole, clean, in one of these forms, and all of it as it was. Leaves the machine off. */
async function expectWhole({ machine, bytes }: Subject, forms: readonly Kind[]): Promise<void> {
  const plan = await machine.plan();
  expect(plan.refusal).toBeNull();
  expect(plan.missingActive).toEqual([]);
  expect(plan.members.map(({ use }) => use)).toEqual(plan.members.map(() => "in_sync"));
  const array = await machine.load(plan);
  expect(forms).toContain(array.about.bitmap);
  const { dirty, needSync, syncing } = array.regions.counts();
  expect({ dirty, needSync, syncing }).toEqual({ dirty: 0, needSync: 0, syncing: 0 });
  expect(bytes.equals(await machine.world.until(readAll(array)))).toBe(true);
  off(machine);
}

/** The array works, and what is written now outlives a cut. Leaves the machine off, clean. */
async function expectWorks({ machine, bytes }: Subject, form: Kind): Promise<void> {
  const array = await machine.start();
  expect(array.about.bitmap).toBe(form);
  const written = await write(machine, 16 * KiB, 96 * KiB);
  await machine.world.until(array.flush());
  machine.cut();
  bytes.set(written, 16 * KiB);
  const after = await machine.start();
  await machine.world.until(after.wait());
  expect(bytes.equals(await machine.world.until(readAll(after)))).toBe(true);
  await machine.world.until(after.stop());
  expectInSyncEqual(machine, after);
  off(machine);
}

describe.each(CASES)("$title", ({ shape, from, to }) => {
  test("is what it should be, and nothing is left to do", async () => {
    const subject = await stopped(shape, from);
    const { machine } = subject;
    const { events } = superblockOn(machine, "/disk0");
    const first = await convert(machine, { bitmap: to });
    expect(first).toMatchObject({ name: "sim", changed: true });
    expect([first.before?.type ?? "none", first.bitmap?.type ?? "none"]).toEqual([from, to]);
    const steps = from !== "none" && to !== "none" ? 2 : 1;
    for (const path of machine.paths)
      expect(superblockOn(machine, path).events).toBe(events + steps);
    off(machine);
    const again = await convert(machine, { bitmap: to });
    expect(again).toMatchObject({ changed: false, before: first.bitmap, bitmap: first.bitmap });
    off(machine);
    await expectWhole(subject, [to]);
    await expectWorks(subject, to);
  });

  test.each(["cut", "kill"] as const)("a %s at any moment leaves it whole", async (how) => {
    let ended = false;
    for (let count = 0; !ended; count += strideOf(shape)) {
      const subject = await stopped(shape, from, 1 + count);
      const { machine } = subject;
      const [work] = await begin(machine, { bitmap: to });
      ended = await machine.world.steps(work!, count);
      machine[how]();
      await expectWhole(subject, ended ? [to] : [from, "none", to]);
      const again = await convert(machine, { bitmap: to });
      expect(again.bitmap?.type ?? "none").toBe(to);
      if (how === "cut") machine.cut();
      else machine.kill();
      await expectWhole(subject, [to]);
      // A served one is worth a look now and then: it takes longer than all the rest.
      if (count % 5 === 0) await expectWorks(subject, to);
    }
  });

  test.each(["EIO", "ENOSPC"] as const)(
    "a member that fails with %s leaves it whole",
    async (code) => {
      let failed = true;
      for (let nth = 1; failed; nth += Math.ceil(strideOf(shape) / 3)) {
        const subject = await stopped(shape, from, nth);
        const { machine } = subject;
        const { members } = await machine.plan();
        machine.member("/disk1").failOperation({ nth, code, persistent: true });
        const found = members.map((member) => member.found);
        const work = convertMembers(found, { bitmap: to }, machine.world.clock);
        failed = await machine.world.until(
          work.then(
            () => false,
            (error: unknown) => {
              if (!(error instanceof NbdRaidError)) throw error;
              expect(["io-error", "no-space", "member-unreadable"]).toContain(error.code);
              expect(error.message).toMatch(/^\/disk1: /);
              return true;
            },
          ),
        );
        machine.cut();
        await expectWhole(subject, [from, "none", to]);
        // It can be served as it is, with no conversion.
        const form = (await machine.load(await machine.plan())).about.bitmap;
        off(machine);
        if (nth % 3 === 0) await expectWorks(subject, form);
        await convert(machine, { bitmap: to });
        off(machine);
        await expectWhole(subject, [to]);
      }
    },
  );
});

describe("the writes of a conversion", () => {
  test("come step by step: no bitmap, then the new one, then what refers to it", async () => {
    const { machine } = await stopped({}, "lockless");
    const { events } = superblockOn(machine, "/disk0");
    await convert(machine, { bitmap: "internal" });
    const written = machine.trace.operations.filter(({ kind }) => kind !== "read");
    const eventsOf = (bytes: Uint8Array | null): number =>
      Number(Buffer.from(bytes ?? []).readBigUInt64LE(200));
    const superblocksOf = (count: number) => (operation: Operation) =>
      isSuperblock(operation) && eventsOf(operation.bytes) === count;
    const steps = [
      ({ kind }: Operation) => kind === "sync",
      superblocksOf(events + 1),
      (operation: Operation) => operation.kind === "writeDurable" && !isSuperblock(operation),
      superblocksOf(events + 2),
    ];
    expectInSteps(written, steps);
    expect(written.length).toBe(steps.length * machine.paths.length);
  });

  test("first give whoever is behind what the others have: nobody is ever two behind", async () => {
    for (const behind of [["/disk0"], ["/disk1"], ["/disk0", "/disk2"]]) {
      for (let seed = 1; seed <= 20; seed++) {
        const { machine } = await stopped({ raidDisks: 3 }, "lockless", seed);
        const events = superblockOn(machine, "/disk0").events + 1;
        for (const path of machine.paths) {
          editBitmap(machine, path, { events });
          if (!behind.includes(path)) editSuperblock(machine, path, { events });
        }
        const [work] = await begin(machine, { bitmap: "none" });
        // Until the first of the superblocks may have been written.
        const isLate = ({ kind }: Operation): boolean => kind === "writeDurable";
        await untilIssued(machine, work!, isLate);
        await machine.world.steps(work!, machine.world.below(8));
        machine.cut();
        const found = machine.paths.map((path) => superblockOn(machine, path).events);
        expect(Math.max(...found) - Math.min(...found)).toBeLessThan(2);
      }
    }
  });
});
