import type { Regions } from "../bitmap/regions.ts";
import { Action, type Conditions, State } from "../bitmap/transitions.ts";
import type { SyncControl } from "./control.ts";

/** What the engine asks its driver to do. Offsets are bytes of a member's data area. */
export type SyncCommand =
  | { readonly op: "drain"; readonly first: number; readonly end: number }
  | {
      readonly op: "read";
      readonly slot: number;
      readonly offset: number;
      readonly into: Uint8Array;
    }
  | {
      readonly op: "write";
      readonly slot: number;
      readonly offset: number;
      readonly from: Uint8Array;
    }
  /** A member failed: policy decides what becomes of it; roles are up to date afterwards. */
  | { readonly op: "report"; readonly slot: number; readonly failure: SyncFailure }
  | { readonly op: "pause"; readonly ms: number };

/** Null: it was done. */
export type SyncReply = SyncFailure | null;

export interface SyncFailure {
  readonly kind: "read" | "write";
  readonly noSpace: boolean;
  readonly message: string;
}

/** How a copy of a range ended. `no-targets`: nobody is left to copy to. */
export type CopyResult = "copied" | "no-space" | "unreadable" | "no-targets";

/** A part of a sync run: asks for I/O, gets replies, and ends with a result. */
export type SyncSteps<Result> = Generator<SyncCommand, Result, SyncReply>;

/**
 * How a level makes one range consistent again. `everywhere`: in-sync members may differ here, so
 * they are written too and not only the members that are rebuilt.
 */
export type RangeCopier = (
  control: SyncControl,
  buffer: Uint8Array,
  offset: number,
  length: number,
  everywhere: boolean,
) => SyncSteps<CopyResult>;

export interface SyncJob {
  readonly action: "resync" | "recovery";
  /** A recovery copies below this region only what is marked, from it on all but Unwritten. */
  readonly markedOnlyBelow: number;
  /** A resync while a member is absent: only where members that are here may differ. */
  readonly suspectOnly: boolean;
}

export interface SyncRun extends SyncJob {
  readonly regions: Regions;
  readonly control: SyncControl;
  readonly copy: RangeCopier;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export interface SyncOutcome {
  readonly result: "done" | "stopped" | "failed";
  /** Why it failed, in words. */
  readonly failure: string | null;
}

/** One window holds up writers for no more than this. */
const WINDOW_BYTES_MAX = 512 * 1024;
const SPACE_RETRY_MS = 1000;

/**
 * One sync over an array: finds the next region that needs it, bars writers from it, copies,
 * and goes on; one window at a time. Ends early when told to stop, and leaves every region it
 * did not finish as one that needs a sync.
 */
export function* syncRun(run: SyncRun): SyncSteps<SyncOutcome> {
  const { regions, control } = run;
  const buffer = new Uint8Array(WINDOW_BYTES_MAX);
  const pace = new Pace(run.now, control);
  let failure: string | null = null;
  let first = 0;
  let singlyBelow = 0;
  while (first < regions.count) {
    if (control.stopping) return { result: "stopped", failure };
    if (!isNeeded(run, first)) {
      control.countSkipped(1);
      control.cursor = ++first;
      continue;
    }
    const end = first < singlyBelow ? first + 1 : batchEnd(run, first);
    const result = yield* syncWindow(run, buffer, first, end);
    control.waitsForSpace = result === "no-space";
    if (result === "no-targets") {
      const why = "no member is left to sync to";
      return control.stopping ? { result: "stopped", failure } : { result: "failed", failure: why };
    }
    if (result === "no-space") {
      yield { op: "pause", ms: SPACE_RETRY_MS };
      continue;
    }
    if (result === "unreadable" && end - first > 1) {
      singlyBelow = end; // once more, to find out which of them it is
      continue;
    }
    if (result === "unreadable") {
      failure = `no member can read the data at ${first * regions.regionBytes}`;
      // What is rebuilt is whole or not in sync: a recovery ends at what it cannot copy.
      if (run.action === "recovery") return { result: "failed", failure };
    } else {
      control.countCopied(end - first);
    }
    yield* pace.wait((end - first) * regions.regionBytes);
    control.cursor = first = end;
  }
  return { result: failure === null ? "done" : "failed", failure };
}

/** A recovery finds Dirty regions that the returning member lacks; a resync leaves them alone. */
function isNeeded(run: SyncRun, region: number): boolean {
  const state = run.regions.state(region);
  switch (state) {
    case State.Unwritten:
      return false;
    case State.Clean:
      return run.action === "recovery" && region >= run.markedOnlyBelow;
    case State.Dirty:
      return run.action === "recovery";
    case State.NeedSync:
    case State.Syncing:
      return !run.suspectOnly || run.regions.isSuspect(region);
  }
}

function batchEnd(run: SyncRun, first: number): number {
  const most = Math.max(1, Math.floor(WINDOW_BYTES_MAX / run.regions.regionBytes));
  let end = first + 1;
  while (end < run.regions.count && end - first < most && isNeeded(run, end)) end++;
  return end;
}

function* syncWindow(
  run: SyncRun,
  buffer: Uint8Array,
  first: number,
  end: number,
): SyncSteps<CopyResult> {
  const { regions, control } = run;
  const conditions: Conditions = {
    absent: false,
    degraded: run.action === "recovery",
    lazyParity: false,
  };
  regions.openWindow(first, end);
  yield { op: "drain", first, end };
  let everywhere = run.action === "resync";
  for (let region = first; region < end; region++) {
    regions.apply(region, Action.Startsync, conditions);
    everywhere ||= regions.isSuspect(region);
  }
  const start = first * regions.regionBytes;
  const stop = Math.min(end * regions.regionBytes, regions.trackedBytes);
  let result: CopyResult = "copied";
  for (let offset = start; offset < stop && result === "copied";) {
    const length = Math.min(buffer.length, stop - offset);
    result = yield* run.copy(control, buffer, offset, length, everywhere);
    offset += length;
  }
  const action = result === "copied" ? Action.Endsync : Action.Abortsync;
  for (let region = first; region < end; region++) {
    regions.apply(region, action, conditions);
    if (result === "copied") regions.setSuspect(region, false);
  }
  regions.closeWindow();
  return result;
}

/** Keeps a run below the control's limit, in naps short enough to follow a change of it. */
class Pace {
  private readonly now: () => number;
  private readonly control: SyncControl;
  private debtBytes = 0;
  private last: number;

  constructor(now: () => number, control: SyncControl) {
    this.now = now;
    this.control = control;
    this.last = now();
  }

  *wait(bytes: number): SyncSteps<void> {
    this.debtBytes += bytes;
    for (;;) {
      const { limit } = this.control;
      const now = this.now();
      this.debtBytes -= ((now - this.last) / 1000) * limit;
      this.last = now;
      if (limit === 0 || this.debtBytes <= 0) {
        this.debtBytes = 0;
        return;
      }
      if (this.control.stopping) return;
      yield { op: "pause", ms: Math.min(100, Math.ceil((this.debtBytes / limit) * 1000)) };
    }
  }
}
