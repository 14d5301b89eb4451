/**
 * The arithmetic of parity again, bit by bit and byte by byte: shares nothing with the sources.
 */

/** a * b in GF(2^8): polynomials over GF(2), modulo x^8 + x^4 + x^3 + x^2 + 1. */
export function multiplyBits(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 8; bit++) if ((b >> bit) & 1) product ^= a << bit;
  for (let bit = 15; bit >= 8; bit--) if ((product >> bit) & 1) product ^= 0x11d << (bit - 8);
  return product;
}

export function powerOfTwo(exponent: number): number {
  let result = 1;
  for (let i = 0; i < exponent; i++) result = multiplyBits(result, 2);
  return result;
}

/** The sum of 2^exponent * data: Q, and P if every exponent is 0. */
export function weightedSum(
  length: number,
  data: readonly Uint8Array[],
  exponents: readonly number[],
): Uint8Array {
  const sum = new Uint8Array(length);
  data.forEach((block, index) => {
    const factor = powerOfTwo(exponents[index]!);
    const products = Array.from({ length: 256 }, (_, value) => multiplyBits(value, factor));
    for (let i = 0; i < length; i++) sum[i]! ^= products[block[i]!]!;
  });
  return sum;
}
