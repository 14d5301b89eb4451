import { MemberError } from "../member/member.ts";
import type { Kernels } from "../parity/kernels.ts";
import type { ParityGeometry } from "./geometry/geometry.ts";
import type { Leg, LegFailure, Legs } from "./level.ts";
import type { Scratch } from "./scratch.ts";
import { unknownData } from "./unknown-data.ts";

/** What reads of whole stripes work with. */
export interface DecodeParts<L extends Leg> {
  readonly geometry: ParityGeometry;
  readonly legs: Legs<L>;
  readonly kernels: Kernels;
  readonly scratch: Scratch;
}

/**
 * Fills `wanted` (by data chunk; null: not asked for) with columns [start, ...) of a stripe, each
 * `length` long: from the slots that can be read, and from parity for those that cannot. Slots of
 * `without` are not asked. Parity is to be trusted here, and nobody may write the stripe meanwhile.
 *
 * Resolves to the legs that failed on the way; rejects if too few are left, with the last failure or,
 * where there was none, with unknown-data.
 */
export async function decodeStripe<L extends Leg>(
  parts: DecodeParts<L>,
  stripe: number,
  start: number,
  length: number,
  wanted: readonly (Uint8Array | null)[],
  without: ReadonlySet<number>,
): Promise<LegFailure<L>[]> {
  const { geometry, legs, kernels, scratch } = parts;
  const { data, exponents, p, q } = geometry.stripe(stripe);
  const borrowed: Uint8Array[] = [];
  const borrow = (): Uint8Array => {
    const buffer = scratch.take(length);
    borrowed.push(buffer);
    return buffer.subarray(0, length);
  };
  const failures: LegFailure<L>[] = [];
  const lost = new Set(without);
  const read = async (slot: number, into: Uint8Array): Promise<boolean> => {
    const leg = lost.has(slot) ? null : legs.inSyncAt(slot);
    if (leg === null) {
      lost.add(slot);
      return false;
    }
    const offset = leg.dataOffset + stripe * geometry.chunkBytes + start;
    if (leg.member.tryRead(into, offset)) return true;
    try {
      await leg.member.read(into, offset);
      return true;
    } catch (error) {
      if (!(error instanceof MemberError)) throw error;
      failures.push({ leg, error });
      lost.add(slot);
      return false;
    }
  };
  try {
    const blocks = wanted.map((buffer) => buffer ?? borrow());
    await Promise.all(data.map((slot, index) => read(slot, blocks[index]!)));
    const missing = [...data.keys()].filter((index) => lost.has(data[index]!));
    if (missing.length === 0) return failures;
    const parityOf = async (slot: number): Promise<Uint8Array | null> => {
      if (slot < 0) return null;
      const buffer = borrow();
      return (await read(slot, buffer)) ? buffer : null;
    };
    const oldP = await parityOf(p);
    const oldQ = missing.length > 1 || oldP === null ? await parityOf(q) : null;
    const parities = (oldP === null ? 0 : 1) + (oldQ === null ? 0 : 1);
    if (parities < missing.length) {
      throw failures.at(-1)?.error ?? unknownData(stripe * geometry.chunkBytes + start);
    }
    kernels.recover(blocks, missing, oldP, oldQ, exponents);
    return failures;
  } finally {
    for (const buffer of borrowed) scratch.give(buffer);
  }
}
