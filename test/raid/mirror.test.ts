import { beforeEach, describe, expect, test } from "vitest";
import { MemberError } from "../../src/member/member.ts";
import { Mirror } from "../../src/raid/mirror.ts";
import { deferred, isSettled } from "../bitmap/fake-clock.ts";
import { BLOCK, FakeLeg } from "./fake-leg.ts";

let legs: FakeLeg[];
let inSync: FakeLeg[];
let writable: FakeLeg[];
let mirror: Mirror<FakeLeg>;

beforeEach(() => {
  legs = [0, 1, 2].map((slot) => new FakeLeg(slot));
  inSync = [...legs];
  writable = [...legs];
  mirror = new Mirror<FakeLeg>({
    get inSync() {
      return inSync;
    },
    get writable() {
      return writable;
    },
    inSyncAt: (slot) => inSync.find((leg) => leg.slot === slot) ?? null,
    writableAt: (slot) => writable.find((leg) => leg.slot === slot) ?? null,
  });
});

/** Reads as an array does, from cache if that is possible; the slot that gave the bytes. */
async function readAt(offset: number, length = BLOCK, pinned = false): Promise<number> {
  const into = new Uint8Array(length).fill(0xff);
  if (!mirror.tryRead(into, offset, pinned)) await mirror.read(into, offset, pinned);
  expect(into.every((byte) => byte === into[0])).toBe(true);
  return into[0]!;
}

async function series(count: number, offsetOf: (index: number) => number): Promise<number[]> {
  const slots: number[] = [];
  for (let index = 0; index < count; index++) slots.push(await readAt(offsetOf(index)));
  return slots;
}

/** Offsets that no read before has ended at. */
const scattered = (index: number): number => ((index * 7) % 31) * 2 * BLOCK;

describe("which member a read goes to", () => {
  test.each([
    ["cached", true],
    ["not cached", false],
  ])("a sequential stream that is %s stays on one", async (_name, cached) => {
    for (const leg of legs) leg.cached = cached;
    const slots = await series(20, (index) => index * BLOCK);
    expect(new Set(slots).size).toBe(1);
  });

  test("two streams keep to a member each", async () => {
    const one: number[] = [];
    const other: number[] = [];
    for (let index = 0; index < 10; index++) {
      one.push(await readAt(index * BLOCK));
      other.push(await readAt((32 + index) * BLOCK));
    }
    expect(new Set(one).size).toBe(1);
    expect(new Set(other).size).toBe(1);
    expect(one[0]).not.toBe(other[0]);
  });

  test.each([
    ["cached", true],
    ["not cached", false],
  ])("scattered reads that are %s take turns", async (_name, cached) => {
    for (const leg of legs) leg.cached = cached;
    const slots = await series(30, scattered);
    for (const slot of [0, 1, 2]) {
      expect(slots.filter((chosen) => chosen === slot).length).toBeGreaterThanOrEqual(8);
    }
  });

  test("a member that is busy is passed over", async () => {
    const slow = deferred();
    legs[1]!.delay = slow.promise;
    const pending: Promise<number>[] = [];
    while (!legs[1]!.log.some((line) => line.startsWith("read"))) {
      pending.push(readAt(scattered(pending.length)));
    }
    const before = legs[1]!.log.filter((line) => line.startsWith("read")).length;
    const slots = await series(10, (index) => scattered(index + 10));
    expect(slots).not.toContain(1);
    expect(legs[1]!.log.filter((line) => line.startsWith("read"))).toHaveLength(before);
    slow.resolve();
    await Promise.all(pending);
  });

  test("a write-mostly member is read only if there is no other", async () => {
    legs[0]!.writeMostly = true;
    legs[1]!.writeMostly = true;
    expect(new Set(await series(20, scattered))).toEqual(new Set([2]));
    inSync = [legs[0]!, legs[1]!];
    expect(new Set(await series(20, scattered))).toEqual(new Set([0, 1]));
  });

  test("a member that is rebuilding is not read", async () => {
    inSync = [legs[0]!, legs[2]!];
    expect(await series(20, scattered)).not.toContain(1);
  });
});

