/**
 * One member's n-th operation of a kind fails, for every n, while a fixed script of requests
 * runs. A run is repeated by its name: nothing in it is left to chance.
 */
import { describe, expect, it } from "vitest";
import type { NbdRaidError } from "../../src/errors.ts";
import type { Fault, OperationKind } from "../../src/member/simulated.ts";
import { expectInSyncEqual, expectUnmarkedEqual, readAll } from "./checks.ts";
import { MIRROR, type Shape } from "./disks.ts";
import { Machine } from "./machine.ts";
import { Model } from "./model.ts";
import { runScript } from "./script.ts";
import { World } from "./world.ts";

const MiB = 1024 * 1024;
const SHAPE: Shape = {
  ...MIRROR,
  raidDisks: 2,
  sizeBytes: 2 * MiB,
  bitmap: "lockless",
  writeMostly: false,
};
const SEED = 1;
const CHANGING: readonly OperationKind[] = ["write", "writeDurable", "sync", "punch", "zero"];
const PATHS = ["/disk0", "/disk1"];
const STRIDE = process.env["NBD_RAID_LONG"] === "1" ? 1 : 2;

interface Started {
  readonly world: World;
  readonly machine: Machine;
  readonly model: Model;
}

async function start(inline: boolean): Promise<Started> {
  const world = new World(SEED);
  const machine = new Machine(world, SHAPE);
  machine.inline = inline;
  await machine.start();
  return { world, machine, model: new Model(SHAPE.sizeBytes) };
}

