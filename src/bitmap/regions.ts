import { totalmem } from "node:os";
import { assert, NbdRaidError } from "../errors.ts";
import { type Action, type Conditions, nextState, State, STATE_COUNT } from "./transitions.ts";

/** Regions that are written together, as a block: the unit of durable marks. */
export const REGIONS_PER_BLOCK = 512;
/** States that share one suspend flag and one write stamp (md: a page of the bitmap). */
export const REGIONS_PER_PAGE = 4096;

/**
 * How far members in sync are believed to fit together in a region.
 *
 * - Unbuilt: parity was never made here, but for what was written since. What it implies of a chunk
 *   that is lost is right where something was written, and stays what it is elsewhere; but it must
 *   not be modified on trust.
 * - Suspect: a write may have been cut short here. Nothing is made of parity.
 */
export const Doubt = { None: 0, Unbuilt: 1, Suspect: 2 } as const;
export type Doubt = (typeof Doubt)[keyof typeof Doubt];

/** Int32 words before the arrays. */
const Word = {
  WindowFirst: 0,
  WindowEnd: 1,
  Bell: 2,
  Waiters: 3,
  Barred: 4,
  Watched: 5,
  Count: 6,
} as const;
/** Instead of the region that is watched: a doubt has arisen there. */
const DISTURBED = -1;

/** What a thread needs to attach to the same regions. */
export interface SharedRegions {
  readonly buffer: SharedArrayBuffer;
  readonly count: number;
  readonly regionBytes: number;
  readonly trackedBytes: number;
}

export interface StateCounts {
  unwritten: number;
  clean: number;
  dirty: number;
  needSync: number;
  syncing: number;
}

/**
 * The regions of one array in shared memory: states, in-flight counts, suspect flags, write
 * stamps and suspend flags of pages, and the sync window. Every access is by Atomics
 * (sequentially consistent), from any thread.
 *
 * The barrier is Dekker's: a writer adds to the counts, then looks at window and suspend flag;
 * the sync sets the window, then looks at the counts. One of the two sees the other.
 */
export class Regions {
  readonly count: number;
  readonly regionBytes: number;
  readonly trackedBytes: number;
  readonly blocks: number;
  readonly pages: number;
  readonly shared: SharedRegions;
  /** Resolvers of this thread's waiters when sync and daemon run on this thread too. */
  private readonly local: (() => void)[] = [];
  private readonly words: Int32Array;
  private readonly inFlight: Int32Array;
  private readonly stamps: Int32Array;
  private readonly suspended: Int32Array;
  private readonly states: Uint8Array;
  private readonly doubts: Uint8Array;
  private readonly changedBlocks: Uint8Array;
  /** The sync runs on this thread (simulations): waiters are woken here, in a fixed order. */
  private readonly oneThread: boolean;

  private constructor(shared: SharedRegions, oneThread: boolean) {
    this.shared = shared;
    this.count = shared.count;
    this.regionBytes = shared.regionBytes;
    this.trackedBytes = shared.trackedBytes;
    this.blocks = Math.ceil(this.count / REGIONS_PER_BLOCK);
    this.pages = Math.ceil(this.count / REGIONS_PER_PAGE);
    this.oneThread = oneThread;
    const view = slicer(shared.buffer);
    this.words = view.int32(Word.Count);
    this.inFlight = view.int32(this.count);
    this.stamps = view.int32(this.pages);
    this.suspended = view.int32(this.pages);
    this.states = view.bytes(this.count);
    this.doubts = view.bytes(this.count);
    this.changedBlocks = view.bytes(this.blocks);
  }

  /**
   * New regions, all Unwritten. `regionBytes` is a power of two; the last may be shorter.
   * Throws superblock-unsupported where they do not fit in memory: md makes bitmaps of any size.
   */
  static create(trackedBytes: number, regionBytes: number, oneThread = false): Regions {
    const count = Math.ceil(trackedBytes / regionBytes);
    assert(count > 0, "an array tracks at least one region");
    const pages = Math.ceil(count / REGIONS_PER_PAGE);
    const blocks = Math.ceil(count / REGIONS_PER_BLOCK);
    const bytes = 4 * (Word.Count + count + 2 * pages) + 2 * count + blocks;
    const buffer = allocate(bytes, count, regionBytes);
    return new Regions({ buffer, count, regionBytes, trackedBytes }, oneThread);
  }

  /** The same regions, seen from another thread. */
  static attach(shared: SharedRegions): Regions {
    return new Regions(shared, false);
  }

  /** The region that holds this byte offset of the tracked space. */
  at(offset: number): number {
    return Math.floor(offset / this.regionBytes);
  }

  state(region: number): State {
    return Atomics.load(this.states, region) as State;
  }

