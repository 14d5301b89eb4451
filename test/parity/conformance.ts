import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Kernels } from "../../src/parity/kernels.ts";
import { holds } from "../metadata/properties.ts";
import { Blocks, copyOf, expectSame, exponentsFor, layouts } from "./blocks.ts";
import { weightedSum } from "./slow.ts";

const BLOCKS = [1, 2, 3, 4, 5, 6, 7, 8] as const;

/** A number of data blocks, and an exponent for each. */
const stripes = fc.constantFrom(...BLOCKS).chain(exponentsFor);
const zeroes = (count: number): number[] => Array.from({ length: count }, () => 0);
const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));

/** What every implementation of the kernels does, on blocks of any length at any alignment. */
export function kernelsConform(name: string, kernels: Kernels): void {
  const blocks = new Blocks(kernels);

  describe(`${name}: sums`, () => {
    test.each([
      ["01 02 03", "00", "09"],
      ["ff 80 01 7f", "01", "39"],
    ])("of the bytes %s are P %s and Q %s", (data, p, q) => {
      const columns = data.split(" ").map(bytes);
      const [intoP, intoQ] = [new Uint8Array(1), new Uint8Array(1)];
      kernels.pq(
        intoP,
        intoQ,
        columns,
        columns.map((_, index) => index),
      );
      expect([intoP, intoQ]).toEqual([bytes(p), bytes(q)]);
    });

    test("xor is the sum of its sources, and reads nothing else", () => {
      holds(
        fc.property(layouts, fc.constantFrom(...BLOCKS), (layout, count) => {
          blocks.lay(layout);
          const [into, ...sources] = [blocks.next(), ...blocks.many(count)];
          const before = sources.map(copyOf);
          kernels.xor(into, sources);
          expectSame(into, weightedSum(layout.length, before, zeroes(count)), "xor");
          sources.forEach((source, index) => expectSame(source, before[index]!, "a source"));
          blocks.checkMargins();
        }),
      );
    });

    test("xorInto adds the sum of its sources", () => {
      holds(
        fc.property(layouts, fc.constantFrom(...BLOCKS), (layout, count) => {
          blocks.lay(layout);
          const all = blocks.many(count + 1);
          const expected = weightedSum(layout.length, all, zeroes(count + 1));
          kernels.xorInto(all[0]!, all.slice(1));
          expectSame(all[0]!, expected, "xorInto");
          blocks.checkMargins();
        }),
      );
    });

    test("xor and xorInto take more sources than any array of RAID-6 has disks", () => {
      const sources = Array.from({ length: 600 }, (_, index) => new Uint8Array(70).fill(index));
      const expected = weightedSum(70, sources, zeroes(600));
      const into = new Uint8Array(70);
      kernels.xor(into, sources);
      expectSame(into, expected, "xor");
      kernels.xorInto(into, [...sources, expected]);
      expectSame(into, expected, "xorInto");
    });

    test("pq is P and Q of the data, whatever the exponents", () => {
      holds(
        fc.property(layouts, stripes, (layout, exponents) => {
          blocks.lay(layout);
          const [p, q, ...data] = [blocks.next(), blocks.next(), ...blocks.many(exponents.length)];
          const before = data.map(copyOf);
          kernels.pq(p, q, data, exponents);
          expectSame(p, weightedSum(layout.length, before, zeroes(data.length)), "P");
          expectSame(q, weightedSum(layout.length, before, exponents), "Q");
          data.forEach((block, index) => expectSame(block, before[index]!, "a data block"));
          blocks.checkMargins();
        }),
      );
    });

    test("of zeroes are zeroes", () => {
      holds(
        fc.property(layouts, stripes, (layout, exponents) => {
          blocks.lay(layout);
          const [p, q, ...data] = [blocks.next(), blocks.next(), ...blocks.many(exponents.length)];
          for (const block of data) block.fill(0);
          kernels.pq(p, q, data, exponents);
          expect([p.some((byte) => byte !== 0), q.some((byte) => byte !== 0)]).toEqual([
            false,
            false,
          ]);
        }),
      );
    });

    test("multiplyInto adds the product with a power of two", () => {
      holds(
        fc.property(layouts, fc.nat(254), (layout, exponent) => {
          blocks.lay(layout);
          const [q, source] = [blocks.next(), blocks.next()];
          const expected = weightedSum(layout.length, [q, source], [0, exponent]);
          kernels.multiplyInto(q, source, exponent);
          expectSame(q, expected, "multiplyInto");
          blocks.checkMargins();
        }),
      );
    });

    test("are what they would be had the stripe been written whole, after a block is changed", () => {
      holds(
        fc.property(layouts, stripes, fc.nat(7), (layout, exponents, which) => {
          blocks.lay(layout);
          const [p, q, wholeP, wholeQ, delta, ...data] = [
            ...[blocks.next(), blocks.next(), blocks.next(), blocks.next(), blocks.next()],
            ...blocks.many(exponents.length),
          ] as const;
          const index = which % data.length;
          kernels.pq(p, q, data, exponents);
          kernels.xorInto(data[index]!, [delta]);
          kernels.xorInto(p, [delta]);
          kernels.multiplyInto(q, delta, exponents[index]!);
          kernels.pq(wholeP, wholeQ, data, exponents);
          expectSame(p, wholeP, "P");
          expectSame(q, wholeQ, "Q");
        }),
      );
    });
  });

  describe(`${name}: recover`, () => {
    test("brings back any two of up to eight disks", () => {
      for (let dataDisks = 1; dataDisks <= 6; dataDisks++) {
        for (const length of [1, 200, 8192 + 77]) recoverEveryPair(dataDisks, length);
      }
    });

    /** Disks are the data blocks, then P, then Q. What parity is lost too is not passed. */
    function recoverEveryPair(dataDisks: number, length: number): void {
      const exponents = Array.from({ length: dataDisks }, (_, index) => 2 * index + 1);
      for (let one = 0; one < dataDisks; one++) {
        for (let other = one; other < dataDisks + 2; other++) {
          const missing = one === other || other >= dataDisks ? [one] : [one, other];
          checkRecovery(length, exponents, missing, other !== dataDisks, other !== dataDisks + 1);
        }
      }
    }

    function checkRecovery(
      length: number,
      exponents: readonly number[],
      missing: readonly number[],
      hasP: boolean,
      hasQ: boolean,
    ): void {
      const data = exponents.map((exponent, index) =>
        Uint8Array.from({ length }, (_, at) => (at * (index + 3)) ^ (at >> 5) ^ exponent),
      );
      const [p, q] = [new Uint8Array(length), new Uint8Array(length)];
      kernels.pq(p, q, data, exponents);
      const lost = data.map((block, index) =>
        missing.includes(index) ? new Uint8Array(length).fill(0x5a) : copyOf(block),
      );
      kernels.recover(lost, missing, hasP ? p : null, hasQ ? q : null, exponents);
      const what = `${missing.join(" and ")} of ${data.length}, P ${hasP}, Q ${hasQ}`;
      data.forEach((block, index) => expectSame(lost[index]!, block, what));
      const [againP, againQ] = [new Uint8Array(length), new Uint8Array(length)];
      kernels.pq(againP, againQ, lost, exponents);
      expectSame(againP, p, `P after ${what}`);
      expectSame(againQ, q, `Q after ${what}`);
    }

    test("takes blocks of any length, alignment and exponents, named in any order", () => {
      const ways = fc.constantFrom("P", "Q", "both", "either");
      holds(
        fc.property(layouts, stripes, ways, fc.nat(), fc.nat(), (layout, exponents, way, a, b) => {
          blocks.lay(layout);
          const [p, q, ...data] = [blocks.next(), blocks.next(), ...blocks.many(exponents.length)];
          kernels.pq(p, q, data, exponents);
          const before = [p, q, ...data].map(copyOf);
          const [one, other] = [a % data.length, b % data.length];
          const missing = way === "both" && one !== other ? [one, other] : [one];
          for (const index of missing) data[index]!.fill(0x5a);
          const [withP, withQ] = [way === "Q" ? null : p, way === "P" ? null : q];
          kernels.recover(data, missing, withP, withQ, exponents);
          [p, q, ...data].forEach((block, index) => expectSame(block, before[index]!, way));
          blocks.checkMargins();
        }),
      );
    });
  });

  describe(`${name}: arguments`, () => {
    const [a, b, c] = [new Uint8Array(8), new Uint8Array(8), new Uint8Array(8)];
    const short = new Uint8Array(7);
    test.each<[string, () => void]>([
      ["no source", () => kernels.xor(a, [])],
      ["a source that is shorter", () => kernels.xor(a, [b, short])],
      ["a target that is shorter", () => kernels.xorInto(short, [b])],
      ["a Q that is shorter", () => kernels.pq(a, short, [b], [0])],
      ["too few exponents", () => kernels.pq(a, b, [c, c], [0])],
      ["an exponent of 255", () => kernels.pq(a, b, [c], [255])],
      ["a negative exponent", () => kernels.multiplyInto(a, b, -1)],
      ["the same exponent twice", () => kernels.pq(a, b, [c, c], [3, 3])],
      ["a lost block that does not exist", () => kernels.recover([a], [1], b, c, [0])],
      ["the same lost block twice", () => kernels.recover([a, a], [0, 0], b, c, [0, 1])],
      ["two lost blocks and one parity", () => kernels.recover([a, a], [0, 1], b, null, [0, 1])],
      ["three lost blocks", () => kernels.recover([a, a, a], [0, 1, 2], b, c, [0, 1, 2])],
      ["a P that is shorter", () => kernels.recover([a, a], [0, 1], short, c, [0, 1])],
    ])("refuses %s", (_, call) => {
      expect(call).toThrow(/^invariant broken: /);
    });
  });

  describe(`${name}: allocate`, () => {
    test("hands out zeroed buffers that do not overlap, also when its memory is used up", () => {
      const MIB = 1 << 20;
      const buffers = Array.from({ length: 40 }, () => kernels.allocate(MIB));
      const fills = (value: (index: number) => number): boolean =>
        buffers.every((buffer, index) => Buffer.alloc(MIB, value(index)).equals(buffer));
      expect(fills(() => 0)).toBe(true);
      buffers.forEach((buffer, index) => buffer.fill(index));
      expect(fills((index) => index)).toBe(true);
    });
  });
}
