import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gathered, nextBuffers, totalLength } from "../../src/member/vectors.ts";
import { holds } from "../metadata/properties.ts";

/** Buffers of 1, 2, 3... one after the other, of these lengths. */
function numbered(lengths: readonly number[]): Buffer[] {
  let next = 1;
  return lengths.map((length) => Buffer.from(Array.from({ length }, () => next++)));
}

describe("what is left of buffers after some bytes", () => {
  it("starts in the middle of the buffer that the last call ended in", () => {
    const buffers = numbered([2, 0, 3, 1]);
    expect(nextBuffers(buffers, 0)).toBe(buffers);
    expect(nextBuffers(buffers, 3).map((buffer) => [...buffer])).toEqual([[4, 5], [6]]);
    expect(nextBuffers(buffers, 5).map((buffer) => [...buffer])).toEqual([[6]]);
    expect(nextBuffers(buffers, 6)).toEqual([]);
  });

  it("is the bytes that come behind, as many as one call takes", () => {
    holds(
      fc.property(fc.array(fc.nat(5), { maxLength: 40 }), fc.nat(100), (lengths, skip) => {
        const buffers = numbered(lengths);
        const left = Buffer.concat(nextBuffers(buffers, skip));
        expect(left.equals(Buffer.concat(buffers).subarray(skip))).toBe(true);
        expect(totalLength(buffers)).toBe(Buffer.concat(buffers).length);
        expect(gathered(buffers)).toEqual(Buffer.concat(buffers));
      }),
    );
    const many = Array.from({ length: 2500 }, () => Buffer.alloc(3, 1));
    expect(nextBuffers(many, 0)).toHaveLength(1024);
    expect(totalLength(nextBuffers(many, 4))).toBe(1024 * 3 - 1);
    expect(nextBuffers(many, 2000 * 3)).toHaveLength(500);
  });
});
