import type { Clock } from "../clock.ts";
import type { WriteBitmap } from "./bitmap.ts";
import { REGIONS_PER_PAGE } from "./regions.ts";
import { State } from "./transitions.ts";

/** What the daemon asks of the array around it. */
export interface DaemonHost {
  /** False: nothing may be cleaned, for the array is degraded or failed. */
  mayClean(): boolean;
  /** Superblocks say that writers may be at work, which the daemon ends when there are none. */
  isActive(): boolean;
  /** One fdatasync a member; false if any failed: then nothing is cleaned. */
  syncMembers(): Promise<boolean>;
  /** Before any block turns Dirty to Clean: `events_cleared` is current and durable. */
  recordEventsCleared(): Promise<void>;
  /**
   * There is nothing to wait for: a pass left nothing Dirty, or nothing may be cleaned and no writer
   * has come for a while.
   */
  idle(): Promise<void>;
  /** A pass could not finish; it is tried again. */
  failed(error: unknown): void;
}

/** A region's page and the page's stamp when the region was seen idle. */
interface Candidate {
  readonly region: number;
  readonly stamp: number;
}

/**
 * Turns Dirty regions Clean once their data is durable on every member. It waits for no writer:
 * a region that is busy, or was written since it was noted, is next time's.
 *
 * Timing: `sleepMs` after the first Dirty a pass begins; a page counts as idle if no writer has
 * entered it for the last `idleMs` before (md: daemon_sleep and barrier_idle).
 */
export class Daemon {
  sleepMs = 30_000;
  idleMs = 5_000;
  /** Unix milliseconds of the last pass, or null. */
  lastRun: number | null = null;
  /** Clock milliseconds at which the oldest region that is Dirty now turned, or null. */
  private dirtySince: number | null = null;
  private readonly bitmap: WriteBitmap;
  private readonly host: DaemonHost;
  private readonly clock: Clock;
  private cancel: (() => void) | null = null;
  private running: Promise<void> | null = null;
  private stopped = false;

  constructor(bitmap: WriteBitmap, host: DaemonHost, clock: Clock) {
    this.bitmap = bitmap;
    this.host = host;
    this.clock = clock;
  }

  get oldestDirtyMs(): number | null {
    return this.dirtySince === null ? null : this.clock.now() - this.dirtySince;
  }

  /** A region became Dirty. */
  poke(): void {
    this.dirtySince ??= this.clock.now();
    this.arm();
  }

  /** Superblocks say active from now on. */
  wake(): void {
    this.arm();
  }

  /** Settings changed: the wait under way starts anew. */
  rearm(): void {
    this.cancel?.();
    this.cancel = null;
    if (this.isWanted) this.arm();
  }

  private get isWanted(): boolean {
    return this.dirtySince !== null || this.host.isActive();
  }

  /** No pass begins after this; resolves when the one under way has ended. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.cancel?.();
    this.cancel = null;
    await this.running;
  }

  private arm(): void {
    if (this.stopped || this.cancel !== null || this.running !== null) return;
    const quiet = Math.min(this.idleMs, this.sleepMs);
    this.cancel = this.clock.after(this.sleepMs - quiet, () => {
      const stamps = this.stamps();
      this.cancel = this.clock.after(quiet, () => {
        this.cancel = null;
        this.running = this.pass(stamps)
          .catch((error: unknown) => this.host.failed(error))
          .finally(() => {
            this.running = null;
            if (this.isWanted) this.arm();
          });
      });
    });
  }

  private stamps(): number[] {
    const { regions } = this.bitmap;
    return Array.from({ length: regions.pages }, (_, page) => regions.stamp(page));
  }

  private async pass(stamps: readonly number[]): Promise<void> {
    const began = this.clock.now();
    const isQuiet = (page: number, stamp: number): boolean => stamps[page] === stamp;
    if (!this.host.mayClean()) {
      if (this.stamps().every((stamp, page) => isQuiet(page, stamp))) await this.host.idle();
      return;
    }
    const candidates = this.note(isQuiet, Infinity);
    if (!(await this.clean(candidates))) return;
    this.lastRun = this.clock.wallTime();
    const { dirty, needSync, syncing } = this.bitmap.regions.counts();
    this.dirtySince = dirty === 0 ? null : began;
    if (dirty + needSync + syncing === 0) await this.host.idle();
  }

  /**
   * A checkpoint of a resync: regions below `end` that are Dirty and idle now turn Clean at once.
   * True if there were any, and every member has been synced for them.
   */
  async checkpoint(end: number): Promise<boolean> {
    if (!this.host.mayClean()) return false;
    const candidates = this.note(() => true, end);
    return candidates.length > 0 && (await this.clean(candidates));
  }

  private note(idle: (page: number, stamp: number) => boolean, end: number): Candidate[] {
    const { regions } = this.bitmap;
    const candidates: Candidate[] = [];
    for (let page = 0; page < regions.pages; page++) {
      const stamp = regions.stamp(page);
      if (!idle(page, stamp)) continue;
      const first = page * REGIONS_PER_PAGE;
      const last = Math.min(first + REGIONS_PER_PAGE, regions.count, end);
      for (let region = first; region < last; region++) {
        if (regions.state(region) === State.Dirty && regions.isIdle(region, region + 1)) {
          candidates.push({ region, stamp });
        }
      }
    }
    return candidates;
  }

  /** Syncs every member once, then turns the candidates that nobody wrote meanwhile. */
  private async clean(candidates: readonly Candidate[]): Promise<boolean> {
    if (candidates.length === 0) return true;
    if (!(await this.host.syncMembers())) return false;
    if (!this.host.mayClean()) return false;
    await this.host.recordEventsCleared();
    const { regions } = this.bitmap;
    let suspended = -1;
    for (const { region, stamp } of candidates) {
      if (!this.host.mayClean()) break;
      const page = Math.floor(region / REGIONS_PER_PAGE);
      if (page !== suspended) {
        if (suspended >= 0) regions.resume(suspended);
        regions.suspend(page);
        suspended = page;
      }
      if (regions.isIdle(region, region + 1) && regions.stamp(page) === stamp) {
        this.bitmap.clean(region);
      }
    }
    if (suspended >= 0) regions.resume(suspended);
    await this.bitmap.flush();
    return true;
  }
}
