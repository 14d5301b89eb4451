/** Levels 0 and linear: what a range of the array has on each member lies there in one piece. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ArrayShape } from "../../../src/raid/geometry/geometry.ts";
import { linearGeometry } from "../../../src/raid/geometry/linear.ts";
import { raid0Geometry } from "../../../src/raid/geometry/raid0.ts";
import { holds } from "../../metadata/properties.ts";

const SECTOR = 512;

const shapes: fc.Arbitrary<ArrayShape> = fc
  .record({
    level: fc.constantFrom(0, -1),
    layout: fc.constantFrom(1, 2),
    chunkSectors: fc.integer({ min: 1, max: 3 }),
    chunks: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 }),
  })
  .map(({ level, layout, chunkSectors, chunks }) => {
    const chunkBytes = chunkSectors * SECTOR;
    const dataBytes = chunks.map((count) => count * chunkBytes);
    return { level, layout, chunkBytes, raidDisks: chunks.length, componentBytes: 0, dataBytes };
  });

describe("bytes of a slot before an offset of the array", () => {
  test("are those that a walk through the array finds there", () => {
    holds(
      fc.property(shapes, fc.nat(SECTOR - 1), (shape, within) => {
        const geometry = shape.level === 0 ? raid0Geometry(shape) : linearGeometry(shape);
        const before = new Array<number>(shape.raidDisks).fill(0);
        for (let at = 0; at <= geometry.sizeBytes; at += SECTOR) {
          for (const slot of before.keys()) {
            expect(geometry.bytesBefore(slot, at)).toBe(before[slot]);
          }
          if (at === geometry.sizeBytes) break;
          const { slot, offset } = geometry.locate(at);
          // Each sector comes right behind the slot's last one: there are no gaps.
          expect(offset).toBe(before[slot]);
          expect(geometry.bytesBefore(slot, at + within)).toBe(offset + within);
          before[slot]! += SECTOR;
        }
        // md leaves out the end where chunks are no power of two (raid0_size).
        const whole = shape.level !== 0 || shape.chunkBytes !== 3 * SECTOR;
        if (whole) expect(before).toEqual(shape.dataBytes);
        else expect(before.reduce((sum, bytes) => sum + bytes)).toBe(geometry.sizeBytes);
      }),
    );
  });
});
