/** What a slot is to a sync. */
export const SyncRole = { None: 0, InSync: 1, Target: 2 } as const;
export type SyncRole = (typeof SyncRole)[keyof typeof SyncRole];

const Word = {
  Stop: 0,
  Cursor: 1,
  Copied: 2,
  Skipped: 3,
  Answered: 4,
  LimitKiB: 5,
  WaitsForSpace: 6,
  Count: 8,
} as const;
/** Bytes: more than an Int32 holds. The sync's thread alone writes them. */
const Tally = { Read: 0, Written: 1, Mismatch: 2, Count: 3 } as const;
const SLOTS_MAX = 384;
const TALLY_OFFSET = 4 * (Word.Count + 2 * SLOTS_MAX);

/**
 * The words a sync and the array around it share: what each slot is to the sync now, the order
 * in which sources are tried, stop and speed limit on the way in; progress on the way out.
 */
export class SyncControl {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly roles: Int32Array;
  private readonly ranks: Int32Array;
  private readonly tallies: Float64Array;

  constructor(buffer = new SharedArrayBuffer(TALLY_OFFSET + 8 * Tally.Count)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, Word.Count);
    this.roles = new Int32Array(buffer, 4 * Word.Count, SLOTS_MAX);
    this.ranks = new Int32Array(buffer, 4 * (Word.Count + SLOTS_MAX), SLOTS_MAX);
    this.tallies = new Float64Array(buffer, TALLY_OFFSET, Tally.Count);
  }

  setSlot(slot: number, role: SyncRole, rank: number): void {
    Atomics.store(this.ranks, slot, rank);
    Atomics.store(this.roles, slot, role);
  }

  role(slot: number): SyncRole {
    return Atomics.load(this.roles, slot) as SyncRole;
  }

  /** Slots of this role, the one to be read first in front. */
  slots(role: SyncRole): number[] {
    const found: number[] = [];
    for (let slot = 0; slot < SLOTS_MAX; slot++) if (this.role(slot) === role) found.push(slot);
    return found.sort((a, b) => Atomics.load(this.ranks, a) - Atomics.load(this.ranks, b));
  }

  stop(): void {
    Atomics.store(this.words, Word.Stop, 1);
    Atomics.notify(this.words, Word.Stop);
  }

  get stopping(): boolean {
    return Atomics.load(this.words, Word.Stop) !== 0;
  }

  /** For the next run with these words: it goes on at the cursor, and its progress adds up. */
  resume(): void {
    Atomics.store(this.words, Word.Stop, 0);
    this.waitsForSpace = false;
    this.roles.fill(SyncRole.None);
  }

  /** Sleeps this thread; a stop wakes it. */
  sleepBlocking(ms: number): void {
    Atomics.wait(this.words, Word.Stop, 0, ms);
  }

  /** Bytes a second, 0 for no limit. */
  get limit(): number {
    return Atomics.load(this.words, Word.LimitKiB) * 1024;
  }

  set limit(bytesPerSecond: number) {
    Atomics.store(this.words, Word.LimitKiB, Math.min(Math.ceil(bytesPerSecond / 1024), 2 ** 30));
  }

  get waitsForSpace(): boolean {
    return Atomics.load(this.words, Word.WaitsForSpace) !== 0;
  }

  set waitsForSpace(waits: boolean) {
    Atomics.store(this.words, Word.WaitsForSpace, waits ? 1 : 0);
  }

  /** Every region below the cursor is finished. */
  get cursor(): number {
    return Atomics.load(this.words, Word.Cursor);
  }

  set cursor(region: number) {
    Atomics.store(this.words, Word.Cursor, region);
  }

  get copied(): number {
    return Atomics.load(this.words, Word.Copied);
  }

  get skipped(): number {
    return Atomics.load(this.words, Word.Skipped);
  }

  countCopied(regions: number): void {
    Atomics.add(this.words, Word.Copied, regions);
  }

  countSkipped(regions: number): void {
    Atomics.add(this.words, Word.Skipped, regions);
  }

  get readBytes(): number {
    return this.tallies[Tally.Read]!;
  }

  get writtenBytes(): number {
    return this.tallies[Tally.Written]!;
  }

  /** Bytes that were found not to be as they should, in whole units of comparison. */
  get mismatchBytes(): number {
    return this.tallies[Tally.Mismatch]!;
  }

  countRead(bytes: number): void {
    this.tallies[Tally.Read] = this.readBytes + bytes;
  }

  countWritten(bytes: number): void {
    this.tallies[Tally.Written] = this.writtenBytes + bytes;
  }

  countMismatch(bytes: number): void {
    this.tallies[Tally.Mismatch] = this.mismatchBytes + bytes;
  }

  // A question to the array (a failed member): the sync thread sleeps until it is answered.

  get answers(): number {
    return Atomics.load(this.words, Word.Answered);
  }

  answer(): void {
    Atomics.add(this.words, Word.Answered, 1);
    Atomics.notify(this.words, Word.Answered);
  }

  awaitAnswerBlocking(answersBefore: number): void {
    while (this.answers === answersBefore) Atomics.wait(this.words, Word.Answered, answersBefore);
  }
}
