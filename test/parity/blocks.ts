import fc from "fast-check";
import { expect } from "vitest";
import type { Kernels } from "../../src/parity/kernels.ts";

/** Bytes on both sides of a block that no kernel may touch. */
const MARGIN = 24;
const MARK = 0xa5;
const LENGTH_MAX = 20_000;
const BLOCKS_MAX = 16;

/** How a test's blocks lie in memory; the n-th block takes the n-th of each list. */
export interface Layout {
  readonly length: number;
  /** Bytes from an aligned address to the block. */
  readonly misalignments: readonly number[];
  /** Whether the block comes from `allocate`. */
  readonly allocated: readonly boolean[];
  /** Of the bytes in it. */
  readonly seed: number;
}

/** The same for every block. */
const forEvery = <T>(value: T): T[] => Array.from({ length: BLOCKS_MAX }, () => value);

const each = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.array(arbitrary, { minLength: BLOCKS_MAX, maxLength: BLOCKS_MAX });

/** Short and long, aligned and not, where kernels like it and elsewhere. */
export const layouts: fc.Arbitrary<Layout> = fc.record({
  length: fc.oneof(fc.nat(200), fc.nat(LENGTH_MAX), fc.constantFrom(512, 4096, 8192, 8256, 16_384)),
  misalignments: fc.oneof(fc.constant(forEvery(0)), each(fc.nat(15))),
  allocated: fc.oneof(
    fc.constant(forEvery(false)),
    fc.constant(forEvery(true)),
    each(fc.boolean()),
  ),
  seed: fc.integer({ min: 1, max: 0x7fffffff }),
});

/** `count` different exponents: those of most layouts, or any. */
export const exponentsFor = (count: number): fc.Arbitrary<number[]> =>
  fc.oneof(
    fc.constant(Array.from({ length: count }, (_, index) => index)),
    fc.uniqueArray(fc.nat(count + 1), { minLength: count, maxLength: count }),
    fc.uniqueArray(fc.nat(254), { minLength: count, maxLength: count }),
  );

/** Hands out the blocks of one test after the other, in memory that is used again and again. */
export class Blocks {
  readonly #ordinary: readonly Uint8Array[];
  readonly #allocated: readonly Uint8Array[];
  #layout: Layout = { length: 0, misalignments: forEvery(0), allocated: forEvery(false), seed: 1 };
  #used: { whole: Uint8Array; start: number }[] = [];
  #random = 1;

  constructor(kernels: Kernels) {
    const bytes = LENGTH_MAX + 2 * MARGIN;
    const places = forEvery(bytes);
    this.#ordinary = places.map((length) => new Uint8Array(length));
    this.#allocated = places.map((length) => kernels.allocate(length));
  }

  lay(layout: Layout): void {
    this.#layout = layout;
    this.#used = [];
    this.#random = layout.seed;
  }

  /** A block of random bytes. */
  next(): Uint8Array {
    const index = this.#used.length;
    const { length, misalignments, allocated } = this.#layout;
    const whole = (allocated[index]! ? this.#allocated : this.#ordinary)[index]!;
    const start = MARGIN - 8 + misalignments[index]!;
    this.#used.push({ whole: whole.fill(MARK), start });
    const block = whole.subarray(start, start + length);
    for (let i = 0; i < length; i++) {
      // Marsaglia's xorshift32.
      this.#random ^= this.#random << 13;
      this.#random ^= this.#random >>> 17;
      this.#random ^= this.#random << 5;
      block[i] = this.#random >>> 11;
    }
    return block;
  }

  many(count: number): Uint8Array[] {
    return Array.from({ length: count }, () => this.next());
  }

  /** Fails if a byte beside a block was written. */
  checkMargins(): void {
    for (const { whole, start } of this.#used) {
      const end = start + this.#layout.length;
      const margins = [...whole.subarray(0, start), ...whole.subarray(end, end + MARGIN / 2)];
      expect(margins.filter((byte) => byte !== MARK)).toEqual([]);
    }
  }
}

/** Like toEqual, quick, and short when it fails. */
export function expectSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (actual.length === expected.length && Buffer.compare(actual, expected) === 0) return;
  const at = expected.findIndex((byte, index) => actual[index] !== byte);
  expect.fail(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

export const copyOf = (block: Uint8Array): Uint8Array => new Uint8Array(block);
