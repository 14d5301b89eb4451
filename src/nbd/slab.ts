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

/**
 * So much each connection may take for a request, and to receive the next, whatever others hold:
 * small requests are served one at a time even when memory is scarce.
 */
export const SMALL_BYTES = 64 * 2 ** 10;

/** Landing, request and reply that each are small. */
const SMALL_MESSAGES = 3;

function exponentFor(bytes: number): number {
  return Math.max(EXPONENT_MIN, 32 - Math.clz32(Math.max(bytes - HEADROOM_BYTES, 1) - 1));
}

function slabBytes(bytes: number): number {
  return 2 ** exponentFor(bytes) + HEADROOM_BYTES;
}

/**
 * One a server. Last in, first out: the slab handed out is the one the CPU caches know.
 *
 * What is larger than {@link SMALL_BYTES} is asked for by {@link SlabPool.admit}, and waits in line
 * while it does not fit. The first in line may exceed the limit, one account at a time: so somebody
 * always goes on, whatever the others hold and however large the request is. When that account has
 * given back what it got, which takes its client, or the guard if the client is stuck, the next may.
 * What it got may be given back only with its next message, whose first bytes arrived behind the
 * last one: so it may take a second message while it holds no more than one.
 * Held is therefore never more than the limit, two largest messages, and the small ones.
 */
export class SlabPool {
  readonly #free: Slab[][] = [];
  #freeBytes = 0;
  readonly #heldBytesMax: number;
  #heldBytes = 0;
  /** Who waits for memory, first come first, and for how much. */
  readonly #line = new Map<SlabAccount, number>();
  /** Who was let beyond the limit, what it held before, and what it may hold at most. */
  #beyond: {
    readonly account: SlabAccount;
    readonly heldBytes: number;
    readonly heldBytesMax: number;
  } | null = null;

  constructor(heldBytesMax = Infinity) {
    this.#heldBytesMax = heldBytesMax;
  }

  /** Handed out or promised, and not given back. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Somebody waits, or would have to: holders ought to do with little. */
  get scarce(): boolean {
    return this.#line.size > 0 || this.#heldBytes + SMALL_BYTES > this.#heldBytesMax;
  }

  /** Half of what there may be is left: large buffers may be had for speed alone. */
  get roomy(): boolean {
    return this.#line.size === 0 && this.#heldBytes <= this.#heldBytesMax / 2;
  }

  /** How much has to come back until the first in line can go on; 0: nobody is held up. */
  get missingBytes(): number {
    const [wanted = SMALL_BYTES] = this.#line.values();
    return Math.max(0, this.#heldBytes + wanted - this.#heldBytesMax);
  }

  /** True: `bytes` may be taken now, by this account. False: it is in line, and will be called. */
  admit(account: SlabAccount, bytes: number): boolean {
    const size = slabBytes(bytes);
    const [first = account] = this.#line.keys();
    if (first !== account || !this.#mayTake(account, size)) {
      this.#line.set(account, size);
      return false;
    }
    if (this.#beyond === null && this.#heldBytes + size > this.#heldBytesMax) {
      const { heldBytes } = account;
      this.#beyond = { account, heldBytes, heldBytesMax: heldBytes + 2 * size };
    }
    this.leave(account);
    return true;
  }

  /** It does not wait any longer. */
  leave(account: SlabAccount): void {
    if (this.#line.size > 0 && this.#line.delete(account)) this.#callFirst();
  }

  /** Promises `bytes` to an account, which it counts as held. */
  reserve(bytes: number): number {
    const size = slabBytes(bytes);
    this.#heldBytes += size;
    return size;
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
    const memory = Buffer.allocUnsafeSlow(slabBytes(bytes));
    this.#heldBytes += memory.length;
    this.#trim();
    return { bytes: memory, view: new DataView(memory.buffer), references: 1 };
  }

  /** To be followed by {@link returned}. */
  give(slab: Slab): void {
    this.#heldBytes -= slab.bytes.length;
    this.#freeBytes += slab.bytes.length;
    (this.#free[exponentFor(slab.bytes.length)] ??= []).push(slab);
    this.#trim();
  }

  unreserve(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  /** The account holds less than before. */
  returned(account: SlabAccount): void {
    const beyond = this.#beyond;
    if (beyond !== null) {
      const small = SMALL_MESSAGES * slabBytes(SMALL_BYTES);
      const isBack =
        beyond.account === account && account.heldBytes <= Math.max(beyond.heldBytes, small);
      if (isBack || this.#heldBytes <= this.#heldBytesMax) this.#beyond = null;
    }
    if (this.#line.size > 0) this.#callFirst();
  }

  #mayTake(account: SlabAccount, size: number): boolean {
    const beyond = this.#beyond;
    if (beyond === null || this.#heldBytes + size <= this.#heldBytesMax) return true;
    if (beyond.account !== account) return false;
    const most = Math.max(beyond.heldBytesMax, beyond.heldBytes + 2 * size);
    return account.heldBytes + size <= most;
  }

  #callFirst(): void {
    const [first] = this.#line;
    if (first !== undefined && this.#mayTake(...first)) first[0].call();
  }

  /** Free slabs are memory too: kept as far as the limit allows, the largest go first. */
  #trim(): void {
    const max = Math.min(FREE_BYTES_MAX, Math.max(0, this.#heldBytesMax - this.#heldBytes));
    for (let i = this.#free.length - 1; i >= 0 && this.#freeBytes > max; i--) {
      const slabs = this.#free[i] ?? [];
      while (slabs.length > 0 && this.#freeBytes > max) {
        this.#freeBytes -= slabs.pop()?.bytes.length ?? 0;
      }
    }
  }
}

/** The slabs of one connection: counts what it holds. */
export class SlabAccount {
  /** There may be memory now for what {@link admit} had wait: it is to be asked again. */
  readonly call: () => void;
  readonly #pool: SlabPool;
  #heldBytes = 0;

  constructor(pool: SlabPool, call: () => void = () => {}) {
    this.#pool = pool;
    this.call = call;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** All connections together hold about as much as they should. */
  get scarce(): boolean {
    return this.#pool.scarce;
  }

  get roomy(): boolean {
    return this.#pool.roomy;
  }

  /** See {@link SlabPool.admit}. */
  admit(bytes: number): boolean {
    return this.#pool.admit(this, bytes);
  }

  leave(): void {
    this.#pool.leave(this);
  }

  /** Counts memory that will be taken; returns how much to {@link unreserve} once that is done. */
  reserve(bytes: number): number {
    const size = this.#pool.reserve(bytes);
    this.#heldBytes += size;
    return size;
  }

  unreserve(size: number): void {
    this.#heldBytes -= size;
    this.#pool.unreserve(size);
    this.#pool.returned(this);
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
    this.#pool.returned(this);
  }
}
