/**
 * Level 10 by itself, over simulated disks some of which are lost: held against a plain array of
 * bytes and the obvious placement, chunk by chunk.
 */
import { describe, expect, test } from "vitest";
import { Copies } from "../../src/raid/copies.ts";
import { seedsToRun } from "../sim/seeds.ts";
import { CHUNK, COPIES_SHAPES, copiesGeometry, copiesShape } from "./copy-shapes.ts";
import { expectSame, LevelBench, noise, randomRound, slotsOf } from "./level-bench.ts";

type Inline = (world: LevelBench["world"]) => boolean;

function benchOf(name: string, raidDisks: number, seed = 1, inline?: Inline, chunks = 12) {
  const shape = copiesShape(name, raidDisks, chunks);
  const geometry = copiesGeometry(shape);
  return new LevelBench(seed, shape, (legs) => new Copies(geometry, legs), inline);
}

/** The data areas of all members: every chunk put in all of its places. */
function imagesOf({ shape }: LevelBench, bytes: Buffer): Buffer[] {
  const geometry = copiesGeometry(shape);
  const images = shape.dataBytes.map((length) => Buffer.alloc(length));
  for (let chunk = 0; chunk * CHUNK < bytes.length; chunk++) {
    for (const { slot, offset } of geometry.locate(chunk)) {
      images[slot]!.set(bytes.subarray(chunk * CHUNK, (chunk + 1) * CHUNK), offset);
    }
  }
  return images;
}

/** Loses a member, or has one come back, first to be written and then to be read. */
function changeLegs(bench: LevelBench, model: Buffer): void {
  const { world, legs } = bench;
  const slot = world.below(legs.all.length);
  const state = legs.states[slot];
  const geometry = copiesGeometry(bench.shape);
  if (state === "gone") {
    legs.set(slot, "rebuilding");
  } else if (state === "rebuilding") {
    bench.put(slot, imagesOf(bench, model)[slot]!);
    legs.set(slot, "in_sync");
  } else if (geometry.survives((other) => other !== slot && legs.states[other] === "in_sync")) {
    legs.set(slot, "gone");
  }
}

describe.each(COPIES_SHAPES)("%s on %i members", (name, raidDisks) => {
  test.each(seedsToRun({ short: 2, long: 100 }))(
    "is as a plain array of bytes, and lies where it should: NBD_RAID_SEED=%i",
    async (seed) => {
      const bench = benchOf(name, raidDisks, seed, (world) => world.chance(0.6));
      const { world, legs } = bench;
      const model = Buffer.alloc(copiesGeometry(bench.shape).sizeBytes);
      const lengthMax = world.pick([3000, 40_000, model.length]);
      for (let round = 0; round < 20; round++) {
        if (world.chance(0.4)) changeLegs(bench, model);
        await randomRound(bench, model, lengthMax);
      }
      for (const pinned of [false, true]) {
        expectSame(await bench.run(bench.read(0, model.length, pinned)), model, "everything");
      }
      for (const [slot, image] of imagesOf(bench, model).entries()) {
        if (legs.states[slot] === "in_sync") expectSame(bench.image(slot), image, `slot ${slot}`);
      }
    },
  );
});

