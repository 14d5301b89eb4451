/**
 * Buffers for what a level reads or computes on the way; kept for the next time. They are in the
 * kernels' own memory as far as that goes, where no copies are made.
 */
import type { Kernels } from "../parity/kernels.ts";

const EXPONENT_MIN = 12;
const FREE_BYTES_MAX = 32 * 2 ** 20;

/** Last in, first out: the buffer handed out is the one that the CPU's caches know. */
export class Scratch {
  private readonly kernels: Kernels;
  private readonly free: Uint8Array[][] = [];
  private freeBytes = 0;

  constructor(kernels: Kernels) {
    this.kernels = kernels;
  }

  /** At least `bytes` long, with any content. */
  take(bytes: number): Uint8Array {
    const exponent = exponentFor(bytes);
    const buffer = this.free[exponent]?.pop();
    if (buffer === undefined) return this.kernels.allocate(2 ** exponent);
    this.freeBytes -= buffer.length;
    return buffer;
  }

  /** Nobody uses the buffer any more. */
  give(buffer: Uint8Array): void {
    // What is in the kernels' memory can only be used again.
    const isOwn = buffer.length === buffer.buffer.byteLength;
    if (isOwn && this.freeBytes + buffer.length > FREE_BYTES_MAX) return;
    this.freeBytes += buffer.length;
    (this.free[exponentFor(buffer.length)] ??= []).push(buffer);
  }
}

function exponentFor(bytes: number): number {
  if (bytes > 2 ** 31) return Math.ceil(Math.log2(bytes));
  return Math.max(EXPONENT_MIN, 32 - Math.clz32(Math.max(bytes, 1) - 1));
}
