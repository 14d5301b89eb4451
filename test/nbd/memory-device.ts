/** A block device in memory that does what a test tells it: at once, later, or not at all. */
import type { BlockDevice, Extent, RegionExtent } from "../../src/nbd/block-device.ts";

export interface Call {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly fua: boolean;
  readonly allocate?: boolean;
}

const BLOCK_BYTES = 4096;
const REGION_BYTES = 2 ** 20;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

export class MemoryDevice implements BlockDevice {
  readonly bytes: Buffer;
  readonly readOnly: boolean;
  /** Not const: a test says whether there is a bitmap. */
  hasRegions = true;
  /** True: blocks of zeroes are known as such, as an array's Unwritten regions are. */
  knowsZeroes = false;
  /** Everything it was asked for, in order. */
  readonly calls: Call[] = [];
  /** Set: nothing is done at once, and what is asked waits for this, with the call as argument. */
  gate: ((call: Call) => Promise<void>) | null = null;

  constructor(sizeBytes: number, options: { readOnly?: boolean } = {}) {
    this.bytes = Buffer.alloc(sizeBytes);
    this.readOnly = options.readOnly ?? false;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    if (this.gate !== null) return false;
    this.bytes.copy(into, 0, offset, offset + into.length);
    return true;
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    await this.#pass({ name: "read", offset, length: into.length, fua: false });
    this.bytes.copy(into, 0, offset, offset + into.length);
  }

  tryWrite(from: Uint8Array, offset: number, fua: boolean): boolean {
    if (this.gate !== null) return false;
    this.calls.push({ name: "write", offset, length: from.length, fua });
    this.bytes.set(from, offset);
    return true;
  }

  async write(from: Uint8Array, offset: number, fua: boolean): Promise<void> {
    await this.#pass({ name: "write", offset, length: from.length, fua });
    this.bytes.set(from, offset);
  }

  async flush(): Promise<void> {
    await this.#pass({ name: "flush", offset: 0, length: 0, fua: false });
  }

  async trim(offset: number, length: number, fua: boolean): Promise<void> {
    await this.#pass({ name: "trim", offset, length, fua });
  }

  async zero(offset: number, length: number, allocate: boolean, fua: boolean): Promise<void> {
    await this.#pass({ name: "zero", offset, length, allocate, fua });
    this.bytes.fill(0, offset, offset + length);
  }

  async cache(offset: number, length: number): Promise<void> {
    await this.#pass({ name: "cache", offset, length, fua: false });
  }

  zeroesFast(_offset: number, _length: number, allocate: boolean): boolean {
    return !allocate;
  }

  zeroesAt(offset: number, length: number): number {
    if (!this.knowsZeroes) return -length;
    const { zero, end } = this.#runAt(offset, offset + length);
    return zero ? end - offset : offset - end;
  }

  async extents(offset: number, length: number, max: number): Promise<Extent[]> {
    await this.#pass({ name: "extents", offset, length, fua: false });
    const found: Extent[] = [];
    for (let at = offset; at < offset + length && found.length < max;) {
      const { zero, end } = this.#runAt(at, offset + length);
      found.push({ length: end - at, hole: zero, zero });
      at = end;
    }
    return found;
  }

  /** Every MiB is a region, whose state is its number modulo 5. */
  regionStates(offset: number, length: number, max: number): RegionExtent[] {
    const found: RegionExtent[] = [];
    for (let at = offset; at < offset + length && found.length < max;) {
      const region = Math.floor(at / REGION_BYTES);
      const end = Math.min(offset + length, (region + 1) * REGION_BYTES);
      found.push({ length: end - at, state: region % 5 });
      at = end;
    }
    return found;
  }

  /** Blocks that are all zeroes, or have something in them, from `offset` on. */
  #runAt(offset: number, limit: number): { zero: boolean; end: number } {
    let zero: boolean | null = null;
    let end = offset;
    while (end < limit) {
      const next = Math.min(limit, (Math.floor(end / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      const isZero = this.bytes.subarray(end, next).equals(ZERO_BLOCK.subarray(0, next - end));
      if (zero !== null && zero !== isZero) break;
      zero = isZero;
      end = next;
    }
    return { zero: zero === true, end };
  }

  async #pass(call: Call): Promise<void> {
    this.calls.push(call);
    await this.gate?.(call);
  }
}
