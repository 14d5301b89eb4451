/**
 * Where received bytes land, and from where they are parsed in place. Nothing is concatenated: a
 * message that is not whole yet is completed behind its first part, and moved at most once, when
 * it would not fit.
 */
import { assert } from "../errors.ts";
import { SMALL_BYTES, type Slab, type SlabAccount } from "./slab.ts";

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
  /** Counted as held for the message that is wanted. */
  #reservedBytes = 0;

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

  /** How much memory it takes to receive the message of `bytes` at the head; 0: it is there. */
  needs(bytes: number): number {
    if (this.#reservedBytes > 0) return 0;
    const { references } = this.#slab;
    const size = this.#slab.bytes.length;
    const fits = this.#head + bytes <= size || (references === 1 && bytes <= size);
    return fits ? 0 : bytes;
  }

  /** Has memory for the message of `bytes` at the head, which was admitted. */
  reserve(bytes: number): void {
    this.#reservedBytes = this.#account.reserve(bytes);
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
    this.#unreserve();
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
    this.#unreserve();
    this.#account.release(this.#slab);
  }

  /** Sees to it that `span` bytes fit from the head on, of which `unread` are here. */
  #makeRoom(span: number, unread: number): void {
    const slab = this.#slab;
    const size = slab.bytes.length;
    const shared = slab.references > 1;
    if (unread === 0 && !shared) this.#head = this.#tail = 0;
    // A client that falls silent keeps its slab: a large one only while there is plenty.
    const base = this.#account.roomy ? this.#slabBytes : Math.min(this.#slabBytes, SMALL_BYTES);
    const bytes = Math.max(span, base);
    const outgrown = size < base || (unread === 0 && !shared && size > 2 * bytes);
    if (this.#head + span <= size && !outgrown) return;
    if (!shared && span <= size && !outgrown) {
      slab.bytes.copyWithin(0, this.#head, this.#tail);
    } else {
      this.#slab = this.#account.take(bytes);
      slab.bytes.copy(this.#slab.bytes, 0, this.#head, this.#tail);
      this.#account.release(slab);
      this.#unreserve();
    }
    this.#head = 0;
    this.#tail = unread;
  }

  #unreserve(): void {
    if (this.#reservedBytes === 0) return;
    const bytes = this.#reservedBytes;
    this.#reservedBytes = 0;
    this.#account.unreserve(bytes);
  }
}
