/**
 * A member device: the storage below one slot (a file, later a remote export, or a simulated
 * disk). Offsets and lengths are bytes from the start of the member, not of its data area.
 *
 * A member does what it is told and reports; whether a failure ejects it is policy and lives in
 * `array/`. Every operation is whole: short reads and writes are continued inside, and end of
 * file in mid-read is an error. Failures reject with a {@link MemberError}.
 */
export interface Member {
  /** Absolute path or URI; names the member in messages. */
  readonly path: string;
  /** Two members with equal identity are the same storage (device and inode for files). */
  readonly identity: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** The read-write descriptor a sync worker thread may use, or null: no blocking I/O here. */
  readonly descriptor: number | null;

  /** Fills `into` now if that cannot block (cached, or memory); else false. Errors: false too. */
  tryRead(into: Uint8Array, offset: number): boolean;
  read(into: Uint8Array, offset: number): Promise<void>;
  /** The same for one range of the member that goes to several buffers, one after the other. */
  tryReadv(into: readonly Uint8Array[], offset: number): boolean;
  readv(into: readonly Uint8Array[], offset: number): Promise<void>;

  /** True if a `tryWrite` of this length is expected not to block: ask all members, then write. */
  writesInline(length: number): boolean;
  /** Writes now; false if it failed in any way (use `write`, which writes again and reports). */
  tryWrite(from: Uint8Array, offset: number): boolean;
  write(from: Uint8Array, offset: number): Promise<void>;
  /** The same for one range of the member that comes from several buffers, one after the other. */
  tryWritev(from: readonly Uint8Array[], offset: number): boolean;
  writev(from: readonly Uint8Array[], offset: number): Promise<void>;
  /** On stable storage when it resolves (O_DSYNC). Says nothing about other writes. */
  writeDurable(from: Uint8Array, offset: number): Promise<void>;

  /** fdatasync: every write that had completed when this was called is on stable storage. */
  sync(): Promise<void>;
  /** True if `sync` has nothing to do (memory file systems): then an inline FUA costs nothing. */
  readonly syncsInline: boolean;

  /** True if `punch` gives space back at once; false: it may have to write zeroes. */
  readonly punchesFast: boolean;
  /** The range reads as zeroes afterwards, its space given back where that is possible. */
  punch(offset: number, length: number): Promise<void>;
  /** The range reads as zeroes afterwards, its space allocated. */
  zero(offset: number, length: number): Promise<void>;
  /** Starts reading the range into the cache. Never rejects for a failed read. */
  prefetch(offset: number, length: number): Promise<void>;
  /** The first offset >= `from` and < `end` that may hold data other than a hole, or null. */
  nextData(from: number, end: number): Promise<number | null>;
  /** The first offset >= `from` and < `end` that is in a hole, or `end`. */
  nextHole(from: number, end: number): Promise<number>;

  /** Closes after the operations under way have finished. */
  close(): Promise<void>;
}

/** What the storage said. `noSpace` (ENOSPC, EDQUOT, EFBIG) never ejects a member. */
export class MemberError extends Error {
  readonly path: string;
  readonly noSpace: boolean;

  constructor(path: string, operation: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`${path}: ${operation} failed: ${reason}`, { cause });
    this.name = "MemberError";
    this.path = path;
    const code = (cause as NodeJS.ErrnoException | null)?.code;
    this.noSpace = code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG";
  }
}