describe("calls", () => {
  const inline: Inline = () => true;

  test.each([
    ["near copies: half of the members, each once", "n2", ["0 read 0+16384", "2 read 0+16384"]],
    [
      "far copies: all members, each once",
      "f2",
      ["0 read 0+8192", "1 read 0+8192", "2 read 0+8192", "3 read 0+8192"],
    ],
  ])("a read of eight chunks asks, with %s", async (_what, name, calls) => {
    const bench = benchOf(name, 4);
    await bench.run(bench.read(0, 8 * CHUNK));
    expect(bench.calls()).toEqual(calls);
  });

  test.each([
    ["n2", ["0+16384"]],
    ["o2", ["0+16384"]],
    ["f2", ["0+8192", `${6 * CHUNK}+8192`]],
  ])("a write of eight chunks of %s makes one call for what is adjacent", async (name, ranges) => {
    const bench = benchOf(name, 4);
    await bench.run(bench.write(noise(bench.world, 8 * CHUNK), 0));
    const each = [0, 1, 2, 3].flatMap((slot) => ranges.map((range) => `${slot} write ${range}`));
    expect(bench.calls()).toEqual(each.sort());
  });

  test("at once are as many as otherwise", () => {
    const bench = benchOf("n2", 4, 1, inline);
    const bytes = noise(bench.world, 4 * CHUNK);
    expect(bench.level.writesInline(0, bytes.length)).toBe(true);
    expect(bench.level.tryWrite(bytes, 0)).toBe(true);
    expect(bench.calls()).toEqual([0, 1, 2, 3].map((slot) => `${slot} write 0+8192`));
    const into = Buffer.alloc(bytes.length);
    expect(bench.level.tryRead(into, 0, false)).toBe(true);
    expectSame(into, bytes, "read back");
    expect(bench.calls()).toEqual(["0 read 0+8192", "2 read 0+8192"]);
    expect(bench.level.tryWrite(bytes.subarray(0, 100), CHUNK + 7)).toBe(true);
    expect(bench.calls()).toEqual(["2 write 7+100", "3 write 7+100"]);
  });

  test("of holes, zeroes and syncs are one a member and row of copies", async () => {
    const bench = benchOf("f2", 3);
    await bench.run(bench.level.punch(0, 9 * CHUNK));
    const ranges = [0, 1, 2].flatMap((slot) => [
      `${slot} punch 0+12288`,
      `${slot} punch 24576+12288`,
    ]);
    expect(bench.calls()).toEqual(ranges.sort());
    bench.legs.set(1, "gone");
    await bench.run(bench.level.zero(CHUNK, 100));
    expect(bench.calls()).toEqual(["2 zero 24576+100"]);
    await bench.run(bench.level.sync());
    expect(bench.calls()).toEqual(["0 sync", "2 sync"]);
  });

  test("of prefetch go to the sources alone, for what is worth a hint", async () => {
    const bench = benchOf("n2", 4);
    const large = copiesGeometry(copiesShape("n2", 4, 2 ** 40 / CHUNK));
    const asked: string[] = [];
    for (const { slot, member, dataOffset } of bench.legs.all) {
      member.prefetch = (offset, length) => {
        asked.push(`${slot} ${offset - dataOffset}+${length}`);
        return Promise.resolve();
      };
    }
    await new Copies(large, bench.legs).prefetch(CHUNK, 2 ** 34);
    expect(asked).toEqual([`0 ${CHUNK}+${2 ** 25}`, `2 0+${2 ** 25}`]);
  });

  test("are made at once only where that blocks on no copy, and is quick", () => {
    const bench = benchOf("n2", 4, 1, inline);
    const { level } = bench;
    bench.leg(3).member.writesInline = () => false;
    expect(level.writesInline(0, CHUNK)).toBe(true);
    expect(level.writesInline(CHUNK, 100)).toBe(false);
    expect(level.writesInline(100, CHUNK)).toBe(false);
    bench.legs.set(3, "gone");
    expect(level.writesInline(CHUNK, 100)).toBe(true);
    expect(level.writesInline(0, 32 * CHUNK)).toBe(true);
    expect(level.writesInline(0, 32 * CHUNK + 1)).toBe(false);
    const long = benchOf("n2", 2, 1, inline, 300).level;
    expect(long.tryRead(Buffer.alloc(256 * CHUNK), 0, false)).toBe(true);
    expect(long.tryRead(Buffer.alloc(256 * CHUNK + 1), 0, false)).toBe(false);
  });
});

