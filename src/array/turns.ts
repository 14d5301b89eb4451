/**
 * Long walks over tables in memory, cut into slices. They never wait for I/O, so that without this
 * one of them would keep everybody else waiting to its end, and many together still more. A slice
 * is counted in steps, not in time: the same work is cut in the same places each time.
 */
export class Turns {
  private readonly waiting: (() => void)[] = [];
  private readonly later: (run: () => void) => void;

  /** `later` calls back in a later turn of the event loop. */
  constructor(later: (run: () => void) => void = (run) => void setImmediate(run)) {
    this.later = later;
  }

  /** True if others are in the middle of a walk: one that begins should line up first. */
  get busy(): boolean {
    return this.waiting.length > 0;
  }

  /** Resolves in a later turn of the event loop; of all that wait, one a turn, in order. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      if (this.waiting.length === 1) this.later(() => this.admit());
    });
  }

  private admit(): void {
    const resolve = this.waiting.shift();
    if (this.waiting.length > 0) this.later(() => this.admit());
    resolve?.();
  }
}
