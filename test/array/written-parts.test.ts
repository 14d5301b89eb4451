/** What a trim finds to do, on every kind of level, against a look at each sector. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { writtenParts } from "../../src/array/written-parts.ts";
import { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import type { ArrayShape } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { shapeOf } from "../raid/geometry/shapes.ts";

const CHUNK = 4096;
const SECTOR = 512;
const GIB = 2 ** 30;
const MIB = 2 ** 20;

const SHAPES: [what: string, shape: ArrayShape][] = [
  ["level 1", shapeOf(1, 0, 3, { chunkBytes: 0, componentBytes: 12 * CHUNK })],
  ["level 0", shapeOf(0, 2, 3)],
  ["level 10, near", shapeOf(10, 0x102, 4)],
  ["level 5", shapeOf(5, 2, 4)],
  ["level 6", shapeOf(6, 2, 5)],
];

describe.each(SHAPES)("a trim of a range on %s", (_, shape) => {
  it("passes over what is Unwritten as a whole, and over nothing else", () => {
    const geometry = geometryOf(shape);
    const { sizeBytes } = geometry;
    const states = fc.array(fc.constantFrom(0, 0, 0, 1, 2, 3), { minLength: 1, maxLength: 30 });
    const regionBytes = fc.constantFrom(1024, 2048, 4096, 16_384);
    fc.assert(
      fc.property(
        states,
        regionBytes,
        fc.nat(999),
        fc.nat(999),
        (states, regionBytes, from, to) => {
          const regions = Regions.create(geometry.trackedBytes, regionBytes);
          for (let i = 0; i < regions.count; i++) {
            regions.force(i, states[i % states.length] as State);
          }
          const offset = Math.floor((sizeBytes * from) / 1000);
          const length = 1 + Math.floor(((sizeBytes - offset - 1) * to) / 1000);
          const parts = [...writtenParts(regions, geometry, offset, length)].filter(
            (p) => p !== null,
          );
          let before = offset;
          let covered = 0;
          for (const [start, end] of parts) {
            expect(start).toBeGreaterThanOrEqual(before);
            expect(end).toBeGreaterThan(start);
            before = end;
            covered += end - start;
          }
          expect(before).toBeLessThanOrEqual(offset + length);
          const isIn = (at: number): boolean =>
            parts.some(([start, end]) => start <= at && at < end);
          let unwritten = 0;
          for (let at = offset; at < offset + length; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
            const region = regions.at(geometry.trackedStart(at, 1));
            if (regions.state(region) === State.Unwritten) unwritten++;
            else expect(isIn(at)).toBe(true);
          }
          if (regions.everyUnwritten(0, regions.count - 1)) expect(covered).toBe(0);
          if (geometry.kind !== "parity") {
            expect(Math.abs(length - covered - unwritten * SECTOR)).toBeLessThan(2 * SECTOR);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("a trim of an array of a hundred thousand regions", () => {
  const geometry = geometryOf(shapeOf(1, 0, 2, { chunkBytes: 0, componentBytes: 200 * GIB }));
  const regions = Regions.create(geometry.trackedBytes, 2 * MIB);

  it("finds in a few steps that nothing was written, or all of it", () => {
    const parts = () => [...writtenParts(regions, geometry, 0, geometry.sizeBytes)];
    expect(parts().filter((part) => part !== null)).toEqual([]);
    expect(parts().length).toBeLessThan(3);
    for (let i = 0; i < regions.count; i++) regions.force(i, State.Clean);
    expect(parts().filter((part) => part !== null)).toEqual([[0, geometry.sizeBytes]]);
    expect(parts().length).toBeLessThan(4);
  });

  it("lets others have their turn between parts that differ", () => {
    for (let i = 0; i < regions.count; i++) regions.force(i, i % 4 < 2 ? State.Clean : State.Dirty);
    regions.force(regions.count - 1, State.Unwritten);
    for (let i = 0; i < regions.count; i += 2) regions.force(i, State.Unwritten);
    const parts = [...writtenParts(regions, geometry, 0, geometry.sizeBytes)];
    const longest = parts
      .map((part) => (part === null ? "|" : "x"))
      .join("")
      .split("|")
      .reduce((most, run) => Math.max(most, run.length), 0);
    expect(longest).toBeLessThan(1100);
    expect(parts.filter((part) => part !== null)).toHaveLength(regions.count / 2 - 1);
  });
});
