/** Levels 0 and linear: every byte of the array lies in one place, and every member is needed. */
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import type { ArrayShape } from "../../../src/raid/geometry/geometry.ts";
import { linearGeometry } from "../../../src/raid/geometry/linear.ts";
import { raid0Geometry } from "../../../src/raid/geometry/raid0.ts";
import { holds } from "../../metadata/properties.ts";
import { allSets, CHUNK, MIB, shapeOf } from "./shapes.ts";

const ORIGINAL = 1;
const ALTERNATE = 2;

const geometryOf = (shape: ArrayShape) =>
  shape.level === 0 ? raid0Geometry(shape) : linearGeometry(shape);

/** Level 0 on members of so many chunks each. */
function raid0(layout: number, chunks: readonly number[]): ArrayShape {
  return shapeOf(0, layout, chunks.length, { dataBytes: chunks.map((count) => count * CHUNK) });
}

/** The array's chunks as slot.row. */
function places(shape: ArrayShape): string {
  const geometry = raid0Geometry(shape);
  const found: string[] = [];
  for (let at = 0; at < geometry.sizeBytes; at += CHUNK) {
    const { slot, offset } = geometry.locate(at);
    found.push(`${slot}.${offset / CHUNK}`);
  }
  return found.join(" ");
}

describe("level 0", () => {
  it("takes members in turn", () => {
    expect(places(raid0(ORIGINAL, [2, 2, 2]))).toBe("0.0 1.0 2.0 0.1 1.1 2.1");
  });

  it("goes on over the larger members: by absolute chunk number in the original layout", () => {
    // A zone of one row of three chunks, then one over slots 0 and 2 that starts at chunk 3.
    expect(places(raid0(ORIGINAL, [3, 1, 3]))).toBe("0.0 1.0 2.0 2.1 0.1 2.2 0.2");
  });

  it("goes on over the larger members: from the first of them in the alternate layout", () => {
    expect(places(raid0(ALTERNATE, [3, 1, 3]))).toBe("0.0 1.0 2.0 0.1 2.1 0.2 2.2");
  });

  it("ends on the largest member alone, where it is contiguous to the end", () => {
    const shape = raid0(ORIGINAL, [1, 2, 5]);
    expect(places(shape)).toBe("0.0 1.0 2.0 2.1 1.1 2.2 2.3 2.4");
    const extent = { slot: 2, offset: 2 * CHUNK + 7, length: 3 * CHUNK - 7 };
    expect(raid0Geometry(shape).locate(5 * CHUNK + 7)).toEqual(extent);
  });

  it("uses whole chunks of each member, and chunks need be no power of two", () => {
    const chunkBytes = 3 * 4096;
    const shape = shapeOf(0, ORIGINAL, 2, { chunkBytes, dataBytes: [100_000, 50_000] });
    const geometry = raid0Geometry(shape);
    expect(geometry.stripeBytes).toBe(2 * chunkBytes);
    expect(geometry.locate(chunkBytes + 5)).toEqual({ slot: 1, offset: 5, length: chunkBytes - 5 });
  });

  it("is as large as md makes it, which masks bits off chunks that are no power of two", () => {
    // A kernel said so of members of 3, 2 and 3 MiB.
    const dataBytes = [3 * MIB, 2 * MIB, 3 * MIB];
    const geometry = raid0Geometry(shapeOf(0, ORIGINAL, 3, { chunkBytes: 12288, dataBytes }));
    expect(geometry.sizeBytes).toBe(8372224);
    const last = geometry.locate(geometry.sizeBytes - 512);
    expect(last.length).toBe(512);
  });

  it("with one member is that member", () => {
    const extent = { slot: 0, offset: CHUNK + 1, length: 6 * CHUNK - 1 };
    expect(raid0Geometry(raid0(ORIGINAL, [7])).locate(CHUNK + 1)).toEqual(extent);
  });
});

