/**
 * What clients of one server do to each other, and members to them, through real arrays: over the
 * wire a FLUSH covers the writes of others, a member that fails is an error or none at all, and
 * clients of other exports are none the worse for it.
 */
import { statSync } from "node:fs";
import { describe, expect, it, onTestFinished } from "vitest";
import { FileBench } from "../levels/file-bench.ts";
import { freshBytes } from "../sim/client.ts";
import { MIRROR, type Shape } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { seedsToRun } from "../sim/seeds.ts";
import { startMachine } from "../sim/rule-machine.ts";
import { Arena } from "./arena.ts";
import { COMMAND, FUA, NO_HOLE, type RawClient } from "./client.ts";
import { exportOf, temporaryFolder } from "./serving.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const SECTOR = 512;
const EIO = 5;
const { READ, WRITE, FLUSH, WRITE_ZEROES } = COMMAND;

const CHUNK = 64 * KIB;
const striped = { chunkBytes: CHUNK, sizeBytes: 2 * MIB } as const;
const LEVELS: Readonly<Record<string, Partial<Shape>>> = {
  "1": MIRROR,
  "0": { ...striped, level: "0", layout: 2, raidDisks: 2, bitmap: "none" },
  "5": { ...striped, level: "5", layout: 2, raidDisks: 4 },
  "10": { ...striped, level: "10", layout: 0x102, raidDisks: 4 },
};

interface Battle {
  readonly machine: Machine;
  readonly arena: Arena;
  /** A client of the array. */
  readonly client: () => Promise<RawClient>;
  /** What is asked over the wire, while virtual time goes on for the array. */
  readonly done: <T>(work: Promise<T>) => Promise<T>;
}

