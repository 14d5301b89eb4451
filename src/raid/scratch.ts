/** Buffers for what a level reads or computes on the way; kept for the next time. */

const EXPONENT_MIN = 12;
const FREE_BYTES_MAX = 32 * 2 ** 20;

/** Last in, first out: the buffer handed out is the one that the CPU's caches know. */
export class Scratch {
  private readonly free: Uint8Array[][] = [];
  private freeBytes = 0;

  /** At least `bytes` long, with any content. */
  take(bytes: number): Uint8Array {
    const exponent = exponentFor(bytes);
    const buffer = this.free[exponent]?.pop();
    if (buffer === undefined) return new Uint8Array(2 ** exponent);
    this.freeBytes -= buffer.length;
    return buffer;
  }

  /** Nobody uses the buffer any more. */
  give(buffer: Uint8Array): void {
    if (this.freeBytes + buffer.length > FREE_BYTES_MAX) return;
    this.freeBytes += buffer.length;
    (this.free[exponentFor(buffer.length)] ??= []).push(buffer);
  }
}

function exponentFor(bytes: number): number {
  return Math.max(EXPONENT_MIN, 32 - Math.clz32(Math.max(bytes, 1) - 1));
}
