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
  /** Prefetch (NBD_CMD_CACHE): a hint, never an error. */
  cache(offset: number, length: number): Promise<void>;
}

/** What a client asks for by name. `exports` has at least one; the first of one is the default. */
export interface Export {
  /** At most 32 bytes of UTF-8. */
  readonly name: string;
  /** One line for LIST and INFO_DESCRIPTION. */
  readonly description: string;
  readonly device: BlockDevice;
}