describe("which copy a read takes", () => {
  /** The slot that a read of one block at `offset` goes to. */
  async function slotAt(bench: LevelBench, offset: number, pinned = false): Promise<number> {
    await bench.run(bench.read(offset, 512, pinned));
    return Number(bench.calls()[0]!.split(" ")[0]);
  }

  test.each([
    ["inline", true],
    ["in the pool", false],
  ])("a stream of reads %s stays on its member, also from chunk to chunk", async (_how, inline) => {
    const bench = benchOf("n2", 2, 1, () => inline);
    const slots = new Set<number>();
    for (let at = 0; at < 4 * CHUNK; at += 512) slots.add(await slotAt(bench, at));
    expect(slots.size).toBe(1);
  });

  test.each([1, 3])("scattered reads of %i chunks take turns", async (chunks) => {
    const bench = benchOf("n2", 2, 1, undefined, 64);
    const counts = [0, 0];
    for (let index = 0; index < 20; index++) {
      const at = ((index * 7) % 15) * 4 * CHUNK;
      await bench.run(bench.read(at, chunks * CHUNK));
      for (const call of bench.calls()) counts[Number(call[0])]!++;
    }
    for (const count of counts) expect(count).toBeGreaterThanOrEqual(5);
  });

  test("a busy member is passed over", async () => {
    const bench = benchOf("n2", 2, 1, undefined, 64);
    const { member } = bench.leg(0);
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const readv = member.readv.bind(member);
    member.readv = (into, offset) => held.then(() => readv(into, offset));
    const slow: Promise<Buffer>[] = [];
    for (let index = 0; index < 4; index++) slow.push(bench.read(index * 8 * CHUNK, 512));
    await bench.world.steps(Promise.all(slow), 100);
    bench.calls();
    for (let index = 0; index < 6; index++) {
      expect(await slotAt(bench, (index * 8 + 3) * CHUNK)).toBe(1);
    }
    release();
    await bench.run(Promise.all(slow));
  });

  test("a write-mostly member is read only where it alone has a copy", async () => {
    const bench = benchOf("n2", 4);
    bench.leg(0).writeMostly = true;
    bench.leg(3).writeMostly = true;
    for (let round = 0; round < 4; round++) {
      await bench.run(bench.read(0, 8 * CHUNK));
      expect(bench.calls()).toEqual(["1 read 0+16384", "2 read 0+16384"]);
    }
    bench.legs.set(1, "gone");
    await bench.run(bench.read(0, 8 * CHUNK));
    expect(bench.calls()).toEqual(["0 read 0+16384", "2 read 0+16384"]);
    // Nor does a stream stay on it when there is another again.
    expect(await slotAt(bench, 8 * CHUNK)).toBe(0);
    bench.legs.set(1, "in_sync");
    expect(await slotAt(bench, 8 * CHUNK + 512)).toBe(1);
  });

  test("a pinned read takes the lowest slot that has one, whatever streams say", async () => {
    const bench = benchOf("n2", 3);
    // Rows: 0 0 1 | 1 2 2.
    for (let round = 0; round < 3; round++) {
      expect(await slotAt(bench, round * 512, true)).toBe(0);
      expect(await slotAt(bench, CHUNK + round * 512, true)).toBe(0);
      expect(await slotAt(bench, 2 * CHUNK + round * 512, true)).toBe(1);
    }
    await bench.run(bench.read(0, 3 * CHUNK, true));
    expect(bench.calls()).toEqual(["0 read 0+8192", "1 read 4096+4096"]);
  });

  test("a pinned read of many chunks makes one call for what is adjacent", async () => {
    const bench = benchOf("f2", 4);
    await bench.run(bench.read(0, 8 * CHUNK, true));
    // Chunks 3 and 7 are on slot 3, and on slot 0 among the far copies.
    const far = `0 read ${6 * CHUNK}+8192`;
    expect(bench.calls()).toEqual(["0 read 0+8192", far, "1 read 0+8192", "2 read 0+8192"]);
  });

  test("a pinned read takes one that is not write-mostly if there is another", async () => {
    const bench = benchOf("n2", 2);
    bench.leg(0).writeMostly = true;
    expect(await slotAt(bench, 0, true)).toBe(1);
    expect(bench.level.sources().map(({ slot }) => slot)).toEqual([1, 0]);
    bench.legs.set(1, "gone");
    expect(await slotAt(bench, 0, true)).toBe(0);
  });

  test("the source of a chunk stays so when lower slots come into sync", async () => {
    const bench = benchOf("n2", 4);
    bench.legs.set(0, "rebuilding");
    bench.legs.set(2, "rebuilding");
    expect(bench.level.sources().map(({ slot }) => slot)).toEqual([1, 3]);
    bench.legs.set(2, "in_sync");
    bench.legs.set(0, "in_sync");
    expect(await slotAt(bench, 0, true)).toBe(1);
    expect(await slotAt(bench, CHUNK, true)).toBe(3);
    expect(bench.level.sources().map(({ slot }) => slot)).toEqual([1, 3, 0, 2]);
    bench.legs.set(1, "gone");
    expect(await slotAt(bench, 0, true)).toBe(0);
    expect(await slotAt(bench, CHUNK, true)).toBe(3);
  });
});

