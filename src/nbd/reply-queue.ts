/**
 * Replies on their way out. They are built in place in a slab, header and data together, and
 * everything ready at a time leaves in one write. One write is under way at a time: what becomes
 * ready meanwhile joins the next.
 */
import { SMALL_BYTES, type Slab, type SlabAccount } from "./slab.ts";

const SLAB_BYTES = 256 * 2 ** 10;

/** Part of a slab; holds a reference on it. */
export interface Piece {
  readonly slab: Slab;
  readonly start: number;
  readonly end: number;
}

/** Sends all chunks in one write and calls back once they are no longer needed, sent or not. */
export type Send = (chunks: readonly Uint8Array[], sent: () => void) => void;

export class ReplyQueue {
  readonly #account: SlabAccount;
  readonly #send: Send;
  readonly #onSent: () => void;
  #slab: Slab | null = null;
  /** The run: replies in #slab from #start to #end, not yet a piece. */
  #start = 0;
  #end = 0;
  #pieces: Piece[] = [];
  #readyBytes = 0;
  #sending = false;

  /** `onSent` is called after each write, when there is room again. */
  constructor(account: SlabAccount, send: Send, onSent: () => void) {
    this.#account = account;
    this.#send = send;
    this.#onSent = onSent;
  }

  /** True if nothing waits or is being sent. */
  get idle(): boolean {
    return !this.#sending && this.#pieces.length === 0 && this.#start === this.#end;
  }

  /** Replies that wait apart from the run; grows only with replies that came late. */
  get pieces(): number {
    return this.#pieces.length;
  }

  /** Bytes of replies that are ready and wait for the write under way, or for the next turn. */
  get readyBytes(): number {
    return this.#readyBytes;
  }

  /** Where the next reply goes in the slab that {@link room} returned. */
  get position(): number {
    return this.#end;
  }

  /** How much memory a reply of `bytes` takes; 0: there is room. */
  needs(bytes: number): number {
    return this.#slab !== null && this.#end + bytes <= this.#slab.bytes.length ? 0 : bytes;
  }

  /** A slab with room for a reply of `bytes` at {@link position}. */
  room(bytes: number): Slab {
    let slab = this.#slab;
    if (slab !== null && this.#end + bytes <= slab.bytes.length) return slab;
    if (slab !== null) {
      this.#cut();
      this.#account.release(slab);
    }
    slab = this.#slab = this.#account.take(
      Math.max(bytes, this.#account.scarce ? SMALL_BYTES : SLAB_BYTES),
    );
    this.#start = this.#end = 0;
    return slab;
  }

  /** The reply written into the room, `bytes` long, is ready. */
  commit(bytes: number): void {
    this.#end += bytes;
    this.#readyBytes += bytes;
  }

  /** Sets the room aside for a reply that is ready later, in whatever order: see {@link queue}. */
  reserve(bytes: number): Piece {
    const slab = this.room(bytes);
    this.#cut();
    this.#start = this.#end += bytes;
    slab.references++;
    return { slab, start: this.#end - bytes, end: this.#end };
  }

  /** A reserved reply is ready. */
  queue(piece: Piece): void {
    this.#pieces.push(piece);
    this.#readyBytes += piece.end - piece.start;
  }

  /** A reserved reply will not be sent: another takes its place. */
  drop(piece: Piece): void {
    this.#account.release(piece.slab);
  }

  /** A reply that was built elsewhere. */
  put(bytes: Uint8Array): void {
    this.room(bytes.length).bytes.set(bytes, this.#end);
    this.commit(bytes.length);
  }

  /** Sends all that is ready, unless a write is under way. */
  flush(): void {
    if (this.#sending) return;
    this.#cut();
    const pieces = this.#pieces;
    if (pieces.length === 0) return;
    this.#pieces = [];
    this.#readyBytes = 0;
    this.#sending = true;
    const chunks = pieces.map(({ slab, start, end }) => slab.bytes.subarray(start, end));
    this.#send(chunks, () => {
      for (const piece of pieces) this.#account.release(piece.slab);
      this.#sending = false;
      this.#letGo();
      this.#onSent();
    });
  }

  /** Turns the run into a piece. */
  #cut(): void {
    if (this.#slab === null || this.#start === this.#end) return;
    this.#slab.references++;
    this.#pieces.push({ slab: this.#slab, start: this.#start, end: this.#end });
    this.#start = this.#end;
  }

  /** A slab with nothing in it goes back to the pool: an idle connection keeps none. */
  #letGo(): void {
    if (this.#slab === null || this.#slab.references > 1 || this.#start !== this.#end) return;
    this.#account.release(this.#slab);
    this.#slab = null;
  }
}
