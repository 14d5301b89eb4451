/**
 * All that the wire knows of what it serves. Offsets and lengths are bytes; the caller has
 * checked that a range is inside the device and that writes are allowed.
 *
 * Each of the two hot operations comes twice. The `try` form does the whole operation before it
 * returns, or does nothing that counts and returns false; then the caller uses the promise form.
 * So the common case (cached reads, short writes to fast members) costs no promise and no turn of
 * the event loop. A rejected promise carries the errno (see `errnoOf`).
 *
 * Buffers stay the caller's: they must not change or be reused until the promise settles.
 */
export interface BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;

  /** Fills `into` from `offset` now and returns true, or returns false (`into` is then garbage). */
  tryRead(into: Uint8Array, offset: number): boolean;
  read(into: Uint8Array, offset: number): Promise<void>;

  /** Writes `from` at `offset` now, and durably if `fua`; or returns false: use `write`. */
  tryWrite(from: Uint8Array, offset: number, fua: boolean): boolean;
  write(from: Uint8Array, offset: number, fua: boolean): Promise<void>;

  /** Durable on return: every write answered before the call, on any connection. */
  flush(): Promise<void>;
  /** The client no longer needs this range; what it reads afterwards is undefined but stable. */
  trim(offset: number, length: number, fua: boolean): Promise<void>;
  /** The range reads as zeroes afterwards; `allocate` (NO_HOLE) keeps space behind it. */
  zero(offset: number, length: number, allocate: boolean, fua: boolean): Promise<void>;
  /** True if `zero` of this range is sure to take less time than writing it; nothing is done. */
  zeroesFast(offset: number, length: number, allocate: boolean): boolean;
  /** Prefetch (NBD_CMD_CACHE): a hint, never an error. */
  cache(offset: number, length: number): Promise<void>;

  /**
   * What is known of a range without asking the storage. n > 0: its first n bytes read as zeroes.
   * -n: nothing is known of its first n. `length` is not 0, and bounds n.
   */
  zeroesAt(offset: number, length: number): number;
  /**
   * How the range is stored: consecutive extents from `offset` on, none empty, at least one and at
   * most `max`; neighbours differ. They may end before the range does, never after.
   */
  extents(offset: number, length: number, max: number): Promise<Extent[]>;
  /** False: there is no bitmap, and `regionStates` is not called. */
  readonly hasRegions: boolean;
  /** The states of the regions that hold the range, by the same rules as {@link extents}. */
  regionStates(offset: number, length: number, max: number): RegionExtent[];
}

/** Part of a device, as `base:allocation` means it. */
export interface Extent {
  readonly length: number;
  /** No space is behind it, so that a write may fail for want of space. Only where `zero`. */
  readonly hole: boolean;
  /** It reads as zeroes. False: it may or may not. */
  readonly zero: boolean;
}

/** Part of a device whose regions are all in this state (docs/internals/bitmap.md). */
export interface RegionExtent {
  readonly length: number;
  readonly state: number;
}

/** What a client asks for by name. `exports` has at least one; the first of one is the default. */
export interface Export {
  /** At most 32 bytes of UTF-8. */
  readonly name: string;
  /** One line for LIST and INFO_DESCRIPTION. */
  readonly description: string;
  readonly device: BlockDevice;
  /** Clients may only read, though the device could be written. */
  readonly readOnly?: boolean;
}
