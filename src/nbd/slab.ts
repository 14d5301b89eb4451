/**
 * Buffers for the wire. A slab is a large buffer that holds many messages; whoever refers to a
 * part of it holds a reference, and the last one to let go returns it to the pool.
 */
import { assert } from "../errors.ts";

export interface Slab {
  readonly bytes: Buffer;
  /** The same memory, for integers. */
  readonly view: DataView;
  references: number;
}

/** Slabs are a power of two and this much, so that a round payload fits with its header. */
const HEADROOM_BYTES = 4096;
const EXPONENT_MIN = 14;
/** Free slabs are kept up to this many bytes; touched memory is what makes them worth keeping. */
const FREE_BYTES_MAX = 64 * 2 ** 20;

function exponentFor(bytes: number): number {
  return Math.max(EXPONENT_MIN, 32 - Math.clz32(Math.max(bytes - HEADROOM_BYTES, 1) - 1));
}

/** One a server. Last in, first out: the slab handed out is the one the CPU caches know. */
export class SlabPool {
  readonly #free: Slab[][] = [];
  #freeBytes = 0;
  readonly #heldBytesMax: number;
  #heldBytes = 0;

  /** More than `heldBytesMax` can be handed out; it is `scarce` then. */
  constructor(heldBytesMax = Infinity) {
    this.#heldBytesMax = heldBytesMax;
  }

  /** Handed out and not given back. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** More is handed out than should be: holders ought to do with little. */
  get scarce(): boolean {
    return this.#heldBytes > this.#heldBytesMax;
  }

  take(bytes: number): Slab {
    const exponent = exponentFor(bytes);
    const slab = this.#free[exponent]?.pop();
    if (slab !== undefined) {
      this.#freeBytes -= slab.bytes.length;
      this.#heldBytes += slab.bytes.length;
      slab.references = 1;
      return slab;
    }
    const memory = Buffer.allocUnsafeSlow(2 ** exponent + HEADROOM_BYTES);
    this.#heldBytes += memory.length;
    return { bytes: memory, view: new DataView(memory.buffer), references: 1 };
  }

  give(slab: Slab): void {
    this.#heldBytes -= slab.bytes.length;
    if (this.#freeBytes + slab.bytes.length > FREE_BYTES_MAX) return;
    this.#freeBytes += slab.bytes.length;
    (this.#free[exponentFor(slab.bytes.length)] ??= []).push(slab);
  }
}

/** The slabs of one connection: counts what it holds. */
export class SlabAccount {
  readonly #pool: SlabPool;
  #heldBytes = 0;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** All connections together hold more than they should. */
  get scarce(): boolean {
    return this.#pool.scarce;
  }

  /** A slab of at least `bytes`, with one reference. */
  take(bytes: number): Slab {
    const slab = this.#pool.take(bytes);
    this.#heldBytes += slab.bytes.length;
    return slab;
  }

  release(slab: Slab): void {
    assert(slab.references > 0, "a slab is released once a reference");
    if (--slab.references > 0) return;
    this.#heldBytes -= slab.bytes.length;
    this.#pool.give(slab);
  }
}