describe("level linear", () => {
  it("has members one behind the other", () => {
    const dataBytes = [1000 * 512, 3 * 512, 2000 * 512];
    const geometry = linearGeometry(shapeOf(-1, 0, 3, { chunkBytes: 0, dataBytes }));
    expect(geometry.sizeBytes).toBe(3003 * 512);
    expect(geometry.stripeBytes).toBe(0);
    expect(geometry.locate(0)).toEqual({ slot: 0, offset: 0, length: 1000 * 512 });
    const last = 1000 * 512 - 1;
    expect(geometry.locate(last)).toEqual({ slot: 0, offset: last, length: 1 });
    expect(geometry.locate(last + 1)).toEqual({ slot: 1, offset: 0, length: 3 * 512 });
    const third = { slot: 2, offset: 9, length: 2000 * 512 - 9 };
    expect(geometry.locate(1003 * 512 + 9)).toEqual(third);
  });

  it("rounds members down to a chunk if it has one", () => {
    const shape = shapeOf(-1, 0, 2, { chunkBytes: 65536, dataBytes: [MIB + 4096, 2 * MIB - 512] });
    expect(linearGeometry(shape).sizeBytes).toBe(MIB + 2 * MIB - 65536);
  });
});

const anyShape: fc.Arbitrary<ArrayShape> = fc
  .record({
    level: fc.constantFrom(0, -1),
    layout: fc.constantFrom(ORIGINAL, ALTERNATE),
    chunkBytes: fc.constantFrom(4096, 8192, 12288, 512),
    sizes: fc.array(fc.integer({ min: 12288 / 512, max: 200 }), { minLength: 1, maxLength: 7 }),
  })
  .map(({ level, layout, chunkBytes, sizes }) => {
    const dataBytes = sizes.map((sectors) => sectors * 512);
    return shapeOf(level, level === 0 ? layout : 0, sizes.length, { chunkBytes, dataBytes });
  });

describe("without redundancy", () => {
  it("extents cover each member's whole chunks once, and go on as far as they say", () => {
    holds(
      fc.property(anyShape, (shape) => {
        const geometry = geometryOf(shape);
        const taken = new Set<string>();
        for (let at = 0; at < geometry.sizeBytes;) {
          const { slot, offset, length } = geometry.locate(at);
          for (let byte = 0; byte < length; byte += 512) taken.add(`${slot} ${offset + byte}`);
          const last = { slot, offset: offset + length - 1, length: 1 };
          expect(geometry.locate(at + length - 1)).toEqual(last);
          expect(offset + length).toBeLessThanOrEqual(shape.dataBytes[slot]!);
          at += length;
        }
        expect(taken.size * 512).toBe(geometry.sizeBytes);
        const mask = shape.level === 0 ? shape.chunkBytes / 512 - 1 : 0;
        const whole = shape.dataBytes.map(
          (bytes) => (((bytes - (bytes % shape.chunkBytes)) / 512) & ~mask) * 512,
        );
        expect(geometry.sizeBytes).toBe(whole.reduce((sum, bytes) => sum + bytes));
      }),
    );
  });

  test.each([0, -1])("all members of level %i are needed, and no sync gets anywhere", (level) => {
    const geometry = geometryOf(shapeOf(level, level === 0 ? ORIGINAL : 0, 3));
    expect(geometry.redundant).toBe(false);
    for (const there of allSets(3))
      expect(geometry.survives((slot) => there.has(slot))).toBe(there.size === 3);
    expect(geometry.memberDone(geometry.sizeBytes)).toBe(0);
    expect(geometry.trackedDone(geometry.sizeBytes)).toBe(0);
    expect(geometry.trackedBytes).toBe(geometry.sizeBytes);
  });

  test("ranges are tracked as they are", () => {
    const geometry = geometryOf(shapeOf(0, ORIGINAL, 3));
    expect([geometry.trackedStart(5, 10), geometry.trackedEnd(5, 10)]).toEqual([5, 15]);
  });
});
