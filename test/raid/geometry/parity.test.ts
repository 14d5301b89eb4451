/**
 * Levels 4, 5 and 6: first against tables of which slot holds what, printed for md's layouts (and
 * found right on images that a kernel wrote), then properties of every layout at every width.
 */
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import type { ParityGeometry } from "../../../src/raid/geometry/geometry.ts";
import { parityGeometry } from "../../../src/raid/geometry/parity.ts";
import { holds } from "../../metadata/properties.ts";
import { allSets, CHUNK, shapeOf } from "./shapes.ts";

/** A stripe as a line: what slot 0, 1, .. hold. */
function line(geometry: ParityGeometry, stripe: number): string {
  const { data, p, q } = geometry.stripe(stripe);
  const held = new Array<string>(geometry.raidDisks).fill("?");
  for (const [index, slot] of data.entries())
    held[slot] = `D${stripe * geometry.dataDisks + index}`;
  held[p] = "P";
  if (q >= 0) held[q] = "Q";
  return held.join(" ");
}

const TABLES: readonly [level: number, layout: number, slots: number, stripes: string][] = [
  [4, 0, 4, "D0 D1 D2 P | D3 D4 D5 P | D6 D7 D8 P | D9 D10 D11 P"],
  [5, 0, 4, "D0 D1 D2 P | D3 D4 P D5 | D6 P D7 D8 | P D9 D10 D11"],
  [5, 1, 4, "P D0 D1 D2 | D3 P D4 D5 | D6 D7 P D8 | D9 D10 D11 P"],
  [5, 2, 4, "D0 D1 D2 P | D4 D5 P D3 | D8 P D6 D7 | P D9 D10 D11"],
  [5, 3, 4, "P D0 D1 D2 | D5 P D3 D4 | D7 D8 P D6 | D9 D10 D11 P"],
  [5, 4, 4, "P D0 D1 D2 | P D3 D4 D5 | P D6 D7 D8 | P D9 D10 D11"],
  [5, 5, 4, "D0 D1 D2 P | D3 D4 D5 P | D6 D7 D8 P | D9 D10 D11 P"],
  [6, 0, 5, "Q D0 D1 D2 P | D3 D4 D5 P Q | D6 D7 P Q D8 | D9 P Q D10 D11 | P Q D12 D13 D14"],
  [6, 1, 5, "P Q D0 D1 D2 | D3 P Q D4 D5 | D6 D7 P Q D8 | D9 D10 D11 P Q | Q D12 D13 D14 P"],
  [6, 2, 5, "Q D0 D1 D2 P | D3 D4 D5 P Q | D7 D8 P Q D6 | D11 P Q D9 D10 | P Q D12 D13 D14"],
  [6, 3, 5, "P Q D0 D1 D2 | D5 P Q D3 D4 | D7 D8 P Q D6 | D9 D10 D11 P Q | Q D12 D13 D14 P"],
  [6, 4, 5, "P Q D0 D1 D2 | P Q D3 D4 D5"],
  [6, 5, 5, "D0 D1 D2 P Q | D3 D4 D5 P Q"],
  [6, 8, 5, "P Q D0 D1 D2 | D3 P Q D4 D5 | D6 D7 P Q D8 | D9 D10 D11 P Q | Q D12 D13 D14 P"],
  [6, 9, 5, "D0 D1 D2 P Q | D3 D4 P Q D5 | D6 P Q D7 D8 | P Q D9 D10 D11 | Q D12 D13 D14 P"],
  [6, 10, 5, "D0 D1 D2 Q P | D4 D5 Q P D3 | D8 Q P D6 D7 | Q P D9 D10 D11 | P D12 D13 D14 Q"],
];

describe("stripes lie as md lays them", () => {
  it.each(TABLES)("level %i, layout %i on %i slots: %s", (level, layout, slots, stripes) => {
    const geometry = parityGeometry(shapeOf(level, layout, slots));
    const expected = stripes.split(" | ");
    expect(expected.map((_, stripe) => line(geometry, stripe))).toEqual(expected);
  });

  it("parity moves on from stripe to stripe, and is back where it was after n", () => {
    const geometry = parityGeometry(shapeOf(5, 2, 4));
    const slots = [0, 1, 2, 3, 4, 5].map((stripe) => geometry.stripe(stripe).p);
    expect(slots).toEqual([3, 2, 1, 0, 3, 2]);
    expect(geometry.stripe(1_000_001)).toBe(geometry.stripe(1));
  });
});

/** raid5.c, raid6_idx_to_slot: the order in which a stripe's slots are weighed, P and Q left out. */
const WEIGHTS: readonly [layout: number, stripe: number, exponentBySlot: string][] = [
  // Behind Q, round and round, without P.
  [0, 0, "Q 0 1 2 P"],
  [0, 2, "1 2 P Q 0"],
  [0, 3, "2 P Q 0 1"],
  [1, 0, "P Q 0 1 2"],
  [1, 2, "1 2 P Q 0"],
  [2, 0, "Q 0 1 2 P"],
  [2, 2, "1 2 P Q 0"],
  [3, 1, "2 P Q 0 1"],
  [4, 0, "P Q 0 1 2"],
  [5, 0, "0 1 2 P Q"],
  // DDF: the number of the slot.
  [8, 0, "P Q 2 3 4"],
  [8, 2, "0 1 P Q 4"],
  [9, 1, "0 1 P Q 4"],
  [10, 1, "0 1 Q P 4"],
];

test.each(WEIGHTS)("Q weighs the slots of layout %i, stripe %i, by %s", (layout, stripe, slots) => {
  const { data, exponents, p, q } = parityGeometry(shapeOf(6, layout, 5)).stripe(stripe);
  const held = new Array<string>(5);
  for (const [index, slot] of data.entries()) held[slot] = String(exponents[index]);
  held[p] = "P";
  held[q] = "Q";
  expect(held.join(" ")).toBe(slots);
});

