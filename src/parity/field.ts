/**
 * GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d) and the generator 2, the field of
 * RAID-6 in Linux md (H. P. Anvin, "The mathematics of RAID-6"). Sums and differences are XOR.
 */

/** What is left of the polynomial when x^8 is taken away: added when a doubling overflows. */
export const REDUCTION = 0x1d;

/** 2^255 is 1 again: so many non-zero elements there are. */
export const ORDER = 255;

/** POWERS[e] = 2^e, twice around so that the sum of two logarithms needs no modulo. */
const POWERS = new Uint8Array(2 * ORDER);
/** LOGARITHMS[2^e] = e for e < 255; that of zero is not defined and never read. */
const LOGARITHMS = new Uint8Array(ORDER + 1);

let element = 1;
for (let exponent = 0; exponent < ORDER; exponent++) {
  POWERS[exponent] = element;
  POWERS[exponent + ORDER] = element;
  LOGARITHMS[element] = exponent;
  element = element < 0x80 ? element << 1 : ((element << 1) & 0xff) ^ REDUCTION;
}

/** 2^exponent, for any integer: exponents count modulo 255. */
export function power(exponent: number): number {
  return POWERS[((exponent % ORDER) + ORDER) % ORDER]!;
}

export function multiply(a: number, b: number): number {
  if (a === 0 || b === 0) return 0;
  return POWERS[LOGARITHMS[a]! + LOGARITHMS[b]!]!;
}

/** 1 / a; zero has no inverse. */
export function inverse(a: number): number {
  if (a === 0) throw new RangeError("zero has no inverse in GF(2^8)");
  return POWERS[ORDER - LOGARITHMS[a]!]!;
}

/** What two data blocks that are lost are made of: x = ofP * dp + ofQ * dq, and y = dp + x. */
export interface TwoLost {
  readonly ofP: number;
  readonly ofQ: number;
}

/**
 * Solves x + y = dp and 2^ex * x + 2^ey * y = dq, where dp and dq are P and Q less what the data
 * blocks that are there put in (Anvin, section 4).
 */
export function solveTwo(exponentX: number, exponentY: number): TwoLost {
  const scale = inverse(power(exponentX) ^ power(exponentY));
  return { ofP: multiply(power(exponentY), scale), ofQ: scale };
}
