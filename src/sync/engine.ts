import type { Regions } from "../bitmap/regions.ts";
import { Action, type Conditions, State } from "../bitmap/transitions.ts";
import type { SyncControl } from "./control.ts";

/** One read or write of a member. Offsets are bytes of its data area. */
export interface MemberIo {
  readonly kind: "read" | "write";
  readonly slot: number;
  readonly offset: number;
  /** One range of the member goes to, or comes from, these buffers, one after the other. */
  readonly buffers: readonly Uint8Array[];
}

/** What the engine asks its driver to do. */
export type SyncCommand =
  /** Returns when every writer that the window before has barred is in. */
  | { readonly op: "admit" }
  /** Returns when no writer is in [first, end). */
  | { readonly op: "drain"; readonly first: number; readonly end: number }
  /** All of them, in any order; a reply for each. `ahead`: as much behind them is read next. */
  | { readonly op: "io"; readonly all: readonly MemberIo[]; readonly ahead: boolean }
  /** A member failed: policy decides what becomes of it; roles are up to date afterwards. */
  | { readonly op: "report"; readonly slot: number; readonly failure: SyncFailure }
  | { readonly op: "pause"; readonly ms: number };

/** For each read or write that was asked for: null if it was done. */
export type SyncReply = readonly (SyncFailure | null)[];

export interface SyncFailure {
  readonly kind: MemberIo["kind"];
  readonly noSpace: boolean;
  readonly message: string;
}

/**
 * How a copy of a range ended. `no-targets`: nobody is left to copy to. `unwritable`: a member that
 * the array cannot lose does not hold what it should. `unknown`: what is here
 * cannot tell what the range should hold, or there is nothing to compare; nothing was done.
 */
export type CopyResult =
  "copied" | "no-space" | "unreadable" | "unwritable" | "no-targets" | "unknown";

/** A part of a sync run: asks for I/O, gets replies, and ends with a result. */
export type SyncSteps<Result> = Generator<SyncCommand, Result, SyncReply>;

export type SyncKind = "resync" | "recovery" | "check" | "repair";

/** What a level is to work on: tracked bytes. */
export interface SyncRange {
  readonly offset: number;
  readonly length: number;
  /** Members in sync may differ here, and parity is not to be trusted. */
  readonly everywhere: boolean;
  /** Parity was never made here: it is to be, wherever something else is. */
  readonly unbuilt: boolean;
  readonly action: SyncKind;
  /** What lies right behind is next: a hint. */
  readonly ahead: boolean;
}

/**
 * How a level makes one range consistent again, or compares it:
 *
 * - resync: members in sync become consistent; with `everywhere` they are written without a look,
 *   where that is quicker;
 * - recovery: targets get their content; with `everywhere` the others become consistent too;
 * - check: differences are counted; only what a member could not read is written;
 * - repair: as a resync, and where data is lost parity is believed, also with `everywhere`.
 */
export type RangeCopier = (control: SyncControl, range: SyncRange) => SyncSteps<CopyResult>;