describe("pinned reads", () => {
  const pinned = (offset: number): Promise<number> => readAt(offset, BLOCK, true);

  test("go to the lowest slot, whatever streams and loads say", async () => {
    for (let index = 0; index < 10; index++) expect(await pinned(index * BLOCK)).toBe(0);
  });

  test("go to the lowest that is not write-mostly", async () => {
    legs[0]!.writeMostly = true;
    expect(await pinned(0)).toBe(1);
  });

  test("stay where they are when a lower slot comes into sync", async () => {
    inSync = [legs[1]!, legs[2]!];
    expect(await pinned(0)).toBe(1);
    inSync = [...legs];
    expect(await pinned(0)).toBe(1);
    expect(mirror.sources().map(({ slot }) => slot)).toEqual([1, 0, 2]);
  });

  test("go on with the next when their member is gone, in the order that syncs use", async () => {
    legs[1]!.writeMostly = true;
    expect(mirror.sources().map(({ slot }) => slot)).toEqual([0, 2, 1]);
    inSync = [legs[1]!, legs[2]!];
    expect(await pinned(0)).toBe(2);
  });
});

describe("a read that fails", () => {
  test("is served by blocks from the sources; what failed is named", async () => {
    legs[0]!.badBlocks.add(2);
    const into = new Uint8Array(4 * BLOCK);
    const unread = await mirror.read(into, 0, true);
    expect([0, 1, 2, 3].map((block) => into[block * BLOCK])).toEqual([0, 0, 1, 0]);
    expect(unread.map(({ leg, offset, length }) => [leg.slot, offset, length])).toEqual([
      [0, 2 * BLOCK, BLOCK],
    ]);
  });

  test("takes the blocks of the array, as a sync does, not those of the request", async () => {
    legs[0]!.badBlocks.add(1);
    const into = new Uint8Array(2 * BLOCK);
    const unread = await mirror.read(into, 512, true);
    expect(into[BLOCK - 513]).toBe(0);
    expect(into[BLOCK - 512]).toBe(1);
    expect(into[2 * BLOCK - 513]).toBe(1);
    expect(into[2 * BLOCK - 512]).toBe(0);
    expect(unread.map(({ offset, length }) => [offset, length])).toEqual([[BLOCK, BLOCK]]);
  });

  test("that is not pinned finds the same bytes as one that is", async () => {
    for (const leg of legs) leg.badBlocks.add(3);
    legs[2]!.badBlocks.clear();
    for (const pinned of [true, false]) {
      const into = new Uint8Array(BLOCK);
      await mirror.read(into, 3 * BLOCK, pinned);
      expect(into[0]).toBe(2);
    }
  });

  test("everywhere rejects with the member's error", async () => {
    for (const leg of legs) leg.badBlocks.add(1);
    await expect(mirror.read(new Uint8Array(BLOCK), BLOCK, false)).rejects.toThrow(MemberError);
  });

  test("leaves its member no busier than it was", async () => {
    legs[0]!.badBlocks.add(1);
    for (let round = 0; round < 10; round++) await mirror.read(new Uint8Array(BLOCK), BLOCK, true);
    expect(await series(12, scattered)).toContain(0);
  });
});

describe("a read that fails as a whole, but not block by block", () => {
  test("is told of all the same", async () => {
    let failures = 1;
    const { member } = legs[0]!;
    const read = member.read.bind(member);
    Object.assign(member, {
      read: (into: Uint8Array, at: number) =>
        failures-- > 0
          ? Promise.reject(new MemberError("member-0", "read", new Error("once")))
          : read(into, at),
    });
    const into = new Uint8Array(2 * BLOCK).fill(0xff);
    const unread = await mirror.read(into, 0, true);
    expect(into.every((byte) => byte === 0)).toBe(true);
    expect(unread.map(({ leg, length }) => [leg.slot, length])).toEqual([[0, 2 * BLOCK]]);
  });
});