  /** Any region of [first, last] that reads must not spread over members (rule "pinned reads"). */
  anyPinned(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) {
      if (Atomics.load(this.states, region) >= State.NeedSync) return true;
    }
    return false;
  }

  everyUnwritten(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) {
      if (Atomics.load(this.states, region) !== State.Unwritten) return false;
    }
    return true;
  }

  /**
   * The first region behind `first` whose state is of another kind, or `end`. `kinds` has a number
   * for each state; states with the same one are alike.
   */
  runEnd(first: number, end: number, kinds: readonly number[]): number {
    const kind = kinds[this.state(first)];
    let region = first + 1;
    while (region < end && kinds[Atomics.load(this.states, region)] === kind) region++;
    return region;
  }

  /** Applies `action` atomically; the state before it. */
  apply(region: number, action: Action, conditions: Conditions): State {
    for (;;) {
      const before = Atomics.load(this.states, region) as State;
      const after = nextState(before, action, conditions);
      if (after === before) return before;
      if (Atomics.compareExchange(this.states, region, before, after) === before) {
        Atomics.store(this.changedBlocks, Math.floor(region / REGIONS_PER_BLOCK), 1);
        return before;
      }
    }
  }

  /** Sets a state outright: loading, and a write that failed for want of space. */
  force(region: number, state: State): void {
    Atomics.store(this.states, region, state);
    Atomics.store(this.changedBlocks, Math.floor(region / REGIONS_PER_BLOCK), 1);
  }

  doubt(region: number): Doubt {
    return Atomics.load(this.doubts, region) as Doubt;
  }

  setDoubt(region: number, doubt: Doubt): void {
    Atomics.store(this.doubts, region, doubt);
    if (doubt === Doubt.None) return;
    Atomics.compareExchange(this.words, Word.Watched, region + 1, DISTURBED);
  }

  isSuspect(region: number): boolean {
    return this.doubt(region) === Doubt.Suspect;
  }

  setSuspect(region: number, suspect: boolean): void {
    this.setDoubt(region, suspect ? Doubt.Suspect : Doubt.None);
  }

  anyDoubtIn(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) {
      if (this.doubt(region) !== Doubt.None) return true;
    }
    return false;
  }

  anySuspectIn(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) if (this.isSuspect(region)) return true;
    return false;
  }

  suspectBytes(): number {
    let count = 0;
    for (const doubt of this.doubts) if (doubt === Doubt.Suspect) count++;
    return Math.min(count * this.regionBytes, this.trackedBytes);
  }

  anySuspect(): boolean {
    return this.doubts.includes(Doubt.Suspect);
  }

  // ---- writers

  /** Enters a writer into [first, last], or returns false: a window or a suspended page is there. */
  tryEnter(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) Atomics.add(this.inFlight, region, 1);
    if (this.barred(first, last)) {
      this.leave(first, last);
      return false;
    }
    const lastPage = Math.floor(last / REGIONS_PER_PAGE);
    for (let page = Math.floor(first / REGIONS_PER_PAGE); page <= lastPage; page++) {
      Atomics.add(this.stamps, page, 1);
    }
    return true;
  }

  /** Resolves when the writer is in: waits for the window and for suspended pages only. */
  async enter(first: number, last: number): Promise<void> {
    if (this.tryEnter(first, last)) return;
    Atomics.add(this.words, Word.Barred, 1);
    do await this.untilNot(() => this.barred(first, last));
    while (!this.tryEnter(first, last));
    Atomics.sub(this.words, Word.Barred, 1);
    if (Atomics.load(this.words, Word.Waiters) !== 0) this.ring();
  }

  leave(first: number, last: number): void {
    for (let region = first; region <= last; region++) Atomics.sub(this.inFlight, region, 1);
    if (Atomics.load(this.words, Word.Waiters) !== 0) this.ring();
  }

  private barred(first: number, last: number): boolean {
    if (
      first < Atomics.load(this.words, Word.WindowEnd) &&
      last >= Atomics.load(this.words, Word.WindowFirst)
    ) {
      return true;
    }
    const lastPage = Math.floor(last / REGIONS_PER_PAGE);
    for (let page = Math.floor(first / REGIONS_PER_PAGE); page <= lastPage; page++) {
      if (Atomics.load(this.suspended, page) !== 0) return true;
    }
    return false;
  }

  isIdle(first: number, end: number): boolean {
    for (let region = first; region < end; region++) {
      if (Atomics.load(this.inFlight, region) !== 0) return false;
    }
    return true;
  }

  // ---- the sync window: [first, end), one an array

  openWindow(first: number, end: number): void {
    // While the end is 0 the window bars nobody; it opens with the second store.
    Atomics.store(this.words, Word.WindowFirst, first);
    Atomics.store(this.words, Word.WindowEnd, end);
  }

  closeWindow(): void {
    Atomics.store(this.words, Word.WindowEnd, 0);
    this.ring();
  }

  /** Blocks this thread until no writer is in [first, end). Not for the main thread. */
  drainBlocking(first: number, end: number): void {
    this.awaitBlocking(() => this.isIdle(first, end));
  }

  /** Resolves when no writer is in [first, end). */
  drain(first: number, end: number): Promise<void> {
    return this.awaited(() => this.isIdle(first, end));
  }

  /**
   * Blocks this thread until every writer that a window has barred is in: else the next window over
   * the same regions could bar it again, and so on. Not for the main thread.
   */
  admitBlocking(): void {
    this.awaitBlocking(() => this.nobodyBarred);
  }

  /** Resolves when every writer that a window has barred is in. */
  async admit(): Promise<void> {
    if (!this.nobodyBarred) await this.awaited(() => this.nobodyBarred);
  }

  private get nobodyBarred(): boolean {
    return Atomics.load(this.words, Word.Barred) === 0;
  }

  private awaitBlocking(isSo: () => boolean): void {
    Atomics.add(this.words, Word.Waiters, 1);
    for (;;) {
      const bell = Atomics.load(this.words, Word.Bell);
      if (isSo()) break;
      Atomics.wait(this.words, Word.Bell, bell);
    }
    Atomics.sub(this.words, Word.Waiters, 1);
  }

  private async awaited(isSo: () => boolean): Promise<void> {
    Atomics.add(this.words, Word.Waiters, 1);
    await this.untilNot(() => !isSo());
    Atomics.sub(this.words, Word.Waiters, 1);
  }

  // ---- the region that is synced in several windows

  /** From now on a doubt that arises in the region disturbs the sync. */
  watch(region: number): void {
    Atomics.store(this.words, Word.Watched, region + 1);
  }

  unwatch(): void {
    Atomics.store(this.words, Word.Watched, 0);
  }

  /** A doubt has arisen in the region that is watched: what was copied there may differ again. */
  get isDisturbed(): boolean {
    return Atomics.load(this.words, Word.Watched) === DISTURBED;
  }

  private ring(): void {
    Atomics.add(this.words, Word.Bell, 1);
    Atomics.notify(this.words, Word.Bell);
    for (const wake of this.local.splice(0)) wake();
  }

  /** Looks again after each bell; the bell is read before the look, so that none is missed. */
  private async untilNot(blocked: () => boolean): Promise<void> {
    for (;;) {
      const bell = Atomics.load(this.words, Word.Bell);
      if (!blocked()) return;
      if (this.oneThread) {
        await new Promise<void>((resolve) => this.local.push(resolve));
      } else {
        const wait = Atomics.waitAsync(this.words, Word.Bell, bell);
        if (wait.async) await wait.value;
      }
    }
  }

  // ---- the daemon's side

  /** Changes with every writer that enters the page. */
  stamp(page: number): number {
    return Atomics.load(this.stamps, page);
  }

  suspend(page: number): void {
    Atomics.store(this.suspended, page, 1);
  }

  resume(page: number): void {
    Atomics.store(this.suspended, page, 0);
    this.ring();
  }

  // ---- blocks

  /** True once after each change of a state in the block. */
  takeChanged(block: number): boolean {
    return Atomics.exchange(this.changedBlocks, block, 0) !== 0;
  }

  isChanged(block: number): boolean {
    return Atomics.load(this.changedBlocks, block) !== 0;
  }

  markChanged(block: number): void {
    Atomics.store(this.changedBlocks, block, 1);
  }

  /** A copy of the block's bytes as they go to disk; bytes behind the last region are zero. */
  copyBlock(block: number): Uint8Array {
    const bytes = new Uint8Array(REGIONS_PER_BLOCK);
    const first = block * REGIONS_PER_BLOCK;
    bytes.set(this.states.subarray(first, Math.min(first + REGIONS_PER_BLOCK, this.count)));
    return bytes;
  }

  counts(): StateCounts {
    const counts = new Array<number>(STATE_COUNT).fill(0);
    for (let region = 0; region < this.count; region++) {
      const state = this.states[region]!;
      counts[state] = counts[state]! + 1;
    }
    const [unwritten = 0, clean = 0, dirty = 0, needSync = 0, syncing = 0] = counts;
    return { unwritten, clean, dirty, needSync, syncing };
  }
}

/** More than the machine has would be promised, and then cost the process its life. */
function allocate(bytes: number, count: number, regionBytes: number): SharedArrayBuffer {
  try {
    if (bytes <= totalmem()) return new SharedArrayBuffer(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  throw new NbdRaidError(
    "superblock-unsupported",
    `a bitmap of ${count} regions of ${regionBytes} bytes needs ${Math.ceil(bytes / 2 ** 20)} MiB ` +
      "of memory: give the array one of larger regions (mdadm --grow, --bitmap-chunk)",
  );
}

/** Cuts one buffer into consecutive views; int32 ones first, so that they stay aligned. */
function slicer(buffer: SharedArrayBuffer) {
  let offset = 0;
  const take = (bytes: number): number => {
    offset += bytes;
    return offset - bytes;
  };
  return {
    int32: (length: number) => new Int32Array(buffer, take(length * 4), length),
    bytes: (length: number) => new Uint8Array(buffer, take(length), length),
  };
}