export interface SyncJob {
  readonly action: SyncKind;
  /** A user asked for it: it goes over everything that is not Unwritten. */
  readonly requested: boolean;
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

/** Tracked bytes: what is copied at a time is never more. */
export const WINDOW_BYTES_MAX = 2 * 1024 * 1024;
/** What had no space, or failed a client meanwhile, may do so again at once. */
const RETRY_MS = 1000;

/**
 * One sync over an array, from the control's cursor on: finds the next regions that need it, bars
 * writers from them, has them copied, and goes on. Ends early when told to stop,
 * and leaves every region it did not finish as it was, or as one that needs a sync.
 */
export function* syncRun(run: SyncRun): SyncSteps<SyncOutcome> {
  const { regions, control } = run;
  const pace = new Pace(run.now, control);
  const windows = new WindowSize(run.now, control);
  let failure: string | null = null;
  let first = control.cursor;
  let singlyBelow = 0;
  let disturbed = -1;
  while (first < regions.count) {
    if (control.stopping) return { result: "stopped", failure };
    if (!isNeeded(run, first)) {
      control.countSkipped(1);
      control.cursor = ++first;
      continue;
    }
    const end = first < singlyBelow ? first + 1 : batchEnd(run, first, windows.bytes);
    const mismatchesBefore = control.mismatchBytes;
    const barred = end - first > 1 || first === disturbed;
    const result = yield* syncRegions(run, { first, end, barred }, windows, pace);
    const isOver = result === "copied" || (end - first === 1 && !isTriedAgain(result));
    // What a check has counted there it is going to find once more.
    if (!isOver && run.action === "check") {
      control.countMismatch(mismatchesBefore - control.mismatchBytes);
    }
    if (result === "stopped") return { result, failure };
    if (result === "no-targets") {
      const why = "no member is left to sync to";
      return control.stopping ? { result: "stopped", failure } : { result: "failed", failure: why };
    }
    if (result === "no-space" || result === "disturbed") {
      if (result === "disturbed") disturbed = first;
      yield { op: "pause", ms: RETRY_MS };
      continue;
    }
    if (!isOver) {
      singlyBelow = end; // once more, to find out which of them it is
      continue;
    }
    if (result !== "copied" && (result !== "unknown" || run.action === "recovery")) {
      failure = failureAt(result, first * regions.regionBytes);
      // What is rebuilt is whole or not in sync: a recovery ends at what it cannot copy.
      if (run.action === "recovery") return { result: "failed", failure };
    } else if (result === "unknown") {
      control.countSkipped(1);
    } else {
      control.countCopied(end - first);
    }
    control.cursor = first = end;
  }
  return { result: failure === null ? "done" : "failed", failure };
}

/** The regions are as they were, and their turn comes again. */
function isTriedAgain(result: WindowResult): boolean {
  return result === "no-space" || result === "disturbed" || result === "stopped";
}

function failureAt(result: "unreadable" | "unwritable" | "unknown", offset: number): string {
  if (result === "unreadable") return `no member can read the data at ${offset}`;
  if (result === "unwritable") return `a member that is needed could not be written at ${offset}`;
  const remedy = "nbd-raid repair takes what parity says";
  return `what the missing member held at ${offset} cannot be known: ${remedy}`;
}

/** A recovery finds Dirty regions that the returning member lacks; a resync leaves them alone. */
function isNeeded(run: SyncRun, region: number): boolean {
  const state = run.regions.state(region);
  switch (state) {
    case State.Unwritten:
      return false;
    case State.Clean:
      return run.requested || (run.action === "recovery" && region >= run.markedOnlyBelow);
    case State.Dirty:
      return run.requested || run.action === "recovery";
    case State.NeedSync:
    case State.Syncing:
      return !run.suspectOnly || run.regions.isSuspect(region);
  }
}

/** Windows are of one kind: what is in doubt is treated otherwise than what is not. */
function batchEnd(run: SyncRun, first: number, windowBytes: number): number {
  const { regions } = run;
  const most = Math.max(1, Math.floor(windowBytes / regions.regionBytes));
  const last = Math.min(first + most, regions.count);
  const doubt = regions.doubt(first);
  let end = first + 1;
  while (end < last && isNeeded(run, end) && regions.doubt(end) === doubt) end++;
  return end;
}

/** `disturbed`: a write to what was copied has failed, and all of the region is to be done again. */
type WindowResult = CopyResult | "disturbed" | "stopped";

interface WindowRegions {
  readonly first: number;
  readonly end: number;
  /** Writers are kept out until all is done. */
  readonly barred: boolean;
}

/**
 * Syncs regions. One that is larger than a window is done piece by piece, and between two of them
 * writers get in: they leave what was copied as consistent as they found it, or disturb the sync.
 * That is so but for one case: where parity is not to be trusted, and its member is rebuilt, a write
 * may leave it behind (`data` in `src/raid/stripe-plan.ts`), so there they are kept out.
 */
function* syncRegions(
  run: SyncRun,
  { first, end, barred }: WindowRegions,
  windows: WindowSize,
  pace: Pace,
): SyncSteps<WindowResult> {
  const { regions, control, action } = run;
  const start = first * regions.regionBytes;
  const stop = Math.min(end * regions.regionBytes, regions.trackedBytes);
  const goesOn = end < regions.count && isNeeded(run, end);
  let everywhere = false;
  let unbuilt = false;
  let isWhole = barred;
  let hasCopied = false;
  for (let offset = start; ;) {
    yield { op: "admit" };
    regions.openWindow(first, end);
    yield { op: "drain", first, end };
    if (offset === start) {
      const needed = action === "resync" && !run.requested;
      everywhere = needed || regions.anySuspectIn(first, end - 1);
      unbuilt = regions.anyDoubtIn(first, end - 1);
      apply(run, first, end, Action.Startsync);
      isWhole ||= everywhere && action === "recovery";
      if (!isWhole) regions.watch(first);
    }
    const pieceEnd = isWhole ? stop : Math.min(offset + windows.bytes, stop);
    const piece = { offset, length: pieceEnd - offset, everywhere, unbuilt, action };
    windows.open();
    const one = regions.isDisturbed
      ? "disturbed"
      : yield* copyPiece(run, { ...piece, ahead: goesOn || pieceEnd < stop });
    hasCopied ||= one === "copied";
    const result = one === "unknown" && !everywhere && hasCopied ? "copied" : one;
    const isOver = pieceEnd === stop || !isGood(one, everywhere);
    if (isOver) settle(run, first, end, result === "copied");
    regions.closeWindow();
    windows.close(piece.length);
    control.waitsForSpace = one === "no-space";
    if (one !== "unknown") yield* pace.wait(piece.length);
    if (isOver) return result;
    if (control.stopping) {
      settle(run, first, end, false);
      return "stopped";
    }
    offset = pieceEnd;
  }
}

/** What is unknown where nothing is suspect is passed over. */
function isGood(result: WindowResult, everywhere: boolean): boolean {
  return result === "copied" || (result === "unknown" && !everywhere);
}

/** The first result that is not good; a range longer than what is copied at a time is cut. */
function* copyPiece(run: SyncRun, range: SyncRange): SyncSteps<CopyResult> {
  const end = range.offset + range.length;
  let result: CopyResult = "unknown";
  for (let { offset } = range; offset < end; offset += WINDOW_BYTES_MAX) {
    const length = Math.min(WINDOW_BYTES_MAX, end - offset);
    const ahead = range.ahead || offset + length < end;
    const one = yield* run.copy(run.control, { ...range, offset, length, ahead });
    if (!isGood(one, range.everywhere)) return one;
    if (one === "copied") result = one;
  }
  return result;
}

/** The regions are done, or left as ones that need a sync. */
function settle(run: SyncRun, first: number, end: number, copied: boolean): void {
  const { regions, action } = run;
  regions.unwatch();
  apply(run, first, end, copied ? Action.Endsync : Action.Abortsync);
  if (!copied || action === "check") return;
  for (let region = first; region < end; region++) regions.setSuspect(region, false);
}

/** A check changes no state. */
function apply({ regions, action }: SyncRun, first: number, end: number, step: Action): void {
  if (action === "check") return;
  const conditions: Conditions = {
    absent: false,
    degraded: action === "recovery",
    lazyParity: false,
  };
  for (let region = first; region < end; region++) regions.apply(region, step, conditions);
}

/** Milliseconds that writers may have to wait for a window: those that take longer get shorter. */
const WINDOW_MS = { short: 5, long: 20 };
const WINDOW_BYTES_FIRST = 512 * 1024;
const WINDOW_BYTES_MIN = 128 * 1024;
/** A piece of a region is made of these: of what md compares at once. */
const PIECE_BYTES = 64 * 1024;
/** With a limit, windows are no longer than it takes to pay for them: naps are then short too. */
const WINDOW_SECONDS_PAID = 0.25;

/** How much goes into a window: as much as members do in a time in which nobody misses a write. */
class WindowSize {
  private readonly now: () => number;
  private readonly control: SyncControl;
  private size = WINDOW_BYTES_FIRST;
  private opened = 0;

  constructor(now: () => number, control: SyncControl) {
    this.now = now;
    this.control = control;
  }

  /** Tracked bytes: whole pieces. */
  get bytes(): number {
    const { limit } = this.control;
    if (limit === 0) return this.size;
    const paid = Math.floor((limit * WINDOW_SECONDS_PAID) / PIECE_BYTES) * PIECE_BYTES;
    return Math.max(PIECE_BYTES, Math.min(this.size, paid));
  }

  open(): void {
    this.opened = this.now();
  }

  close(bytes: number): void {
    const took = this.now() - this.opened;
    if (took > WINDOW_MS.long) this.size = Math.max(WINDOW_BYTES_MIN, this.size / 2);
    // A window that was cut short for another reason says nothing about longer ones.
    const isFull = 2 * bytes > this.size;
    if (took < WINDOW_MS.short && isFull) this.size = Math.min(WINDOW_BYTES_MAX, this.size * 2);
  }
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