/** An array on simulated disks, exported in an arena. */
async function battle(seed: number, level: string): Promise<Battle> {
  const machine = await startMachine(seed, LEVELS[level]);
  const arena = await Arena.open({}, [exportOf(machine.array, "array")]);
  const done = async <T>(work: Promise<T>): Promise<T> => {
    let settled = false;
    const settle = (): void => void (settled = true);
    work.then(settle, settle);
    while (!settled) {
      if (!(await machine.world.step())) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return work;
  };
  return { machine, arena, client: () => arena.serving.client("array"), done };
}

async function contents({ machine }: Battle): Promise<Buffer> {
  const bytes = Buffer.alloc(machine.array.sizeBytes);
  for (let at = 0; at < bytes.length; at += MIB) {
    await machine.world.until(machine.array.read(bytes.subarray(at, at + MIB), at));
  }
  return bytes;
}

const levels = Object.keys(LEVELS);
const runs = levels.flatMap((level) =>
  seedsToRun({ short: 3, long: 50 }).map((seed) => [level, seed] as const),
);
describe("9. several connections to an array", () => {
  it.each(runs)(
    "of level %s: FLUSH on one covers what was answered on the other: NBD_RAID_SEED=%i",
    async (level, seed) => {
      const one = await battle(seed, level);
      const { machine, arena, done } = one;
      const { world } = machine;
      const [a, b] = [await one.client(), await one.client()];
      const half = machine.array.sizeBytes / 2;
      const model = Buffer.alloc(half);
      for (let round = 0; round < 4; round++) {
        for (let i = 0; i < 6; i++) {
          const payload = Buffer.from(freshBytes(world.random, SECTOR * (1 + world.below(200))));
          const offset = SECTOR * world.below((half - payload.length) / SECTOR);
          await done(a.write(offset, payload));
          payload.copy(model, offset);
        }
        // Those under way on A do not hold up the FLUSH on B, nor does it wait for more of them.
        const under = Array.from({ length: 4 }, (_, i) =>
          a.request({ command: WRITE, offset: half + i * CHUNK, payload: Buffer.alloc(CHUNK, i) }),
        );
        expect((await done(b.exchange({ command: FLUSH }))).error).toBe(0);
        for (const cookie of under) expect((await done(a.reply(cookie))).error).toBe(0);
      }
      machine.cut();
      await machine.start();
      expect((await contents(one)).subarray(0, half).equals(model)).toBe(true);
      await arena.othersAreServed();
    },
  );
});

/** Members that fail from now on, and what a client of the array is told. */
const failing: [what: string, level: string, members: string[], errno: number][] = [
  ["a mirror, one of two", "1", ["/disk1"], 0],
  ["an array of level 5, one of four", "5", ["/disk2"], 0],
  ["an array of level 10, one of four", "10", ["/disk0"], 0],
  ["an array of level 0, one of two", "0", ["/disk1"], EIO],
  ["an array of level 5, two of four", "5", ["/disk1", "/disk2"], EIO],
];
describe("11. members that fail in mid-write", () => {
  it.each(failing)("%s; others are served as before", async (_, level, members, errno) => {
    const one = await battle(1, level);
    const { machine, arena, done } = one;
    const [a, b] = [await one.client(), await one.client()];
    const before = Buffer.alloc(8 * CHUNK, 1);
    await done(a.write(0, before));
    for (const path of members) {
      for (const kind of ["write", "read"] as const)
        machine.member(path).failOperation({ nth: 2, kind, persistent: true });
    }
    const payload = Buffer.alloc(8 * CHUNK, 2);
    const pieces = Array.from({ length: 8 }, (__, i) =>
      a.request({
        command: WRITE,
        flags: i % 2 === 0 ? FUA : 0,
        offset: i * CHUNK,
        payload: payload.subarray(0, CHUNK),
      }),
    );
    const errors: number[] = [];
    for (const cookie of pieces) errors.push((await done(a.reply(cookie))).error);
    expect(Math.max(...errors)).toBe(errno);
    // What was answered without an error is read by the other, or an error is: never other bytes.
    for (const [i, error] of errors.entries()) {
      const fields = { command: READ, offset: i * CHUNK, length: CHUNK };
      const reply = await done(b.exchange(fields));
      expect([0, errno]).toContain(reply.error);
      const allowed = error === 0 ? [2] : [1, 2];
      expect([...new Set(reply.data)].filter((byte) => !allowed.includes(byte))).toEqual([]);
    }
    if (errno === 0) expect(machine.array.status().degraded).toBe(1);
    await arena.othersAreServed();
  });
});

describe("12. data", () => {
  it("of a WRITE of which one half fails: an error, no other bytes, and it can be done again", async () => {
    const one = await battle(1, "0");
    const { machine, arena, done } = one;
    const [a, b] = [await one.client(), await one.client()];
    const length = 4 * CHUNK;
    await done(a.write(0, Buffer.alloc(3 * length, 1)));
    machine.member("/disk1").failOperation({ nth: 1, kind: "write" });
    const fields = { command: WRITE, offset: length, payload: Buffer.alloc(length, 2) };
    expect((await done(a.exchange(fields))).error).toBe(EIO);
    const after = await done(b.read(0, 3 * length));
    const outside = Buffer.concat([after.subarray(0, length), after.subarray(2 * length)]);
    expect(outside.equals(Buffer.alloc(2 * length, 1))).toBe(true);
    const inside = new Set(after.subarray(length, 2 * length));
    expect([...inside].toSorted()).toEqual([1, 2]); // half of it was done, and nobody said it all was
    expect((await done(a.exchange(fields))).error).toBe(0);
    expect((await done(b.read(length, length))).equals(fields.payload)).toBe(true);
    await arena.othersAreServed();
  });

  it("WRITE_ZEROES with NO_HOLE has space behind it, without it has none", async () => {
    const shape: Shape = {
      ...MIRROR,
      ...{ raidDisks: 2, sizeBytes: 16 * MIB, bitmap: "lockless", writeMostly: false },
    };
    const bench = await FileBench.create(temporaryFolder(), 1, shape);
    onTestFinished(() => bench.dispose());
    const array = await bench.start();
    const arena = await Arena.open({}, [exportOf(array, "array")]);
    onTestFinished(() => arena.serving.server.close());
    const client = await arena.serving.client("array");
    const allocated = (): number[] => bench.paths.map((file) => statSync(file).blocks * SECTOR);
    const zero = async (flags: number, offset: number): Promise<number[]> => {
      const before = allocated();
      const fields = { command: WRITE_ZEROES, flags, offset, length: 4 * MIB };
      expect((await client.exchange(fields)).error).toBe(0);
      expect((await client.exchange({ command: FLUSH })).error).toBe(0);
      return allocated().map((bytes, slot) => bytes - (before[slot] ?? 0));
    };
    for (const grown of await zero(0, 0)) expect(grown).toBeLessThan(MIB);
    for (const grown of await zero(NO_HOLE, 8 * MIB)) expect(grown).toBeGreaterThanOrEqual(4 * MIB);
    expect((await client.read(8 * MIB, 4 * MIB)).equals(Buffer.alloc(4 * MIB))).toBe(true);
    await arena.othersAreServed();
  });
});