describe("a read that fails", () => {
  /** Copies that differ: every byte of slot n is n + 1. */
  function marked(name: string, raidDisks: number): LevelBench {
    const bench = benchOf(name, raidDisks);
    for (const { slot } of bench.legs.all) bench.put(slot, Buffer.alloc(12 * CHUNK, slot + 1));
    return bench;
  }
  const readOf = async (bench: LevelBench, offset: number, length: number, pinned = true) => {
    const into = Buffer.alloc(length);
    const unread = await bench.run(bench.level.read(into, offset, pinned));
    return { into, unread: unread.map((block) => [block.leg.slot, block.offset, block.length]) };
  };

  test("is served by blocks from other copies; what failed is named, where it is in the array", async () => {
    const bench = marked("n2", 4);
    // Chunks 0 2 4 6 are on slots 0 and 1, chunks 1 3 5 7 on slots 2 and 3, a row for each.
    bench.leg(0).member.bad.add(1);
    bench.leg(2).member.bad.add(3);
    const { into, unread } = await readOf(bench, 512, 8 * CHUNK - 1024);
    const chunks = [0, 1, 2, 3, 4, 5, 6, 7].map((chunk) => into[chunk * CHUNK]);
    expect(chunks).toEqual([1, 3, 2, 3, 1, 3, 1, 4]);
    expect(unread.sort()).toEqual([
      [0, 2 * CHUNK, CHUNK],
      [2, 7 * CHUNK, CHUNK - 512],
    ]);
  });

  test("asks the next copies in the order of sources, and names all that failed", async () => {
    const bench = marked("n3", 3);
    bench.leg(1).writeMostly = true;
    bench.leg(0).member.bad.add(2);
    expect(await readOf(bench, 2 * CHUNK, 10).then(({ into }) => into[0])).toBe(3);
    bench.leg(2).member.bad.add(2);
    const { into, unread } = await readOf(bench, 2 * CHUNK, 10);
    expect(into[0]).toBe(2);
    expect(unread).toEqual([
      [0, 2 * CHUNK, 10],
      [2, 2 * CHUNK, 10],
    ]);
  });

  test("is told of also if nothing fails block by block", async () => {
    const bench = marked("n2", 2);
    bench.leg(0).member.failOperation({ nth: 1, kind: "read" });
    const { into, unread } = await readOf(bench, CHUNK, 2 * CHUNK);
    expect(into.every((byte) => byte === 1)).toBe(true);
    expect(unread).toEqual([[0, CHUNK, CHUNK]]);
  });

  test("everywhere rejects, when nobody fills the buffer any more", async () => {
    const bench = marked("n2", 4);
    for (const slot of [0, 1]) bench.leg(slot).member.bad.add(1);
    // Chunks 1, 3, 5 and 7 come long after it is clear that chunk 2 does not.
    const { member } = bench.leg(2);
    const readv = member.readv.bind(member);
    let slowEnded = false;
    member.readv = async (into, offset) => {
      await bench.world.sleep(10_000);
      await readv(into, offset);
      slowEnded = true;
    };
    await expect(readOf(bench, 0, 8 * CHUNK)).rejects.toThrow("read failed: flawed");
    expect(slowEnded).toBe(true);
  });

  test("goes on with the others if its member is gone meanwhile", async () => {
    const bench = marked("n2", 2);
    const { member } = bench.leg(0);
    member.bad.add(0);
    const readv = member.readv.bind(member);
    member.readv = (into, offset) => {
      const result = readv(into, offset);
      bench.legs.set(0, "gone");
      return result;
    };
    const { into } = await readOf(bench, 0, 100);
    expect(into[0]).toBe(2);
    const calls = bench.calls();
    expect(calls.filter((call) => call.startsWith("0"))).toHaveLength(1);
  });

  test("leaves its member no busier than it was", async () => {
    const bench = marked("n2", 2);
    bench.leg(0).member.bad.add(0);
    for (let round = 0; round < 10; round++) await readOf(bench, 0, 10);
    bench.calls();
    for (let round = 1; round < 6; round++) await readOf(bench, 2 * round * CHUNK, 10, false);
    expect(bench.calls().some((call) => call.startsWith("0 "))).toBe(true);
  });
});

