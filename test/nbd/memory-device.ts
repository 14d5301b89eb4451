/** A block device in memory that does what a test tells it: at once, later, or not at all. */
import type { BlockDevice } from "../../src/nbd/block-device.ts";

export interface Call {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly fua: boolean;
  readonly allocate?: boolean;
}

export class MemoryDevice implements BlockDevice {
  readonly bytes: Buffer;
  readonly readOnly: boolean;
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

  async #pass(call: Call): Promise<void> {
    this.calls.push(call);
    await this.gate?.(call);
  }
}
