interface Held {
  readonly start: number;
  readonly end: number;
  readonly released: Promise<void>;
}

/**
 * Overlapping writes, on any connection, follow one another: members would otherwise take them
 * in different orders and differ. Ranges are bytes.
 */
export class RangeLocks {
  private readonly held = new Set<Held>();

  /** True if a write to the range would have to wait. */
  isBusy(offset: number, length: number): boolean {
    if (this.held.size === 0) return false;
    return this.conflict(offset, offset + length) !== undefined;
  }

  /** Resolves to the function that releases the range. */
  async acquire(offset: number, length: number): Promise<() => void> {
    const end = offset + length;
    let conflict = this.conflict(offset, end);
    while (conflict !== undefined) {
      await conflict.released;
      conflict = this.conflict(offset, end);
    }
    return this.hold(offset, end);
  }

  /** Takes a range that is not busy, at once; the function that releases it. */
  hold(start: number, end: number): () => void {
    let resolve = (): void => undefined;
    const released = new Promise<void>((done) => (resolve = done));
    const held: Held = { start, end, released };
    this.held.add(held);
    return () => {
      this.held.delete(held);
      resolve();
    };
  }

  private conflict(start: number, end: number): Held | undefined {
    for (const held of this.held) {
      if (start < held.end && held.start < end) return held;
    }
    return undefined;
  }
}
