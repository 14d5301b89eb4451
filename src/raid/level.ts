import type { Clock } from "../clock.ts";
import type { Member, MemberError } from "../member/member.ts";

/** A member of an array, as a level uses it. */
export interface Leg {
  readonly member: Member;
  /** Bytes from the start of the member to its data area. */
  readonly dataOffset: number;
  readonly slot: number | null;
  readonly writeMostly: boolean;
}

/** The legs as they are now. */
export interface Legs<L extends Leg> {
  /** In slot order: whom reads may ask. */
  readonly inSync: readonly L[];
  /** In slot order: whom writes go to; in sync or rebuilding. */
  readonly writable: readonly L[];
  /** Null: nobody there may be asked. */
  inSyncAt(slot: number): L | null;
  writableAt(slot: number): L | null;
}

export interface LegFailure<L> {
  readonly leg: L;
  readonly error: MemberError;
}

/** Offsets of tracked bytes. */
export interface TrackedRange {
  readonly start: number;
  readonly end: number;
}

/** Blocks that one leg could not read; offsets are bytes of the array. */
export interface UnreadBlock<L> extends LegFailure<L> {
  readonly offset: number;
  readonly length: number;
}

/**
 * When a whole read fails, it is tried again block by block, by clients' reads and by syncs alike,
 * so that both find the same data.
 */
export const FALLBACK_BLOCK_BYTES = 4096;

/** How often stripes were written in which way. */
export interface StripeWrites {
  /** All of the data was new: nothing was read. */
  full: number;
  /** The rest of the data was read. */
  reconstruct: number;
  /** Old data and old parity were read. */
  modify: number;
}

/**
 * A level at work: turns ranges of the array into reads and writes of legs. What becomes of a leg
 * that fails is the caller's policy; so is everything about regions, locks and order.
 */
export interface Level<L extends Leg> {
  /**
   * Legs in sync in the order in which pinned reads and syncs ask them: the source first (lowest
   * slot, not write-mostly if there is another), then the others.
   */
  sources(): L[];

  /** Fills `into` now if that cannot block, or returns false (`into` is then garbage). */
  tryRead(into: Uint8Array, offset: number, pinned: boolean): boolean;
  /**
   * Fills `into`. Blocks that a leg could not read came from others and are named, so that they
   * are repaired. Rejects with the last MemberError if some block can be read nowhere. `pinned`:
   * copies may differ here, so the sources are asked in their order.
   */
  read(into: Uint8Array, offset: number, pinned: boolean): Promise<UnreadBlock<L>[]>;
  prefetch(offset: number, length: number): Promise<void>;

  /** True if writing the range now is the quick way, and cannot block. */
  writesInline(offset: number, length: number): boolean;
  /**
   * Writes now. False if that cannot be done, or a leg failed: the caller writes again with `write`.
   * A promise of the legs that failed, if what was begun must go on: then the caller does not.
   */
  tryWrite(from: Uint8Array, offset: number): boolean | Promise<LegFailure<L>[]>;
  /** The legs that failed. Ranges of writes under way never overlap. */
  write(from: Uint8Array, offset: number): Promise<LegFailure<L>[]>;
  /** The range reads as zeroes afterwards, its space given back where that is possible. */
  punch(offset: number, length: number): Promise<LegFailure<L>[]>;
  /** The range reads as zeroes afterwards, its space allocated. */
  zero(offset: number, length: number): Promise<LegFailure<L>[]>;

  /** How stripes were written, on levels that have any. */
  readonly stripeWrites?: StripeWrites;

  /** Every fdatasync is a no-op: what is written is as durable as it gets. */
  readonly syncsInline: boolean;
  /** One fdatasync on every leg that takes writes. */
  sync(): Promise<LegFailure<L>[]>;

  /**
   * Rewrites a range that `leg` could not read from what the others have, and reads it back. The
   * caller holds the range like a write. The failure of `leg`, if it fails at that.
   */
  repair(leg: L, offset: number, length: number): Promise<LegFailure<L>[]>;
}

/** What a level may ask of the array around it. */
export interface LevelHost<L extends Leg> {
  readonly clock: Clock;
  /** True if members in sync may not fit together somewhere in these tracked bytes. */
  isSuspect(start: number, end: number): boolean;
  /** True also where parity was never made, but for what was written since. */
  isDoubtful(start: number, end: number): boolean;
  /** Runs `work` while no change and no sync touches the range of the array. */
  exclusively<T>(offset: number, length: number, work: () => Promise<T>): Promise<T>;
  /** A leg could not be read while something else was done; the data came from elsewhere. */
  readFailed(leg: L, message: string): void;
  /**
   * Legs missed part of a write that goes on elsewhere, or may yet fail elsewhere: nobody may count
   * on them there from now on. They are among the failures of the write as well, if it gets that far.
   */
  writeFailed(failures: readonly LegFailure<L>[], changed: readonly TrackedRange[]): void;
}
