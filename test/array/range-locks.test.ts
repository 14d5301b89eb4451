import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RangeLocks } from "../../src/array/range-locks.ts";
import { isSettled, turn } from "../bitmap/fake-clock.ts";
import { LONG, SEED } from "../bitmap/seed.ts";

describe("ranges that overlap", () => {
  test.each([
    [0, 10, "is the same"],
    [9, 1, "shares the last byte"],
    [0, 1, "shares the first byte"],
    [2, 3, "lies inside"],
  ])("%d+%d, which %s, waits for 0+10", async (offset, length) => {
    const locks = new RangeLocks();
    const release = await locks.acquire(0, 10);
    expect(locks.isBusy(offset, length)).toBe(true);
    const second = locks.acquire(offset, length);
    expect(await isSettled(second)).toBe(false);
    release();
    (await second)();
    expect(locks.isBusy(0, 10)).toBe(false);
  });
});

test.each([
  [10, 5],
  [0, 5],
  [100, 1],
])("%d+%d does not wait for 5+5", async (offset, length) => {
  const locks = new RangeLocks();
  await locks.acquire(5, 5);
  expect(locks.isBusy(offset, length)).toBe(false);
  expect(await isSettled(locks.acquire(offset, length))).toBe(true);
});

test("a range that waits for two gets in when both are released", async () => {
  const locks = new RangeLocks();
  const first = await locks.acquire(0, 10);
  const second = await locks.acquire(20, 10);
  const both = locks.acquire(5, 20);
  second();
  expect(await isSettled(both)).toBe(false);
  first();
  expect(await isSettled(both)).toBe(true);
});

test("whatever is asked for and released, no two holders overlap and all get in", async () => {
  const range = fc.record({ offset: fc.nat({ max: 20 }), length: fc.integer({ min: 1, max: 8 }) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(range, { maxLength: 30 }),
      fc.infiniteStream(fc.nat()),
      async (...given) => {
        const [ranges, picks] = given;
        const locks = new RangeLocks();
        const held: { offset: number; length: number; release: () => void }[] = [];
        let entered = 0;
        for (const { offset, length } of ranges) {
          void locks.acquire(offset, length).then((release) => {
            for (const other of held) {
              const apart =
                offset + length <= other.offset || other.offset + other.length <= offset;
              expect(apart).toBe(true);
            }
            held.push({ offset, length, release });
            entered++;
          });
          await turn();
        }
        while (held.length > 0) {
          const index = picks.next().value! % held.length;
          held.splice(index, 1)[0]!.release();
          await turn();
        }
        expect(entered).toBe(ranges.length);
        expect(locks.isBusy(0, 100)).toBe(false);
      },
    ),
    { numRuns: LONG ? 5000 : 100, seed: SEED },
  );
});
