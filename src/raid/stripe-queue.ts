import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { LegFailure } from "./level.ts";
import type { Piece } from "./stripe-plan.ts";

/**
 * Writes the pieces of one stripe, which has no other write under way; the legs that failed. Rejects
 * with an NbdRaidError or a MemberError only if it has written nothing.
 */
export type StripeWriter<L> = (
  stripe: number,
  pieces: readonly Piece[],
) => Promise<readonly LegFailure<L>[]>;

/** How long the start of a stripe waits for the rest, where a stream of writes brings it. */
const HOLD_MS = 4;
/** Streams that ended, or that wait for their answers, are not waited for again so soon. */
const HOLD_PAUSES_MAX = 64;

/** One write, in as many stripes as it touches. */
class Waiter<L> {
  readonly done: Promise<LegFailure<L>[]>;
  private readonly failures: LegFailure<L>[] = [];
  private error: unknown = null;
  private open: number;
  private resolve!: (failures: LegFailure<L>[]) => void;
  private reject!: (error: unknown) => void;

  constructor(stripes: number) {
    this.open = stripes;
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  succeeded(failures: readonly LegFailure<L>[]): void {
    this.failures.push(...failures);
    this.settle();
  }

  failed(error: unknown): void {
    this.error ??= error;
    this.settle();
  }

  /** Settles when no stripe is under way any more: until then the client's buffer is in use. */
  private settle(): void {
    if (--this.open > 0) return;
    if (this.error !== null) this.reject(this.error);
    else this.resolve(this.failures);
  }
}

/** What waits for its turn in one stripe. */
interface Stripe<L> {
  readonly number: number;
  pieces: Piece[];
  bytes: number;
  waiters: Waiter<L>[];
  /** By waiter: where its pieces end, which begin where those of the one before do. */
  ends: number[];
  writing: boolean;
  /** Waits for a flush, or for the rest of a stream. */
  listed: boolean;
  cancelHold: (() => void) | null;
}

/**
 * Brings writes to the same stripe together. A stripe has one writer at a time; what comes
 * meanwhile is written as one when that has ended. A stripe that is whole is written at once; a
 * part of one when what has arrived is dealt with, so that the neighbours can join it; and the
 * start of a stripe, which is what a sequential stream leaves behind, a little later still, as
 * long as that pays.
 */
export class StripeQueue<L> {
  private readonly stripeBytes: number;
  private readonly chunkBytes: number;
  private readonly write: StripeWriter<L>;
  private readonly clock: Clock;
  private readonly stripes = new Map<number, Stripe<L>>();
  private listed: Stripe<L>[] = [];
  private flushing = false;
  /** Holds that are left out, after as many as that came to nothing. */
  private pauses = 0;
  private pausesNext = 1;

  constructor(stripeBytes: number, chunkBytes: number, write: StripeWriter<L>, clock: Clock) {
    this.stripeBytes = stripeBytes;
    this.chunkBytes = chunkBytes;
    this.write = write;
    this.clock = clock;
  }

  /** Writes [offset, offset + from.length) of the array; the legs that failed. */
  add(from: Uint8Array, offset: number): Promise<LegFailure<L>[]> {
    const { stripeBytes } = this;
    const end = offset + from.length;
    const first = Math.floor(offset / stripeBytes);
    const last = Math.floor((end - 1) / stripeBytes);
    const waiter = new Waiter<L>(last - first + 1);
    for (let number = first; number <= last; number++) {
      const start = number * stripeBytes;
      const part = from.subarray(Math.max(0, start - offset), start + stripeBytes - offset);
      this.addTo(this.stripe(number), part, Math.max(0, offset - start), waiter);
    }
    return waiter.done;
  }

  /** True if nothing waits in the stripe or is under way there. */
  isIdle(stripe: number): boolean {
    return !this.stripes.has(stripe);
  }

  /** What is added to a stripe that is idle now waits until `work` has ended. */
  occupy(stripe: number, work: Promise<unknown>): void {
    const occupied = this.stripe(stripe);
    occupied.writing = true;
    const end = (): void => this.ended(occupied);
    work.then(end, end);
  }