const LAYOUTS: readonly { readonly level: number; readonly layout: number }[] = [
  { level: 4, layout: 0 },
  ...[0, 1, 2, 3, 4, 5].map((layout) => ({ level: 5, layout })),
  ...[0, 1, 2, 3, 4, 5, 8, 9, 10].map((layout) => ({ level: 6, layout })),
];
const anyShape = fc
  .constantFrom(...LAYOUTS)
  .chain(({ level, layout }) =>
    fc.record({
      level: fc.constant(level),
      layout: fc.constant(layout),
      raidDisks: fc.integer({ min: level === 6 ? 4 : 2, max: 40 }),
      chunks: fc.integer({ min: 1, max: 100 }),
      extra: fc.integer({ min: 0, max: CHUNK - 1 }),
    }),
  )
  .map(({ level, layout, raidDisks, chunks, extra }) =>
    shapeOf(level, layout, raidDisks, { componentBytes: chunks * CHUNK + extra }),
  );

describe("every layout of every width", () => {
  it("gives each slot one thing to hold in each stripe", () => {
    holds(
      fc.property(anyShape, fc.nat({ max: 2 ** 40 }), (shape, stripe) => {
        const { data, p, q } = parityGeometry(shape).stripe(stripe);
        const slots = [...data, p, ...(shape.level === 6 ? [q] : [])].sort((a, b) => a - b);
        expect(slots).toEqual([...new Array(shape.raidDisks).keys()]);
        if (shape.level !== 6) expect(q).toBe(-1);
      }),
    );
  });

  it("weighs no two data chunks alike", () => {
    holds(
      fc.property(anyShape, fc.nat({ max: 2 ** 40 }), (shape, stripe) => {
        const { exponents } = parityGeometry(shape).stripe(stripe);
        expect(new Set(exponents).size).toBe(exponents.length);
        expect(Math.max(...exponents)).toBeLessThan(shape.raidDisks);
      }),
    );
  });

  it("has the size of its data chunks, the component rounded down to a chunk", () => {
    holds(
      fc.property(anyShape, (shape) => {
        const geometry = parityGeometry(shape);
        const chunks = Math.floor(shape.componentBytes / CHUNK);
        expect(geometry.trackedBytes).toBe(chunks * CHUNK);
        expect(geometry.sizeBytes).toBe(chunks * CHUNK * geometry.dataDisks);
        expect(geometry.stripeBytes).toBe(geometry.dataDisks * CHUNK);
        expect(geometry.dataDisks + geometry.parityDisks).toBe(shape.raidDisks);
      }),
    );
  });

  it("tracks every column that a write may change, and whole stripes at most", () => {
    const cases = anyShape.chain((shape) => {
      const { sizeBytes } = parityGeometry(shape);
      const byte = fc.nat({ max: sizeBytes - 1 });
      return fc.tuple(fc.constant(shape), byte, byte);
    });
    holds(
      fc.property(cases, ([shape, one, other]) => {
        const geometry = parityGeometry(shape);
        const [first, last] = [Math.min(one, other), Math.max(one, other)];
        const start = geometry.trackedStart(first, last - first + 1);
        const end = geometry.trackedEnd(first, last - first + 1);
        const columnOf = (byte: number): number =>
          Math.floor(Math.floor(byte / CHUNK) / geometry.dataDisks) * CHUNK + (byte % CHUNK);
        if (Math.floor(first / CHUNK) === Math.floor(last / CHUNK)) {
          expect([start, end]).toEqual([columnOf(first), columnOf(last) + 1]);
        } else {
          const stripeStart = (byte: number): number => columnOf(byte) - (byte % CHUNK);
          expect([start, end]).toEqual([stripeStart(first), stripeStart(last) + CHUNK]);
        }
        expect(end).toBeLessThanOrEqual(geometry.trackedBytes);
      }),
    );
  });

  it("is done where its members are", () => {
    holds(
      fc.property(anyShape, fc.nat({ max: 101 * CHUNK }), (shape, bytes) => {
        const geometry = parityGeometry(shape);
        expect(geometry.memberDone(bytes)).toBe(Math.min(bytes, geometry.trackedBytes));
        expect(geometry.trackedDone(bytes)).toBe(Math.min(bytes, geometry.trackedBytes));
      }),
    );
  });
});

test.each([
  [4, 1],
  [5, 1],
  [6, 2],
])("level %i survives without any %i of its members, and no more", (level, lost) => {
  const geometry = parityGeometry(shapeOf(level, 2, 6));
  for (const there of allSets(6))
    expect(geometry.survives((slot) => there.has(slot))).toBe(there.size >= 6 - lost);
});

test("a write within a chunk tracks its own column only, one that leaves it the stripes", () => {
  const geometry = parityGeometry(shapeOf(5, 2, 4));
  const tracked = (offset: number, length: number): number[] => [
    geometry.trackedStart(offset, length),
    geometry.trackedEnd(offset, length),
  ];
  expect(tracked(CHUNK + 512, 1024)).toEqual([512, 1536]);
  expect(tracked(3 * CHUNK + 512, CHUNK - 512)).toEqual([CHUNK + 512, 2 * CHUNK]);
  expect(tracked(CHUNK + 512, CHUNK)).toEqual([0, CHUNK]);
  expect(tracked(2 * CHUNK, 2 * CHUNK)).toEqual([0, 2 * CHUNK]);
  expect(tracked(3 * CHUNK, 3 * CHUNK)).toEqual([CHUNK, 2 * CHUNK]);
});
