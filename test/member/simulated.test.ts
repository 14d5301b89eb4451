import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemberError } from "../../src/member/member.ts";
import { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { SimulatedMember } from "../../src/member/simulated.ts";
import type { Fault, OperationKind, Schedule } from "../../src/member/simulated.ts";
import { expectSame, isAll, memberConformance, pattern } from "./conformance.ts";
import { seededRandom, seededSchedule } from "./seeded.ts";

for (const inline of [false, true]) {
  memberConformance(`a simulated disk, ${inline ? "inline" : "scheduled"}`, (sizeBytes) => {
    const disk = new SimulatedDisk(sizeBytes);
    const random = seededRandom(1);
    const schedule = seededSchedule(random);
    return Promise.resolve({
      open: ({ readOnly }) =>
        Promise.resolve(
          new SimulatedMember(disk, { path: "disk", random, schedule, inline, readOnly }),
        ),
      dispose: () => Promise.resolve(),
    });
  });
}

const SECTOR = 512;
const SECTORS = 16;
const seeds = fc.integer();

function setUp(seed: number, disk = new SimulatedDisk(SECTORS * SECTOR)) {
  const random = seededRandom(seed);
  const schedule = seededSchedule(random);
  return { disk, random, member: new SimulatedMember(disk, { path: "disk", random, schedule }) };
}

/** A scheduler under the test's hand: `step` runs the oldest task. */
function manual(): { schedule: Schedule; step: () => void } {
  const tasks: (() => void)[] = [];
  return { schedule: (task) => void tasks.push(task), step: () => tasks.shift()?.() };
}

function filled(value: number, sectors = 1): Uint8Array {
  return new Uint8Array(sectors * SECTOR).fill(value);
}

/** The value each sector is filled with; a sector of two values fails the test. */
function sectorValues(disk: SimulatedDisk): number[] {
  return Array.from({ length: SECTORS }, (_, sector) => {
    const bytes = new Uint8Array(SECTOR);
    disk.read(bytes, sector * SECTOR);
    expect(isAll(bytes, bytes[0] ?? -1)).toBe(true);
    return bytes[0] ?? -1;
  });
}

describe("a power cut", () => {
  // Rounds of writes, each sector filled with the round's number; some rounds are synced. After the cut
  // every sector holds a round that wrote it, none older than the last that was synced.
  it("keeps what was synced, and else any version of each sector", async () => {
    await fc.assert(
      fc.asyncProperty(seeds, async (seed) => {
        const { disk, random, member } = setUp(seed);
        const allowed = Array.from({ length: SECTORS }, () => new Set([0]));
        for (let round = 1; round <= 12; round++) {
          const first = Math.floor(random() * SECTORS);
          const count = 1 + Math.floor(random() * (SECTORS - first));
          await member.write(filled(round, count), first * SECTOR);
          for (let i = first; i < first + count; i++) allowed[i]?.add(round);
          if (random() > 0.3) continue;
          await member.sync();
          for (const versions of allowed) {
            const newest = Math.max(...versions);
            versions.clear();
            versions.add(newest);
          }
        }
        sectorValues(disk.cut(random)).forEach((value, sector) => {
          expect(allowed[sector]).toContain(value);
        });
      }),
      { numRuns: 300 },
    );
  });

  it("really drops, keeps, reorders and tears: every outcome is met by some seed", async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 200; seed++) {
      const { disk, random, member } = setUp(seed);
      await member.write(filled(1, 2), 0);
      await member.write(filled(2, 2), 0);
      outcomes.add(sectorValues(disk.cut(random)).slice(0, 2).join());
    }
    expect([...outcomes].sort()).toEqual(
      ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2", "2,0", "2,1", "2,2"].sort(),
    );
  });

  it("finds writes in flight on any of their sectors, and never completes them", async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 100; seed++) {
      const { disk, random, member } = setUp(seed);
      let completed = false;
      void member.write(filled(1, 2), 0).then(() => (completed = true));
      const after = disk.cut(random);
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect(completed).toBe(false);
      outcomes.add(sectorValues(after).slice(0, 2).join());
    }
    expect([...outcomes].sort()).toEqual(["0,0", "0,1", "1,0", "1,1"]);
  });

  it("keeps durable writes, which say nothing of others", async () => {
    const outcomes = new Set<number | undefined>();
    for (let seed = 0; seed < 50; seed++) {
      const { disk, random, member } = setUp(seed);
      await member.write(filled(1), 0);
      await member.write(filled(2), SECTOR);
      await member.writeDurable(filled(3), SECTOR);
      const [first, second] = sectorValues(disk.cut(random));
      expect(second).toBe(3);
      outcomes.add(first);
    }
    expect(outcomes).toEqual(new Set([0, 1]));
  });

  // The sync is issued while the write is under way, and completes after it.
  it("may drop a write that had not completed when the sync was called", () => {
    const outcomes = new Set<number | undefined>();
    for (let seed = 0; seed < 50; seed++) {
      const { schedule, step } = manual();
      const disk = new SimulatedDisk(SECTORS * SECTOR);
      const random = seededRandom(seed);
      const member = new SimulatedMember(disk, { path: "disk", random, schedule });
      void member.write(filled(1), 0);
      step(); // it takes effect
      void member.sync();
      for (let i = 0; i < 4; i++) step();
      outcomes.add(sectorValues(disk.cut(random))[0]);
    }
    expect(outcomes).toEqual(new Set([0, 1]));
  });

  it("is decided by the seed alone", async () => {
    await fc.assert(
      fc.asyncProperty(seeds, async (seed) => {
        const [one, two] = await Promise.all([chaos(seed), chaos(seed)]);
        expectSame(one, two);
      }),
      { numRuns: 50 },
    );
    expect(await chaos(1)).not.toEqual(await chaos(2));
  });

  async function chaos(seed: number): Promise<Uint8Array> {
    const { disk, random, member } = setUp(seed);
    for (let i = 1; i < 30; i++) {
      const offset = Math.floor(random() * (SECTORS - 2)) * SECTOR;
      const done = member[random() < 0.2 ? "writeDurable" : "write"](filled(i, 2), offset);
      if (random() < 0.5) await done;
      if (random() < 0.1) await member.sync();
    }
    const bytes = new Uint8Array(SECTORS * SECTOR);
    disk.cut(random).read(bytes, 0);
    return bytes;
  }
});

