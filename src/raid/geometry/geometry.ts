/**
 * How a level lays data out: pure functions of offsets. Nothing here does I/O. Offsets and
 * lengths are bytes; a slot's bytes are counted from the start of its member's data area.
 */

/** What decides where data lies; plain data, so that a thread can be handed it. */
export interface ArrayShape {
  /** md's number. */
  readonly level: number;
  /** md's number; 0 on levels that have no layouts. */
  readonly layout: number;
  /** 0: the level does not stripe (1), or its members are not rounded (linear). */
  readonly chunkBytes: number;
  readonly raidDisks: number;
  /** What the array uses of each member's data area; not looked at on levels 0 and linear. */
  readonly componentBytes: number;
  /** By slot: how long the data area is. Only levels 0 and linear look: they use all of it. */
  readonly dataBytes: readonly number[];
}

/** What every level answers. */
export interface Geometry {
  readonly kind: "mirror" | "striping" | "copies" | "parity";
  /** What clients see. */
  readonly sizeBytes: number;
  /**
   * What the regions of a bitmap index: bytes of a member on levels 1, 4, 5 and 6 (the same on
   * every member), bytes of the array on the others.
   */
  readonly trackedBytes: number;
  /** What a client does best to write at once: a whole stripe; 0 where nothing is gained. */
  readonly stripeBytes: number;
  /** False: no member can be lost, and no sync could bring one back (levels 0 and linear). */
  readonly redundant: boolean;
  /** True if every byte of the array is on, or follows from, the slots that `has` names. */
  survives(has: (slot: number) => boolean): boolean;
  /** Where the tracked bytes start and end that may change when this range of the array does. */
  trackedStart(offset: number, length: number): number;
  trackedEnd(offset: number, length: number): number;
  /** A rebuild has done this many tracked bytes: so far every member's bytes are done (md's recovery_offset). */
  memberDone(trackedDone: number): number;
  /** The other way round, and never too much: tracked bytes that are done when a member is, up to there. */
  trackedDone(memberDone: number): number;
}

/** Part of a range of the array that is contiguous on one member. */
export interface Extent {
  readonly slot: number;
  /** On the member. */
  readonly offset: number;
  readonly length: number;
}

/** Levels 0 and linear: every byte lies in one place. */
export interface StripingGeometry extends Geometry {
  readonly kind: "striping";
  /** Where `offset` of the array lies, and how many bytes from there on are contiguous. */
  locate(offset: number): Extent;
  /**
   * How many bytes of the slot come before `offset` of the array: what a range of the array has
   * on a member lies in one piece.
   */
  bytesBefore(slot: number, offset: number): number;
}

/** Level 10: every chunk lies in several places, on different slots. */
export interface CopiesGeometry extends Geometry {
  readonly kind: "copies";
  readonly chunkBytes: number;
  readonly copies: number;
  /** Where chunk number `chunk` of the array lies; each entry is `chunkBytes` long. */
  locate(chunk: number): readonly Extent[];
}

/** What the slots of one stripe hold. Entries of `data` are in the order of the array's bytes. */
export interface StripeMap {
  /** The slot of each data chunk. */
  readonly data: readonly number[];
  /** Q is the sum of 2^exponent * data (GF(2^8), polynomial 0x11d): the exponent of each data chunk. */
  readonly exponents: readonly number[];
  readonly p: number;
  /** -1: the level has none. */
  readonly q: number;
}

/** Levels 4, 5 and 6. */
export interface ParityGeometry extends Geometry {
  readonly kind: "parity";
  readonly chunkBytes: number;
  readonly raidDisks: number;
  readonly dataDisks: number;
  /** 1 or 2: how many members can be lost. */
  readonly parityDisks: number;
  /** Stripe number `stripe` lies at `stripe * chunkBytes` of every member. */
  stripe(stripe: number): StripeMap;
}

/** Level 1: the array's bytes are each member's bytes. */
export interface MirrorGeometry extends Geometry {
  readonly kind: "mirror";
}

export type AnyGeometry = MirrorGeometry | StripingGeometry | CopiesGeometry | ParityGeometry;
