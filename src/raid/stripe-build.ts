import type { Leg, LegFailure } from "./level.ts";
import { onEach } from "./legs.ts";
import type { DecodeParts } from "./stripe-read.ts";

/**
 * Makes parity of columns [start, start + length) of a stripe of which nothing was ever written:
 * a data chunk that is lost counts as zeroes, and becomes that on a member that is rebuilt, whose
 * rebuild may have passed here. Nobody may write the stripe meanwhile. Resolves to the legs that could
 * not be written; rejects if one could not be read.
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
    /** By slot: what is to be written. */
    const made = new Map([
      [p, intoP!],
      [q, intoQ!],
    ]);
    const reads = data.map(async (slot, index) => {
      const leg = legs.inSyncAt(slot);
      const block = blocks[index]!;
      if (leg === null) made.set(slot, block.fill(0));
      else await leg.member.read(block, leg.dataOffset + at);
    });
    // All of them end before the buffers are given back.
    for (const read of await Promise.allSettled(reads)) {
      if (read.status === "rejected") throw read.reason;
    }
    if (q < 0) kernels.xor(intoP!, blocks);
    else kernels.pq(intoP!, intoQ!, blocks, exponents);
    const lacking = legs.writable.filter(({ slot }) => slot !== null && made.has(slot));
    return await onEach(lacking, (leg) => {
      return leg.member.write(made.get(leg.slot!)!, leg.dataOffset + at);
    });
  } finally {
    for (const buffer of buffers) scratch.give(buffer);
  }
}