describe("a killed process", () => {
  it("leaves its completed writes readable, yet not on stable storage", async () => {
    const afterCut = new Set<number | undefined>();
    for (let seed = 0; seed < 50; seed++) {
      const { disk, random, member } = setUp(seed);
      await member.write(filled(1), 0);
      const found = disk.kill(random);
      expect(sectorValues(found)[0]).toBe(1);
      afterCut.add(sectorValues(found.cut(random))[0]);
    }
    expect(afterCut).toEqual(new Set([0, 1]));
  });

  it("leaves what the next sync makes durable", async () => {
    for (let seed = 0; seed < 50; seed++) {
      const { disk, random, member } = setUp(seed);
      await member.write(filled(1), 0);
      void member.write(filled(2, 2), SECTOR);
      const second = setUp(seed, disk.kill(random));
      const found = sectorValues(second.disk);
      await second.member.sync();
      expect(sectorValues(second.disk.cut(random))).toEqual(found);
    }
  });
});

describe("a fault", () => {
  const fails = async (operation: Promise<void>): Promise<boolean> => {
    const error: unknown = await operation.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    if (error !== null) expect(error).toBeInstanceOf(MemberError);
    return error !== null;
  };
  const failing = (fault: Fault): SimulatedMember => {
    const { member } = setUp(7);
    member.failOperation(fault);
    return member;
  };
  const buffer = filled(1);

  it("fails the n-th operation of any kind, once", async () => {
    const member = failing({ nth: 3 });
    expect(await fails(member.write(buffer, 0))).toBe(false);
    expect(await fails(member.sync())).toBe(false);
    expect(await fails(member.read(filled(0), 0))).toBe(true);
    expect(await fails(member.read(filled(0), 0))).toBe(false);
  });

  it.each<OperationKind>(["read", "write", "writeDurable", "sync", "punch", "zero"])(
    "fails the n-th %s only",
    async (kind) => {
      const member = failing({ nth: 2, kind });
      const outcomes: Partial<Record<OperationKind, boolean[]>> = {};
      for (let i = 0; i < 3; i++) {
        for (const [name, run] of Object.entries(allOperations(member))) {
          (outcomes[name as OperationKind] ??= []).push(await fails(run()));
        }
      }
      for (const [name, failed] of Object.entries(outcomes)) {
        expect(failed).toEqual([false, name === kind, false]);
      }
    },
  );

  it("stays, if it is persistent", async () => {
    const member = failing({ nth: 2, kind: "write", persistent: true });
    const outcomes: boolean[] = [];
    for (let i = 0; i < 4; i++) outcomes.push(await fails(member.write(buffer, 0)));
    expect(outcomes).toEqual([false, true, true, true]);
  });

  it("counts a vector as one operation, and fails it as one", async () => {
    const member = failing({ nth: 2 });
    const vector = [filled(1), filled(2), filled(3)];
    expect(await fails(member.writev(vector, 0))).toBe(false);
    expect(await fails(member.readv([filled(0), filled(0)], 0))).toBe(true);
    const into = [filled(0), filled(0), filled(0)];
    expect(await fails(member.readv(into, 0))).toBe(false);
    expect(into.map(([value]) => value)).toEqual([1, 2, 3]);
  });

  it("can be lack of space", async () => {
    const member = failing({ nth: 1, kind: "write", code: "ENOSPC" });
    await expect(member.write(buffer, 0)).rejects.toMatchObject({ noSpace: true });
  });

  it("is left by an inline attempt for the call that reports it", async () => {
    const { disk, random } = setUp(7);
    const schedule = seededSchedule(random);
    const member = new SimulatedMember(disk, { path: "disk", random, schedule, inline: true });
    member.failOperation({ nth: 2 });
    expect(member.tryRead(filled(0), 0)).toBe(true);
    expect(member.tryWrite(buffer, 0)).toBe(false);
    expect(await fails(member.write(buffer, 0))).toBe(true);
    expect(member.tryWrite(buffer, 0)).toBe(true);
  });

  it("in a write leaves any of its sectors written", async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const { disk, member } = setUp(seed);
      member.failOperation({ nth: 1 });
      expect(await fails(member.write(filled(1, 2), 0))).toBe(true);
      outcomes.add(sectorValues(disk).slice(0, 2).join());
    }
    expect([...outcomes].sort()).toEqual(["0,0", "0,1", "1,0", "1,1"]);
  });

  it("in a sync may lose the data, at once or at the cut, although a later sync succeeds", async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 50; seed++) {
      const { disk, random, member } = setUp(seed);
      await member.write(filled(1), 0);
      member.failOperation({ nth: 1, kind: "sync" });
      expect(await fails(member.sync())).toBe(true);
      expect(await fails(member.sync())).toBe(false);
      const before = sectorValues(disk)[0];
      outcomes.add(`${before} then ${sectorValues(disk.cut(random))[0]}`);
    }
    expect([...outcomes].sort()).toEqual(["0 then 0", "1 then 0", "1 then 1"]);
  });

  const allOperations = (member: SimulatedMember): Record<OperationKind, () => Promise<void>> => ({
    read: () => member.read(filled(0), 0),
    write: () => member.write(buffer, 0),
    writeDurable: () => member.writeDurable(buffer, 0),
    sync: () => member.sync(),
    punch: () => member.punch(0, SECTOR),
    zero: () => member.zero(0, SECTOR),
  });
});

describe("a buffer", () => {
  it("that changes while it is written is a broken invariant", () => {
    const { schedule, step } = manual();
    const disk = new SimulatedDisk(SECTORS * SECTOR);
    const member = new SimulatedMember(disk, { path: "disk", random: () => 0, schedule });
    const bytes = pattern(SECTOR, 1);
    void member.write(bytes, 0);
    bytes[100] = 0;
    expect(step).toThrow("invariant");
  });

  it("that changes while it is written is one also in a vector", () => {
    const { schedule, step } = manual();
    const disk = new SimulatedDisk(SECTORS * SECTOR);
    const member = new SimulatedMember(disk, { path: "disk", random: () => 0, schedule });
    const bytes = [pattern(SECTOR, 1), pattern(SECTOR, 2)];
    void member.writev(bytes, 0);
    bytes[1]![100] = 0;
    expect(step).toThrow("invariant");
  });
});
