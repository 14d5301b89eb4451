import {
  checkBlock,
  checkBlocks,
  checkExponent,
  checkExponents,
  checkMissing,
} from "./arguments.ts";
import { inverse, multiply, power, REDUCTION, solveTwo } from "./field.ts";
import type { Kernels } from "./kernels.ts";
import { byWords, WORD_BYTES } from "./words.ts";

/**
 * The kernels in plain TypeScript: where there is no WebAssembly with SIMD, and what the kernels
 * there are compared with.
 */
export const plainKernels: Kernels = {
  allocate: (length) => new Uint8Array(length),
  xor,
  xorInto,
  pq,
  multiplyInto,
  recover,
};

/** XORs of more sources go over ranges of this many words, so that `into` stays in the L1 cache. */
const XOR_WORDS = 1024;

const words64 = (block: Uint8Array): BigUint64Array =>
  new BigUint64Array(block.buffer, block.byteOffset, block.length / WORD_BYTES);

const words32 = (block: Uint8Array): Uint32Array =>
  new Uint32Array(block.buffer, block.byteOffset, block.length / 4);

function xor(into: Uint8Array, sources: readonly Uint8Array[]): void {
  checkBlocks(into.length, sources);
  if (sources.length === 1) return into.set(sources[0]!);
  byWords(into.length, [into], sources, ([output], inputs) =>
    xorWords(words64(output!), inputs.map(words64)),
  );
}

function xorInto(into: Uint8Array, sources: readonly Uint8Array[]): void {
  checkBlocks(into.length, sources);
  byWords(into.length, [into], sources, ([output], inputs) => {
    const words = words64(output!);
    xorWords(words, [words, ...inputs.map(words64)]);
  });
}

/** Two sources at least; the first may be `into` itself. */
function xorWords(into: BigUint64Array, sources: readonly BigUint64Array[]): void {
  for (let start = 0; start < into.length; start += XOR_WORDS) {
    const end = Math.min(start + XOR_WORDS, into.length);
    xor2(into, sources[0]!, sources[1]!, start, end);
    let next = 2;
    for (; next + 2 <= sources.length; next += 2) {
      xor3(into, into, sources[next]!, sources[next + 1]!, start, end);
    }
    if (next < sources.length) xor2(into, into, sources[next]!, start, end);
  }
}

function xor2(
  into: BigUint64Array,
  a: BigUint64Array,
  b: BigUint64Array,
  start: number,
  end: number,
): void {
  for (let i = start; i < end; i++) into[i] = a[i]! ^ b[i]!;
}

function xor3(
  into: BigUint64Array,
  a: BigUint64Array,
  b: BigUint64Array,
  c: BigUint64Array,
  start: number,
  end: number,
): void {
  for (let i = start; i < end; i++) into[i] = a[i]! ^ b[i]! ^ c[i]!;
}

function pq(
  p: Uint8Array,
  q: Uint8Array,
  data: readonly Uint8Array[],
  exponents: readonly number[],
): void {
  checkBlocks(p.length, data);
  checkBlock(p.length, q);
  checkExponents(data, exponents);
  addUp(p, q, data, exponents);
}

/** The sums P and Q of any number of data blocks, none included. */
function addUp(
  p: Uint8Array,
  q: Uint8Array,
  data: readonly Uint8Array[],
  exponents: readonly number[],
): void {
  // Horner's rule: the block with the highest exponent first, and between it and the next as many
  // doublings as their exponents lie apart.
  const order = exponents.map((_, index) => index);
  order.sort((a, b) => exponents[b]! - exponents[a]!);
  const doublings = order.map((index, place) => {
    const next = order[place + 1];
    return exponents[index]! - (next === undefined ? 0 : exponents[next]!);
  });
  const sorted = order.map((index) => data[index]!);
  byWords(p.length, [p, q], sorted, ([outputP, outputQ], inputs) =>
    addUpWords(words32(outputP!), words32(outputQ!), inputs.map(words32), doublings),
  );
}

function addUpWords(
  p: Uint32Array,
  q: Uint32Array,
  data: readonly Uint32Array[],
  doublings: readonly number[],
): void {
  p.fill(0);
  q.fill(0);
  for (let block = 0; block < data.length; block++) {
    addWords(p, q, data[block]!);
    for (let doubling = doublings[block]!; doubling > 0; doubling--) doubleWords(q);
  }
}

function addWords(p: Uint32Array, q: Uint32Array, data: Uint32Array): void {
  for (let i = 0; i < data.length; i++) {
    p[i]! ^= data[i]!;
    q[i]! ^= data[i]!;
  }
}

function doubleWords(q: Uint32Array): void {
  for (let i = 0; i < q.length; i++) q[i] = double4(q[i]!);
}

/** Doubles four elements in one word: a byte whose top bit leaves gets the reduction instead. */
function double4(word: number): number {
  return ((word << 1) & 0xfefefefe) ^ (((word >>> 7) & 0x01010101) * REDUCTION);
}

function multiplyInto(q: Uint8Array, source: Uint8Array, exponent: number): void {
  checkBlock(q.length, source);
  checkExponent(exponent);
  const products = productsWith(power(exponent));
  for (let i = 0; i < q.length; i++) q[i]! ^= products[source[i]!]!;
}

const productTables = new Map<number, Uint8Array>();

/** The product of every element with one factor. */
function productsWith(factor: number): Uint8Array {
  let products = productTables.get(factor);
  if (products === undefined) {
    products = Uint8Array.from({ length: 256 }, (_, value) => multiply(value, factor));
    productTables.set(factor, products);
  }
  return products;
}

function recover(
  data: readonly Uint8Array[],
  missing: readonly number[],
  p: Uint8Array | null,
  q: Uint8Array | null,
  exponents: readonly number[],
): void {
  checkMissing(data, missing, p, q);
  const x = data[missing[0]!]!;
  const y = data[missing[1]!];
  const there = data.filter((_, index) => !missing.includes(index));
  if (p !== null && y === undefined) return xor(x, [p, ...there]);

  checkBlocks(x.length, [...data, q!, p ?? q!]);
  checkExponents(data, exponents);
  // P and Q less what the blocks that are there put in.
  const lostP = new Uint8Array(x.length);
  const lostQ = new Uint8Array(x.length);
  const exponentsThere = exponents.filter((_, index) => !missing.includes(index));
  addUp(lostP, lostQ, there, exponentsThere);
  xorInto(lostQ, [q!]);
  if (p === null || y === undefined) {
    const products = productsWith(inverse(power(exponents[missing[0]!]!)));
    for (let i = 0; i < x.length; i++) x[i] = products[lostQ[i]!]!;
    return;
  }
  xorInto(lostP, [p]);
  const { ofP, ofQ } = solveTwo(exponents[missing[0]!]!, exponents[missing[1]!]!);
  const productsOfP = productsWith(ofP);
  const productsOfQ = productsWith(ofQ);
  for (let i = 0; i < x.length; i++) {
    x[i] = productsOfP[lostP[i]!]! ^ productsOfQ[lostQ[i]!]!;
    y[i] = lostP[i]! ^ x[i]!;
  }
}
