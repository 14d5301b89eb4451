/**
 * The shapes `status --json` prints and the control socket serves. Raw integers: bytes, Unix
 * seconds. They are a contract: fields are added, never changed (docs/reference/cli.md).
 */
export interface ArrayStatus {
  name: string;
  uuid: string;
  level: "0" | "1" | "4" | "5" | "6" | "10" | "linear";
  layout: string | null;
  chunkSize: number | null;
  size: number;
  raidDisks: number;
  events: number;
  state: "clean" | "active" | "failed" | "read-only";
  /** Slots that are not in sync; one that is rebuilding counts. */
  degraded: number;
  mismatchCount: number;
  knownZero: boolean;
  /** Tracked bytes in which members in sync may not fit together, until a sync has run. */
  suspectBytes: number;
  /** How often stripes were written in which way since the start; null: the level has no parity. */
  stripeWrites: { full: number; reconstruct: number; modify: number } | null;
  members: MemberStatus[];
  bitmap: BitmapStatus | null;
  sync: SyncStatus | null;
  lastSync: LastSync | null;
}

export interface MemberStatus {
  slot: number | null;
  path: string | null;
  state: "in_sync" | "rebuilding" | "spare" | "faulty" | "missing";
  writeMostly: boolean;
  readErrors: number;
  writeErrors: number;
  /** Its path leads elsewhere, or nowhere, by now: the open file was deleted, or replaced. */
  unlinked: boolean;
}

export interface BitmapStatus {
  type: "lockless" | "internal";
  regionSize: number;
  regions: number;
  unwritten: number;
  clean: number;
  dirty: number;
  needSync: number;
  syncing: number;
  blocksWritten: number;
  infections: number;
  /** Unix seconds of the daemon's last pass, or null before the first. */
  daemonLastRun: number | null;
  /** Seconds since the oldest region that is Dirty now became so, or null: none is. */
  oldestDirtySeconds: number | null;
}

export interface SyncStatus {
  action: SyncAction;
  pending: boolean;
  /** Why it waits, in words (no space, no member to sync to), or null. */
  waitingFor: string | null;
  doneBytes: number;
  totalBytes: number;
  skippedBytes: number;
  bytesPerSecond: number;
  etaSeconds: number | null;
}

export type SyncAction = "resync" | "recovery" | "check" | "repair" | "reshape";

/** What a user may ask for. */
export type AskedAction = "check" | "repair" | "resync";
/** md's words for `sync_action` that can be set. */
export type SyncVerb = AskedAction | "idle" | "frozen";

export interface LastSync {
  action: SyncAction;
  startedAt: number;
  finishedAt: number;
  result: "done" | "stopped" | "failed";
  /** Why it failed, in words, or null. */
  failure: string | null;
  readBytes: number;
  writtenBytes: number;
  skippedBytes: number;
}

/** The settings `set` knows. Times are milliseconds here; speeds bytes a second, 0 = no limit. */
export interface ArraySettings {
  syncSpeedMin: number;
  syncSpeedMax: number;
  daemonSleepMs: number;
  barrierIdleMs: number;
}

/** What the control plane may ask of a running array. Each resolves once its effect is durable. */
export interface ArrayControl {
  readonly name: string;
  status(): ArrayStatus;
  /** `member` is a slot number or a path. */
  fail(member: string): Promise<void>;
  remove(member: string): Promise<void>;
  reAdd(path: string): Promise<void>;
  add(path: string, options: { writeMostly: boolean }): Promise<void>;
  set(settings: Partial<ArraySettings>): void;
  setWriteMostly(member: string, writeMostly: boolean): Promise<void>;
  /** Asks for a sync, or ends what runs: `idle` lets what is needed start again, `frozen` not. */
  sync(verb: SyncVerb): Promise<void>;
  /** Resolves when no sync runs or is pending and none could; rejects if the last one failed. */
  wait(): Promise<void>;
}
