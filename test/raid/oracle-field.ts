/** The field that Q is computed in: GF(2^8), polynomial 0x11d, bit by bit. */

const POLYNOMIAL = 0x11d;

/** a * 2. */
function double(a: number): number {
  const shifted = a << 1;
  return shifted > 0xff ? shifted ^ POLYNOMIAL : shifted;
}

export function multiply(a: number, b: number): number {
  let product = 0;
  for (let power = a, left = b; left > 0; power = double(power), left >>= 1) {
    if ((left & 1) === 1) product ^= power;
  }
  return product;
}

/** 2^exponent. */
export function powerOfTwo(exponent: number): number {
  let power = 1;
  for (let count = 0; count < exponent; count++) power = double(power);
  return power;
}

/** By trying them all. */
export function inverse(a: number): number {
  for (let b = 1; b < 256; b++) if (multiply(a, b) === 1) return b;
  throw new Error("zero has no inverse");
}

/** For each byte, `factor` times it. */
export function productsOf(factor: number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => multiply(factor, byte));
}