describe("a repair", () => {
  const repair = (leg: FakeLeg) => mirror.repair(leg, 2 * BLOCK, BLOCK);

  test("writes what another leg holds, and reads it back", async () => {
    legs[0]!.badBlocks.add(2);
    expect(await repair(legs[0]!)).toEqual([]);
    expect(legs[0]!.bytes[2 * BLOCK]).toBe(1);
    expect(legs[0]!.bytes[3 * BLOCK]).toBe(0);
    expect(legs[0]!.log.slice(-2)).toEqual([`write ${2 * BLOCK}+${BLOCK}`, `read ${2 * BLOCK}`]);
  });

  test("takes the first source that can be read", async () => {
    for (const leg of legs) leg.badBlocks.add(2);
    legs[2]!.badBlocks.clear();
    expect(await repair(legs[0]!)).toEqual([]);
    expect(legs[0]!.bytes[2 * BLOCK]).toBe(2);
  });

  test("names the leg that cannot be written, or be read after that", async () => {
    legs[0]!.badBlocks.add(2);
    legs[0]!.heals = false;
    expect((await repair(legs[0]!)).map(({ leg }) => leg.slot)).toEqual([0]);
    legs[0]!.broken = true;
    expect((await repair(legs[0]!)).map(({ leg }) => leg.slot)).toEqual([0]);
  });

  test("writes nothing where the leg can be read, is not in sync, or no other knows better", async () => {
    expect(await repair(legs[0]!)).toEqual([]);
    for (const leg of legs) leg.badBlocks.add(2);
    expect(await repair(legs[0]!)).toEqual([]);
    inSync = [legs[1]!, legs[2]!];
    legs[1]!.badBlocks.clear();
    expect(await repair(legs[0]!)).toEqual([]);
    expect(legs[0]!.log.some((line) => line.startsWith("write"))).toBe(false);
  });
});

describe("writes", () => {
  const data = new Uint8Array(BLOCK).fill(0x77);

  test("go to every leg that takes writes, also to one that is rebuilding, in its data area", async () => {
    inSync = [legs[0]!];
    writable = [legs[0]!, legs[2]!];
    expect(await mirror.write(data, 3 * BLOCK)).toEqual([]);
    expect(legs[0]!.bytes[3 * BLOCK]).toBe(0x77);
    expect(legs[2]!.bytes[3 * BLOCK]).toBe(0x77);
    expect(legs[1]!.log).toEqual([]);
  });

  test("wait for all legs, and name those that failed", async () => {
    legs[1]!.broken = true;
    const failures = await mirror.write(data, 0);
    expect(failures.map(({ leg }) => leg.slot)).toEqual([1]);
    expect(failures[0]!.error).toBeInstanceOf(MemberError);
    expect(legs[2]!.bytes[0]).toBe(0x77);
  });

  test("end when the slowest leg has", async () => {
    const slow = deferred();
    Object.assign(legs[1]!.member, { write: () => slow.promise });
    const written = mirror.write(data, 0);
    expect(await isSettled(written)).toBe(false);
    slow.resolve();
    expect(await written).toEqual([]);
  });

  test("a bug in a leg is not taken for a failed member", async () => {
    Object.assign(legs[1]!.member, { write: () => Promise.reject(new TypeError("bug")) });
    await expect(mirror.write(data, 0)).rejects.toThrow(TypeError);
  });

  test("happen at once only if that blocks on no leg", () => {
    expect(mirror.writesInline(0, BLOCK)).toBe(true);
    legs[2]!.inline = false;
    expect(mirror.writesInline(0, BLOCK)).toBe(false);
    writable = [legs[0]!, legs[1]!];
    expect(mirror.writesInline(0, BLOCK)).toBe(true);
  });

  test("at once tell if a leg failed", () => {
    expect(mirror.tryWrite(data, 0)).toBe(true);
    expect(legs.map((leg) => leg.bytes[0])).toEqual([0x77, 0x77, 0x77]);
    legs[1]!.broken = true;
    expect(mirror.tryWrite(data, 0)).toBe(false);
  });

  test("of zeroes, holes and syncs reach every leg", async () => {
    await mirror.punch(BLOCK, 2 * BLOCK);
    await mirror.zero(4 * BLOCK, BLOCK);
    await mirror.sync();
    for (const leg of legs) {
      expect(leg.log).toEqual([
        `punch ${BLOCK}+${2 * BLOCK}`,
        `zero ${4 * BLOCK}+${BLOCK}`,
        "sync 0+0",
      ]);
    }
  });
});

test("a prefetch goes to the source alone", async () => {
  await mirror.prefetch(BLOCK, BLOCK);
  expect(legs.map((leg) => leg.log.length)).toEqual([1, 0, 0]);
});
