/** The arithmetic of offsets. All values are whole numbers below 2^53, so no bitwise operators. */

export function roundDown(bytes: number, unitBytes: number): number {
  return bytes - (bytes % unitBytes);
}

export function clamp(value: number, max: number): number {
  return Math.max(0, Math.min(value, max));
}

export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}

export function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
