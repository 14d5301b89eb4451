/**
 * The kernels in AssemblyScript (not TypeScript: `npm run build:kernels` compiles it to
 * WebAssembly). Blocks are addresses in the module's memory, at any alignment; lists of blocks
 * are arrays of addresses, `end` the address after the last. Lengths are multiples of 64 bytes:
 * four vectors a round, so that one's chain of doublings does not wait for another's.
 */

/** x^8 modulo the polynomial 0x11d. */
const REDUCTION: i8 = 0x1d;
const ROUND: usize = 64;
const ADDRESS: usize = sizeof<usize>();

/** Doubles 16 elements. One compares where one could shift: x86 has no shift of single bytes. */
function double(elements: v128, zero: v128, reduction: v128): v128 {
  return v128.xor(i8x16.add(elements, elements), v128.and(i8x16.lt_s(elements, zero), reduction));
}

/**
 * 16 products with one factor: `low` and `high` hold its products with 0, 1, ... 15 and with
 * 0, 16, ... 240 (Anvin, section 7).
 */
function multiply(elements: v128, low: v128, high: v128, nibble: v128): v128 {
  return v128.xor(
    i8x16.swizzle(low, v128.and(elements, nibble)),
    i8x16.swizzle(high, i8x16.shr_u(elements, 4)),
  );
}

/** into = XOR of the blocks, one at least; `into` may be one of them. */
export function xor(blocks: usize, end: usize, into: usize, length: usize): void {
  for (let at: usize = 0; at < length; at += ROUND) {
    let block = load<usize>(blocks) + at;
    let sum0 = v128.load(block);
    let sum1 = v128.load(block, 16);
    let sum2 = v128.load(block, 32);
    let sum3 = v128.load(block, 48);
    for (let next = blocks + ADDRESS; next < end; next += ADDRESS) {
      block = load<usize>(next) + at;
      sum0 = v128.xor(sum0, v128.load(block));
      sum1 = v128.xor(sum1, v128.load(block, 16));
      sum2 = v128.xor(sum2, v128.load(block, 32));
      sum3 = v128.xor(sum3, v128.load(block, 48));
    }
    v128.store(into + at, sum0);
    v128.store(into + at, sum1, 16);
    v128.store(into + at, sum2, 32);
    v128.store(into + at, sum3, 48);
  }
}

/** P and Q of the blocks, one at least, the one with the highest exponent first and none left out. */
export function pq(blocks: usize, end: usize, p: usize, q: usize, length: usize): void {
  const zero = i8x16.splat(0);
  const reduction = i8x16.splat(REDUCTION);
  for (let at: usize = 0; at < length; at += ROUND) {
    let block = load<usize>(blocks) + at;
    let p0 = v128.load(block);
    let p1 = v128.load(block, 16);
    let p2 = v128.load(block, 32);
    let p3 = v128.load(block, 48);
    let q0 = p0;
    let q1 = p1;
    let q2 = p2;
    let q3 = p3;
    for (let next = blocks + ADDRESS; next < end; next += ADDRESS) {
      block = load<usize>(next) + at;
      const data0 = v128.load(block);
      const data1 = v128.load(block, 16);
      const data2 = v128.load(block, 32);
      const data3 = v128.load(block, 48);
      p0 = v128.xor(p0, data0);
      p1 = v128.xor(p1, data1);
      p2 = v128.xor(p2, data2);
      p3 = v128.xor(p3, data3);
      q0 = v128.xor(double(q0, zero, reduction), data0);
      q1 = v128.xor(double(q1, zero, reduction), data1);
      q2 = v128.xor(double(q2, zero, reduction), data2);
      q3 = v128.xor(double(q3, zero, reduction), data3);
    }
    v128.store(p + at, p0);
    v128.store(p + at, p1, 16);
    v128.store(p + at, p2, 32);
    v128.store(p + at, p3, 48);
    v128.store(q + at, q0);
    v128.store(q + at, q1, 16);
    v128.store(q + at, q2, 32);
    v128.store(q + at, q3, 48);
  }
}

/** q ^= factor * source; `factor` is the address of its products. */
export function multiplyInto(q: usize, source: usize, factor: usize, length: usize): void {
  const nibble = i8x16.splat(0x0f);
  const low = v128.load(factor);
  const high = v128.load(factor, 16);
  for (let at: usize = 0; at < length; at += ROUND) {
    const from = source + at;
    const to = q + at;
    const product0 = multiply(v128.load(from), low, high, nibble);
    const product1 = multiply(v128.load(from, 16), low, high, nibble);
    const product2 = multiply(v128.load(from, 32), low, high, nibble);
    const product3 = multiply(v128.load(from, 48), low, high, nibble);
    v128.store(to, v128.xor(v128.load(to), product0));
    v128.store(to, v128.xor(v128.load(to, 16), product1), 16);
    v128.store(to, v128.xor(v128.load(to, 32), product2), 32);
    v128.store(to, v128.xor(v128.load(to, 48), product3), 48);
  }
}

/** x = factor * (q + sumQ): the one block that `sumQ` lacks. */
export function solveOne(x: usize, q: usize, sumQ: usize, factor: usize, length: usize): void {
  const nibble = i8x16.splat(0x0f);
  const low = v128.load(factor);
  const high = v128.load(factor, 16);
  for (let at: usize = 0; at < length; at += 16) {
    const lost = v128.xor(v128.load(q + at), v128.load(sumQ + at));
    v128.store(x + at, multiply(lost, low, high, nibble));
  }
}

/**
 * x = ofP * (p + sumP) + ofQ * (q + sumQ) and y = x + p + sumP: the two blocks that the sums lack.
 */
export function solveTwo(
  x: usize,
  y: usize,
  p: usize,
  q: usize,
  sumP: usize,
  sumQ: usize,
  ofP: usize,
  ofQ: usize,
  length: usize,
): void {
  const nibble = i8x16.splat(0x0f);
  const lowP = v128.load(ofP);
  const highP = v128.load(ofP, 16);
  const lowQ = v128.load(ofQ);
  const highQ = v128.load(ofQ, 16);
  for (let at: usize = 0; at < length; at += 16) {
    const lostP = v128.xor(v128.load(p + at), v128.load(sumP + at));
    const lostQ = v128.xor(v128.load(q + at), v128.load(sumQ + at));
    const lostX = v128.xor(
      multiply(lostP, lowP, highP, nibble),
      multiply(lostQ, lowQ, highQ, nibble),
    );
    v128.store(x + at, lostX);
    v128.store(y + at, v128.xor(lostX, lostP));
  }
}
