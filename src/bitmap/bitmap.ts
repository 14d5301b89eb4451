import { assert } from "../errors.ts";
import { BlockMarks, type BitmapStore } from "./marks.ts";
import { Doubt, type Regions, REGIONS_PER_BLOCK } from "./regions.ts";
import { Action, type Conditions, nextState, State } from "./transitions.ts";

/** What the bitmap asks of the array around it. */
export interface BitmapHost {
  /** Where marks go, or null: states live in memory only (`--bitmap none`). */
  readonly store: BitmapStore | null;
  /**
   * The store tells Unwritten from Clean, and its regions are so small that a whole block of them
   * may be marked for one: trims are remembered, and blocks infected.
   */
  readonly fine: boolean;
  conditions(): Conditions;
  /** A region became Dirty: the daemon has something to do. */
  dirtied(): void;
  /** First writes left parity to be built: a sync has something to do. */
  parityWanted(): void;
}

/**
 * Which regions may differ between members. Writers go through `tryBegin` or `begin` and `end`;
 * the data of a write is issued between the two, so that every region it touches is durably
 * Dirty or NeedSync on every active member first.
 */
export class WriteBitmap {
  readonly regions: Regions;
  readonly persistent: boolean;
  infections = 0;
  private readonly host: BitmapHost;
  private readonly marks: BlockMarks | null;
  /** Regions that a TRIM covered whole since they were last written; the daemon's to discard. */
  private readonly trimmed: Uint8Array;

  constructor(regions: Regions, host: BitmapHost) {
    this.regions = regions;
    this.host = host;
    this.persistent = host.store !== null;
    this.marks = host.store === null ? null : new BlockMarks(regions, host.store);
    this.trimmed = new Uint8Array(regions.count);
  }

  get blocksWritten(): number {
    return this.marks?.blocksWritten ?? 0;
  }

  /** Begins a write now if its regions are durably marked already and nothing bars them. */
  tryBegin(first: number, last: number): boolean {
    if (!this.regions.tryEnter(first, last)) return false;
    for (let region = first; region <= last; region++) {
      const marked =
        this.regions.state(region) >= State.Dirty &&
        this.trimmed[region] === 0 &&
        (this.marks === null || this.marks.isDurable(Math.floor(region / REGIONS_PER_BLOCK)));
      if (!marked) {
        this.regions.leave(first, last);
        return false;
      }
    }
    return true;
  }

  /** Begins a write to [first, last]: waits for the window, marks, waits until marks are durable. */
  async begin(first: number, last: number): Promise<void> {
    await this.regions.enter(first, last);
    try {
      const firstBlock = Math.floor(first / REGIONS_PER_BLOCK);
      const lastBlock = Math.floor(last / REGIONS_PER_BLOCK);
      for (let region = first; region <= last; region++) this.startWrite(region);
      if (this.marks === null) return;
      const waits: Promise<void>[] = [];
      for (let block = firstBlock; block <= lastBlock; block++) {
        if (!this.marks.isDurable(block)) waits.push(this.marks.commit(block));
      }
      if (waits.length === 0) return;
      // All of them settle before the counts go down: a late one would write for nobody.
      const results = await Promise.allSettled(waits);
      for (const result of results) if (result.status === "rejected") throw result.reason;
    } catch (error) {
      this.regions.leave(first, last);
      throw error;
    }
  }

  end(first: number, last: number): void {
    this.regions.leave(first, last);
  }

  private startWrite(region: number): void {
    this.trimmed[region] = 0;
    const conditions = this.host.conditions();
    const before = this.regions.apply(region, Action.Startwrite, conditions);
    if (nextState(before, Action.Startwrite, conditions) === before) return;
    let lazy = conditions.lazyParity && before === State.Unwritten;
    if (lazy) this.regions.setDoubt(region, Doubt.Unbuilt);
    const block = Math.floor(region / REGIONS_PER_BLOCK);
    this.marks?.mark(block);
    // Not while a member is absent or rebuilding: its recovery would copy whatever is infected.
    if (this.host.fine && !conditions.degraded) {
      const infected = this.infect(block, region, conditions);
      lazy ||= infected && conditions.lazyParity;
    }
    this.host.dirtied();
    if (lazy) this.host.parityWanted();
  }

  /**
   * A second region of a block turns: the whole block does, so that a stream of writes pays for
   * one block write and not for 512. True if it did.
   */
  private infect(block: number, turned: number, conditions: Conditions): boolean {
    const first = block * REGIONS_PER_BLOCK;
    const end = Math.min(first + REGIONS_PER_BLOCK, this.regions.count);
    let hot = false;
    for (let region = first; region < end && !hot; region++) {
      const state = this.regions.state(region);
      hot = region !== turned && (state === State.Dirty || state === State.NeedSync);
    }
    if (!hot) return false;
    let infected = false;
    for (let region = first; region < end; region++) {
      const state = this.regions.state(region);
      if (state === State.Clean && conditions.lazyParity) continue;
      if (state > State.Clean) continue;
      this.regions.apply(region, Action.Startwrite, conditions);
      if (conditions.lazyParity) this.regions.setDoubt(region, Doubt.Unbuilt);
      infected = true;
    }
    if (infected) this.infections++;
    return infected;
  }

  // ---- trims

  /**
   * Remembers the regions that lie wholly in [offset, offset + length) as trimmed. Where Unwritten
   * cannot be stored it must not be in memory either: a rebuild would skip what counts as Clean
   * after a restart.
   */
  noteTrimmed(offset: number, length: number): void {
    if (!this.host.fine) return;
    const { regionBytes, trackedBytes, count } = this.regions;
    const first = Math.ceil(offset / regionBytes);
    const reachesEnd = offset + length >= trackedBytes;
    const end = reachesEnd ? count : Math.floor((offset + length) / regionBytes);
    for (let region = first; region < end; region++) this.trimmed[region] = 1;
  }

  // ---- what the daemon and the stop do: Dirty to Clean, or to Unwritten where trimmed

  /**
   * Turns one region that holds no writer and whose data is durable everywhere. The caller has
   * suspended its page or knows that no writer can come.
   */
  clean(region: number): void {
    const conditions = this.host.conditions();
    if (this.trimmed[region] === 1) {
      this.trimmed[region] = 0;
      if (!conditions.degraded && this.regions.state(region) === State.Dirty) {
        this.regions.apply(region, Action.Discard, conditions);
        return;
      }
    }
    this.regions.apply(region, Action.Daemon, conditions);
  }

  /**
   * A write failed on members that stay: they differ here until a sync has run. False if that was
   * known already.
   */
  needsSync(first: number, last: number): boolean {
    let isNew = false;
    for (let region = first; region <= last; region++) {
      assert(this.regions.state(region) >= State.Dirty, "a region is marked before its data");
      isNew ||= !this.regions.isSuspect(region);
      this.regions.setSuspect(region, true);
      if (this.regions.state(region) !== State.Dirty) continue;
      this.regions.apply(region, Action.Stale, this.host.conditions());
      this.marks?.mark(Math.floor(region / REGIONS_PER_BLOCK));
    }
    return isNew;
  }

  /** Marks every block as changed, so that the next `flush` writes the whole bitmap. */
  touchAll(): void {
    for (let block = 0; block < this.regions.blocks; block++) this.regions.markChanged(block);
  }

  /** Every change so far is durable on every active member when this resolves. */
  async flush(): Promise<void> {
    await this.marks?.flush();
  }
}
