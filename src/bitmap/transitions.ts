/**
 * The state machine of regions as data: one byte a region in memory, and on disk if the bitmap is
 * lockless. Numbers and the table are Linux md's (md-llbitmap.c, 6.18), except Unwritten + Stale.
 */
export const State = { Unwritten: 0, Clean: 1, Dirty: 2, NeedSync: 3, Syncing: 4 } as const;
export type State = (typeof State)[keyof typeof State];

export const STATE_COUNT = 5;

export const Action = {
  Startwrite: 0,
  Startsync: 1,
  Endsync: 2,
  Abortsync: 3,
  Reload: 4,
  Daemon: 5,
  Discard: 6,
  Stale: 7,
} as const;
export type Action = (typeof Action)[keyof typeof Action];

/** What the table's exceptions depend on. */
export interface Conditions {
  /** A slot has no member that takes writes: what is written now, the absent member lacks. */
  readonly absent: boolean;
  /** A slot is not in sync; one that is rebuilding counts. */
  readonly degraded: boolean;
  /** Levels 4, 5, 6 of an array that is not known-zero: a first write asks for parity. */
  readonly lazyParity: boolean;
}

const { Unwritten, Clean, Dirty, NeedSync, Syncing } = State;
const same = null;

/** Rows: states; columns: actions, in the order of {@link Action}. `same`: no change. */
export const TABLE: readonly (readonly (State | null)[])[] = [
  // Startwrite, Startsync, Endsync, Abortsync, Reload, Daemon, Discard, Stale
  [Dirty, same, same, same, same, same, same, NeedSync], // Unwritten (upstream: Stale keeps it)
  [Dirty, same, same, same, same, same, Unwritten, NeedSync], // Clean
  [same, same, same, same, NeedSync, Clean, Unwritten, NeedSync], // Dirty
  [same, Syncing, same, same, same, same, Unwritten, same], // NeedSync
  [same, Syncing, Dirty, NeedSync, NeedSync, same, Unwritten, NeedSync], // Syncing
];

/** The state after `action`; `state` itself where nothing changes. */
export function nextState(state: State, action: Action, conditions: Conditions): State {
  const next = TABLE[state]?.[action] ?? state;
  switch (action) {
    case Action.Startwrite:
      if (conditions.lazyParity && state === Unwritten) return NeedSync;
      return conditions.absent && next === Dirty && state !== Dirty ? NeedSync : next;
    case Action.Startsync:
      return conditions.degraded && state === Dirty ? Syncing : next;
    case Action.Daemon:
      return conditions.degraded ? state : next;
    default:
      return next;
  }
}

/**
 * A byte as it lies on disk: 5 to 7 are upstream's unwritten variants (7.1 and later), any other
 * unknown value asks for a sync.
 */
export function stateFromDisk(byte: number): State {
  if (byte < STATE_COUNT) return byte as State;
  return byte <= 7 ? Unwritten : NeedSync;
}

/** How much a state demands: when copies disagree, the one that demands most is believed. */
const DEMAND: readonly number[] = [0, 1, 2, 3, 3];

/** The worse of two states (NeedSync = Syncing > Dirty > Clean > Unwritten). */
export function worse(a: State, b: State): State {
  return (DEMAND[b] ?? 3) > (DEMAND[a] ?? 3) ? b : a;
}