/** How many operations of each kind a member sees in the whole script. */
async function countOperations(path: string, inline: boolean): Promise<Map<OperationKind, number>> {
  const { world, machine, model } = await start(inline);
  machine.trace.clear();
  await world.until(runScript({ machine, model, errors: [], ended: () => false }));
  const counts = new Map<OperationKind, number>();
  for (const { path: of, kind } of machine.trace.operations) {
    if (of === path) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

interface Case extends Fault {
  readonly path: string;
  readonly inline: boolean;
  readonly kind: OperationKind;
}

async function* cases(
  kinds: readonly OperationKind[],
  code: "EIO" | "ENOSPC",
): AsyncIterable<Case> {
  let turn = 0;
  for (const inline of [false, true]) {
    for (const path of PATHS) {
      const counts = await countOperations(path, inline);
      for (const kind of kinds) {
        expect(counts.get(kind), `${kind} is in the script`).toBeGreaterThan(0);
        for (let nth = 1 + (turn++ % STRIDE); nth <= (counts.get(kind) ?? 0); nth += STRIDE) {
          yield { path, inline, kind, nth, code };
          if (code === "EIO") yield { path, inline, kind, nth, code, persistent: true };
        }
      }
    }
  }
}

async function each(of: AsyncIterable<Case>, run: (fault: Case) => Promise<void>): Promise<void> {
  for await (const fault of of) {
    try {
      await run(fault);
    } catch (error) {
      throw new Error(`with ${JSON.stringify(fault)}`, { cause: error });
    }
  }
}

function failedChange({ machine }: Started, path: string): boolean {
  return machine.trace.operations.some(({ path: of, kind, failed }) => {
    return failed && of === path && CHANGING.includes(kind);
  });
}

describe("a member's n-th operation fails", () => {
  it("nobody notices, and its failure is on the survivor before the answer", async () => {
    await each(cases(CHANGING, "EIO"), async (fault) => {
      const started = await start(fault.inline);
      const { world, machine, model } = started;
      machine.member(fault.path).failOperation(fault);
      machine.trace.clear();
      const errors: NbdRaidError[] = [];
      const ended = (): boolean => failedChange(started, fault.path);
      expect(await world.until(runScript({ machine, model, errors, ended }))).toBe(true);
      expect(errors).toEqual([]);
      const before = machine.array.metadata.events;
      machine.cut();
      model.cut();
      const plan = await machine.plan();
      const member = plan.members.find(({ found }) => found.path === fault.path);
      expect(member?.use).toBe("left out");
      expect(plan.freshest.events).toBe(before);
      const own = member?.found.superblock.events ?? 0;
      expect(plan.freshest.events - own, "md takes a member that is one behind").toBeGreaterThan(1);
      await returns(started, plan, fault.path);
    });
  });

  it("what it cannot read comes from the other, and is repaired", async () => {
    await each(cases(["read"], "EIO"), async (fault) => {
      const { world, machine, model } = await start(fault.inline);
      machine.member(fault.path).failOperation(fault);
      const errors: NbdRaidError[] = [];
      await world.until(runScript({ machine, model, errors, ended: () => false }));
      expect(errors).toEqual([]);
      await machine.stop();
      await machine.start();
      expectInSyncEqual(machine, machine.array);
    });
  });

  it("a lack of space reaches the client, ejects nobody, and a sync makes members equal", async () => {
    const spaceTaking = CHANGING.filter((kind) => kind !== "sync");
    await each(cases(spaceTaking, "ENOSPC"), async (fault) => {
      const { world, machine, model } = await start(fault.inline);
      machine.member(fault.path).failOperation(fault);
      const errors: NbdRaidError[] = [];
      await world.until(runScript({ machine, model, errors, ended: () => false }));
      expect(errors.filter(({ code }) => code !== "no-space")).toEqual([]);
      expect(machine.array.devices.inSync.length).toBe(2);
      await world.until(machine.array.wait());
      expectUnmarkedEqual(machine, machine.array);
      expectInSyncEqual(machine, machine.array);
      model.check(0, await world.until(readAll(machine.array)));
    });
  });
});

/** After a crash the member that failed comes back, and then holds what the other holds. */
async function returns(
  { world, machine, model }: Started,
  plan: Awaited<ReturnType<Machine["plan"]>>,
  path: string,
): Promise<void> {
  const array = await machine.load(plan);
  await world.until(array.start());
  model.adopt(await world.until(checked(machine, model)));
  await world.until(array.reAdd(path));
  await world.until(array.wait());
  expect(array.devices.inSync.length).toBe(2);
  expectInSyncEqual(machine, array);
  await world.until(checked(machine, model));
}

async function checked({ array }: Machine, model: Model): Promise<Buffer> {
  const bytes = await readAll(array);
  model.check(0, bytes);
  return bytes;
}

describe("the last member", () => {
  it("is never ejected: what failed is answered with an error", async () => {
    for (const kind of ["read", "write", "punch", "zero"] as const) {
      const { world, machine, model } = await start(false);
      await world.until(machine.array.fail("/disk1"));
      machine.member("/disk0").failOperation({ nth: 1, kind, persistent: true });
      const errors: NbdRaidError[] = [];
      await world.until(runScript({ machine, model, errors, ended: () => false }));
      expect(errors.length, kind).toBeGreaterThan(0);
      expect(machine.array.devices.inSync.map(({ member }) => member.path)).toEqual(["/disk0"]);
    }
  });

  for (const kind of ["sync", "writeDurable"] as const) {
    it(`fails the array for good with a failed ${kind}; the superblock stays dirty`, async () => {
      const { world, machine } = await start(false);
      const { array } = machine;
      const bytes = new Uint8Array(4096).fill(7);
      await world.until(array.write(bytes, 0, false));
      for (const path of PATHS) machine.member(path).failOperation({ nth: 1, kind });
      const next = kind === "sync" ? array.flush() : array.write(bytes, MiB, false);
      const failed = { code: "array-failed" };
      await expect(world.until(next)).rejects.toMatchObject(failed);
      await expect(world.until(array.write(bytes, 0, false))).rejects.toMatchObject(failed);
      await expect(world.until(array.write(bytes, 0, true))).rejects.toMatchObject(failed);
      await expect(world.until(array.flush())).rejects.toMatchObject(failed);
      await expect(world.until(array.trim(0, 4096, false))).rejects.toMatchObject(failed);
      expect(array.status().state).toBe("failed");
      expect(array.devices.inSync.length).toBe(2);
      expect((await world.until(readAll(array)))[0]).toBe(7);
      await expect(machine.stop()).rejects.toMatchObject(failed);
      const { freshest } = await machine.plan();
      expect(freshest.resyncOffsetSectors).not.toBe("clean");
    });
  }
});