describe("a repair", () => {
  test("rewrites what lies on the member from the first source, and reads it back", async () => {
    const bench = benchOf("n2", 4);
    const bytes = noise(bench.world, 4 * CHUNK);
    await bench.run(bench.write(bytes, 0));
    bench.put(1, Buffer.alloc(2 * CHUNK));
    bench.leg(1).member.bad.add(0);
    bench.leg(1).member.bad.add(1);
    bench.calls();
    // Of these three chunks the first and the last are on slots 0 and 1.
    const offset = 100;
    expect(await bench.run(bench.level.repair(bench.leg(1), offset, 3 * CHUNK - 100))).toEqual([]);
    const ranges = [`100+${CHUNK - 100}`, `${CHUNK}+${CHUNK}`];
    const steps = ["0 read", "1 read", "1 read", "1 write"];
    expect(bench.calls()).toEqual(
      steps.flatMap((step) => ranges.map((range) => `${step} ${range}`)).sort(),
    );
    expectSame(bench.image(1).subarray(100, CHUNK), bytes.subarray(100, CHUNK), "first");
    expectSame(
      bench.image(1).subarray(CHUNK, 2 * CHUNK),
      bytes.subarray(2 * CHUNK, 3 * CHUNK),
      "last",
    );
  });

  test("names the member that cannot be written, or be read after that", async () => {
    const bench = benchOf("n2", 2);
    const repair = () => bench.run(bench.level.repair(bench.leg(1), 0, CHUNK));
    bench.leg(1).member.bad.add(0);
    bench.leg(1).member.heals = false;
    expect(slotsOf(await repair())).toEqual([1]);
    bench.leg(1).member.failOperation({ nth: 1, kind: "write" });
    expect(slotsOf(await repair())).toEqual([1]);
  });

  test("writes nothing where the member can be read, is not in sync, has no copy, or nobody knows better", async () => {
    const bench = benchOf("n2", 4);
    const repair = async (slot: number, offset = 0): Promise<void> => {
      expect(await bench.run(bench.level.repair(bench.leg(slot), offset, CHUNK))).toEqual([]);
    };
    await repair(0);
    bench.leg(0).member.bad.add(0);
    await repair(0, CHUNK);
    bench.leg(1).member.bad.add(0);
    await repair(0);
    bench.leg(1).member.bad.clear();
    bench.legs.set(0, "rebuilding");
    await repair(0);
    expect(bench.calls().filter((call) => call.includes("write"))).toEqual([]);
  });
});

describe("writes", () => {
  test("go to every copy, also on a member that is rebuilding, and to none that is gone", async () => {
    const bench = benchOf("n3", 3);
    bench.legs.set(0, "rebuilding");
    bench.legs.set(1, "gone");
    await bench.run(bench.write(noise(bench.world, CHUNK + 1), 0));
    expect(bench.calls()).toEqual(["0 write 0+4097", "2 write 0+4097"]);
  });

  test("name a member once, as broken if it does not only lack space", async () => {
    const bench = benchOf("f2", 2);
    const write = () => bench.run(bench.level.write(noise(bench.world, 4 * CHUNK), 0));
    for (const codes of [
      ["ENOSPC", "EIO"],
      ["EIO", "ENOSPC"],
    ] as const) {
      for (const [index, code] of codes.entries()) {
        bench.leg(1).member.failOperation({ nth: index + 1, kind: "write", code });
      }
      const failures = await write();
      expect(failures.map(({ leg, error }) => [leg.slot, error.noSpace])).toEqual([[1, false]]);
    }
    expect(await write()).toEqual([]);
  });

  test("at once that fail half way are made again in full", async () => {
    for (const length of [100, 3 * CHUNK]) {
      const bench = benchOf("n2", 4, 1, () => true);
      const bytes = noise(bench.world, length);
      bench.leg(1).member.failOperation({ nth: 1 });
      expect(bench.level.tryWrite(bytes, 0)).toBe(false);
      expect(slotsOf(await bench.run(bench.level.write(bytes, 0)))).toEqual([1]);
      expect(await bench.run(bench.level.write(bytes, 0))).toEqual([]);
      for (const pinned of [true, false]) {
        expectSame(await bench.run(bench.read(0, length, pinned)), bytes, "read back");
      }
    }
  });

  test("never pass over a chunk that no member would take", () => {
    const bench = benchOf("n2", 4, 1, () => true);
    bench.legs.set(2, "gone");
    bench.legs.set(3, "gone");
    expect(bench.level.tryWrite(Buffer.alloc(CHUNK), 0)).toBe(true);
    expect(() => bench.level.tryWrite(Buffer.alloc(CHUNK), CHUNK)).toThrow("invariant");
    expect(() => bench.level.write(Buffer.alloc(2 * CHUNK), 0)).toThrow("invariant");
    expect(() => bench.level.tryRead(Buffer.alloc(CHUNK), CHUNK, false)).toThrow("invariant");
  });
});