  private stripe(number: number): Stripe<L> {
    let stripe = this.stripes.get(number);
    if (stripe === undefined) {
      const none = { pieces: [], bytes: 0, waiters: [], ends: [] };
      stripe = { number, ...none, writing: false, listed: false, cancelHold: null };
      this.stripes.set(number, stripe);
    }
    return stripe;
  }

  /** `start`: offset in the stripe. */
  private addTo(stripe: Stripe<L>, part: Uint8Array, start: number, waiter: Waiter<L>): void {
    const { chunkBytes } = this;
    for (let at = 0; at < part.length;) {
      const inChunk = (start + at) % chunkBytes;
      const bytes = part.subarray(at, at + chunkBytes - inChunk);
      stripe.pieces.push({ index: Math.floor((start + at) / chunkBytes), start: inChunk, bytes });
      at += bytes.length;
    }
    stripe.bytes += part.length;
    stripe.waiters.push(waiter);
    stripe.ends.push(stripe.pieces.length);
    this.consider(stripe);
  }

  private consider(stripe: Stripe<L>): void {
    if (stripe.writing) return;
    if (stripe.bytes === this.stripeBytes) {
      if (stripe.cancelHold !== null) this.pausesNext = 1;
      void this.run(stripe);
    } else if (!stripe.listed) {
      stripe.listed = true;
      this.listed.push(stripe);
      if (this.flushing) return;
      this.flushing = true;
      this.clock.soon(() => this.flush());
    }
  }

  private flush(): void {
    this.flushing = false;
    for (const stripe of this.listed.splice(0)) {
      if (!stripe.listed || stripe.writing) continue;
      if (this.isStart(stripe) && this.mayHold()) this.hold(stripe);
      else void this.run(stripe);
    }
  }

  /** True if the pieces are the first bytes of the stripe, without a gap. */
  private isStart({ pieces, bytes }: Stripe<L>): boolean {
    const { chunkBytes } = this;
    return pieces.every(
      ({ index, start, bytes: { length } }) => index * chunkBytes + start + length <= bytes,
    );
  }

  private mayHold(): boolean {
    if (this.pauses === 0) return true;
    this.pauses--;
    return false;
  }

  private hold(stripe: Stripe<L>): void {
    stripe.cancelHold = this.clock.after(HOLD_MS, () => {
      this.pauses = this.pausesNext;
      this.pausesNext = Math.min(2 * this.pausesNext, HOLD_PAUSES_MAX);
      void this.run(stripe);
    });
  }

  private async run(stripe: Stripe<L>): Promise<void> {
    stripe.cancelHold?.();
    stripe.cancelHold = null;
    stripe.listed = false;
    stripe.writing = true;
    const { pieces, waiters, ends } = stripe;
    stripe.pieces = [];
    stripe.bytes = 0;
    stripe.waiters = [];
    stripe.ends = [];
    try {
      const failures = await this.write(stripe.number, pieces);
      for (const waiter of waiters) waiter.succeeded(failures);
    } catch (error) {
      const refused = error instanceof NbdRaidError || error instanceof MemberError;
      if (!refused || waiters.length === 1) for (const waiter of waiters) waiter.failed(error);
      else await this.runEach(stripe.number, pieces, waiters, ends);
    }
    this.ended(stripe);
  }

  /** Together they were refused: each by itself may do, and is told why if it does not. */
  private async runEach(
    number: number,
    pieces: readonly Piece[],
    waiters: readonly Waiter<L>[],
    ends: readonly number[],
  ): Promise<void> {
    for (const [index, waiter] of waiters.entries()) {
      const own = pieces.slice(index === 0 ? 0 : ends[index - 1], ends[index]);
      try {
        waiter.succeeded(await this.write(number, own));
      } catch (error) {
        waiter.failed(error);
      }
    }
  }

  private ended(stripe: Stripe<L>): void {
    stripe.writing = false;
    if (stripe.pieces.length === 0) this.stripes.delete(stripe.number);
    else this.consider(stripe);
  }
}
