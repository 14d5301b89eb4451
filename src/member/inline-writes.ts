/**
 * Whether a file's next write is made on the spot or through the thread pool. A write into the
 * page cache takes microseconds, far less than a trip to the pool and back; but when the kernel
 * throttles writers, or must read the rest of a page first, it takes as long as the device does, and
 * nothing else in the process moves meanwhile. So: short writes are inline while the last were
 * fast, and a slow one sends those that follow to the pool until the file has proved itself.
 */

/** Above this the copy itself keeps the event loop busy for too long (256 KiB: about 30 us). */
const INLINE_LENGTH_MAX = 256 * 1024;
const SLOW_MS = 2;
/** Fast writes through the pool, in a row, that end a suspension. */
const FAST_WRITES_TO_RESUME = 64;
/** A suspension also ends by itself, for members that are seldom written; it doubles if repeated. */
const SUSPENSION_MIN_MS = 250;
const SUSPENSION_MAX_MS = 16_000;

export class InlineWrites {
  readonly #now: () => number;
  #suspended = false;
  #suspendedUntilMs = 0;
  #suspensionMs = SUSPENSION_MIN_MS;
  #fastInARow = 0;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  allows(length: number): boolean {
    if (length > INLINE_LENGTH_MAX) return false;
    if (this.#suspended && this.#now() >= this.#suspendedUntilMs) this.#suspended = false;
    return !this.#suspended;
  }

  /** Reports an inline write. */
  tookInline(elapsedMs: number): void {
    if (elapsedMs < SLOW_MS) return;
    this.#suspended = true;
    this.#fastInARow = 0;
    this.#suspendedUntilMs = this.#now() + this.#suspensionMs;
    this.#suspensionMs = Math.min(this.#suspensionMs * 2, SUSPENSION_MAX_MS);
  }

  /** Reports a write made by the pool, its wait for a thread included. */
  tookInPool(elapsedMs: number): void {
    this.#fastInARow = elapsedMs < SLOW_MS ? this.#fastInARow + 1 : 0;
    if (this.#fastInARow < FAST_WRITES_TO_RESUME) return;
    this.#suspended = false;
    this.#suspensionMs = SUSPENSION_MIN_MS;
    this.#fastInARow = 0;
  }
}
