import { assert } from "../errors.ts";
import { ORDER } from "./field.ts";

/** What the kernels ask of their arguments: a caller that breaks it would write wrong parity. */

export function checkBlock(length: number, block: Uint8Array): void {
  assert(block.length === length, "blocks of one kernel call have the same length");
}

export function checkBlocks(length: number, blocks: readonly Uint8Array[]): void {
  assert(blocks.length > 0, "a kernel has at least one source");
  for (let i = 0; i < blocks.length; i++) checkBlock(length, blocks[i]!);
}

export function checkExponent(exponent: number): void {
  assert(
    Number.isInteger(exponent) && exponent >= 0 && exponent < ORDER,
    "exponents are integers from 0 to 254",
  );
}

const seen = new Uint8Array(ORDER);

export function checkExponents(data: readonly Uint8Array[], exponents: readonly number[]): void {
  assert(exponents.length === data.length, "every data block has an exponent");
  seen.fill(0);
  for (let i = 0; i < exponents.length; i++) {
    const exponent = exponents[i]!;
    checkExponent(exponent);
    // Two blocks with one factor could not be told apart once they are lost.
    assert(seen[exponent] === 0, "data blocks of one stripe have different exponents");
    seen[exponent] = 1;
  }
}

/** What `recover` asks, besides the above. */
export function checkMissing(
  data: readonly Uint8Array[],
  missing: readonly number[],
  p: Uint8Array | null,
  q: Uint8Array | null,
): void {
  const parities = (p === null ? 0 : 1) + (q === null ? 0 : 1);
  assert(missing.length === 1 || missing.length === 2, "one or two data blocks are recovered");
  assert(parities >= missing.length, "there are as many parities as lost data blocks");
  assert(missing[0] !== missing[1], "lost data blocks are different ones");
  for (const index of missing) assert(data[index] !== undefined, "a lost data block has a buffer");
}
