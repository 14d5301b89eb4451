/** Region states as they lie on a member, behind the header of the bitmap. Pure functions. */
import { State } from "./transitions.ts";

/** How a kind of bitmap keeps states. What memory holds is a byte a region ({@link State}). */
export interface StateFormat {
  /** Regions in a byte on disk. */
  readonly regionsPerByte: number;
  /** The bytes to write for `states`; of a last byte that is not filled the rest is zero. */
  pack(states: Uint8Array): Uint8Array;
  /** The bytes of `regions` regions, as {@link stateFromDisk} takes them. */
  unpack(stored: Uint8Array, regions: number): Uint8Array;
}

/** By mdadm's name of the bitmap. */
export const STATE_FORMATS = {
  /** md's llbitmap: memory and disk hold the same. */
  lockless: {
    regionsPerByte: 1,
    pack: (states) => states,
    unpack: (stored, regions) => stored.subarray(0, regions),
  },
  /**
   * md's classic bitmap: one bit a region, the least significant first, set while members may
   * differ there. What is not set is Clean: it has no word for Unwritten.
   */
  internal: { regionsPerByte: 8, pack: packBits, unpack: unpackBits },
} as const satisfies Readonly<Record<string, StateFormat>>;

/** A bit a state: set from Dirty on. */
export function packBits(states: Uint8Array): Uint8Array {
  const bits = new Uint8Array(Math.ceil(states.length / 8));
  for (const [region, state] of states.entries()) {
    if (state >= State.Dirty) bits[region >> 3]! |= 1 << (region & 7);
  }
  return bits;
}

/** A state a bit: Dirty where it is set, Clean elsewhere. */
export function unpackBits(bits: Uint8Array, regions: number): Uint8Array {
  return Uint8Array.from({ length: regions }, (_, region) =>
    ((bits[region >> 3]! >> (region & 7)) & 1) === 1 ? State.Dirty : State.Clean,
  );
}
