import { describe, expect, test } from "vitest";
import { inverse, multiply, power, solveTwo } from "../../src/parity/field.ts";
import { multiplyBits, powerOfTwo } from "./slow.ts";

/** The tables of GF(2^8) against multiplication bit by bit, for every element. */
const ELEMENTS = Array.from({ length: 256 }, (_, value) => value);

describe("the field of RAID-6", () => {
  test("multiplies any two elements as their polynomials multiply", () => {
    for (const a of ELEMENTS) {
      expect(ELEMENTS.map((b) => multiply(a, b))).toEqual(ELEMENTS.map((b) => multiplyBits(a, b)));
    }
  });

  test("has the powers of two, which repeat after 255", () => {
    const powers = ELEMENTS.map((exponent) => power(exponent));
    expect(powers).toEqual(ELEMENTS.map((exponent) => powerOfTwo(exponent)));
    expect(new Set(powers).size).toBe(255);
    expect(power(-1)).toBe(power(254));
  });

  test("has an inverse for every element but zero", () => {
    for (const a of ELEMENTS.slice(1)) expect(multiplyBits(a, inverse(a)), `${a}`).toBe(1);
    expect(() => inverse(0)).toThrow(RangeError);
  });

  test("solves for two lost blocks, whichever two", () => {
    for (let ex = 0; ex < 255; ex += 7) {
      for (let ey = 0; ey < 255; ey++) {
        if (ex === ey) continue;
        const [x, y] = [0x53, 0xca];
        const dq = multiplyBits(x, powerOfTwo(ex)) ^ multiplyBits(y, powerOfTwo(ey));
        const { ofP, ofQ } = solveTwo(ex, ey);
        expect(multiplyBits(x ^ y, ofP) ^ multiplyBits(dq, ofQ), `${ex}, ${ey}`).toBe(x);
      }
    }
  });
});
