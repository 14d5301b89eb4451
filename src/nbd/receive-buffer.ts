/**
 * Where received bytes land, and from where they are parsed in place. Nothing is concatenated: a
 * message that is not whole yet is completed behind its first part, and moved at most once, when
 * it would not fit.
 */
import { assert } from "../errors.ts";
import type { Slab, SlabAccount } from "./slab.ts";

/** A read should have at least this much room. */
const LANDING_BYTES_MIN = 16 * 2 ** 10;
/** From this much missing, a read ends with the message: what follows starts a clean buffer. */
const EXACT_BYTES_MIN = 64 * 2 ** 10;

export class ReceiveBuffer {
  readonly #account: SlabAccount;
  #slab: Slab;
  #slabBytes: number;
  #head = 0;
  #tail = 0;
  #wantedBytes = 1;
  #skipBytes = 0;

  constructor(account: SlabAccount, slabBytes: number) {
    this.#account = account;
    this.#slab = account.take(slabBytes);
    this.#slabBytes = slabBytes;
  }

  /** The slab that holds the unparsed bytes; a reference taken on it keeps them in place. */
  get slab(): Slab {
    return this.#slab;
  }

  /** Position of the first unparsed byte in {@link slab}. */
  get head(): number {
    return this.#head;
  }

  get availableBytes(): number {
    return this.#tail - this.#head;
  }

  /** From the next landing on, slabs have at least this many bytes. */
  resize(slabBytes: number): void {
    this.#slabBytes = slabBytes;
  }

  /** The parser needs `bytes` from the head on before it can proceed. */
  want(bytes: number): void {
    this.#wantedBytes = bytes;
  }

  /** True while bytes that were skipped are still to come. */
  get skipping(): boolean {
    return this.#skipBytes > 0;
  }

  /** Drops `bytes` from the head on, those still to come included. */
  skip(bytes: number): void {
    const here = Math.min(bytes, this.availableBytes);
    this.#head += here;
    this.#skipBytes += bytes - here;
    this.#wantedBytes = 1;
  }

  /**
   * Where the next read must land. Only this moves bytes or changes the slab, so the answer holds
   * until it is asked again, however much is parsed in between.
   */
  landing(): Uint8Array {
    const unread = this.#tail - this.#head;
    const wanted = Math.max(this.#wantedBytes, unread);
    this.#makeRoom(Math.max(wanted, unread + LANDING_BYTES_MIN), unread);
    const exact = wanted - unread >= EXACT_BYTES_MIN;
    const end = exact ? this.#head + wanted : this.#slab.bytes.length;
    return this.#slab.bytes.subarray(this.#tail, end);
  }

  /** `bytes` have arrived at the last landing. */
  received(bytes: number): void {
    this.#tail += bytes;
    assert(this.#tail <= this.#slab.bytes.length, "bytes land inside the slab");
    if (this.#skipBytes === 0) return;
    const dropped = Math.min(bytes, this.#skipBytes);
    this.#head += dropped;
    this.#skipBytes -= dropped;
  }

  release(): void {
    this.#account.release(this.#slab);
  }

  /** Sees to it that `span` bytes fit from the head on, of which `unread` are here. */
  #makeRoom(span: number, unread: number): void {
    const slab = this.#slab;
    const size = slab.bytes.length;
    const shared = slab.references > 1;
    if (unread === 0 && !shared) this.#head = this.#tail = 0;
    const bytes = Math.max(span, this.#slabBytes);
    const outgrown = size < this.#slabBytes || (unread === 0 && !shared && size > 2 * bytes);
    if (this.#head + span <= size && !outgrown) return;
    if (!shared && span <= size && !outgrown) {
      slab.bytes.copyWithin(0, this.#head, this.#tail);
    } else {
      this.#slab = this.#account.take(bytes);
      slab.bytes.copy(this.#slab.bytes, 0, this.#head, this.#tail);
      this.#account.release(slab);
    }
    this.#head = 0;
    this.#tail = unread;
  }
}
