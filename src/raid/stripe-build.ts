import type { Leg, LegFailure } from "./level.ts";
import { onEach } from "./legs.ts";
import type { DecodeParts } from "./stripe-read.ts";

/**
 * Makes parity of columns [start, start + length) of a stripe of which nothing was ever written:
 * a data chunk that is lost counts as zeroes. Nobody may write the stripe meanwhile. Resolves to the
 * legs that could not be written; rejects if one could not be read.
 */
export async function buildStripe<L extends Leg>(
  { geometry, legs, kernels, scratch }: DecodeParts<L>,
  stripe: number,
  start: number,
  length: number,
): Promise<LegFailure<L>[]> {
  const { data, exponents, p, q } = geometry.stripe(stripe);
  const at = stripe * geometry.chunkBytes + start;
  const buffers = Array.from({ length: data.length + 2 }, () => scratch.take(length));
  try {
    const [intoP, intoQ, ...blocks] = buffers.map((buffer) => buffer.subarray(0, length));
    await Promise.all(
      data.map(async (slot, index) => {
        const leg = legs.inSyncAt(slot);
        const block = blocks[index]!;
        if (leg === null) block.fill(0);
        else await leg.member.read(block, leg.dataOffset + at);
      }),
    );
    if (q < 0) kernels.xor(intoP!, blocks);
    else kernels.pq(intoP!, intoQ!, blocks, exponents);
    const parity = legs.writable.filter(({ slot }) => slot === p || slot === q);
    return await onEach(parity, (leg) =>
      leg.member.write(leg.slot === p ? intoP! : intoQ!, leg.dataOffset + at),
    );
  } finally {
    for (const buffer of buffers) scratch.give(buffer);
  }
}
