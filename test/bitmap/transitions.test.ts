import { describe, expect, test } from "vitest";
import {
  Action,
  type Conditions,
  nextState,
  State,
  stateFromDisk,
  TABLE,
  worse,
} from "../../src/bitmap/transitions.ts";

/**
 * The state machine against a second copy of the table, written as documents print it. Numbers of
 * states are the on-disk format and so are spelled out too.
 */
const EXPECTED = `
| state     | Startwrite | Startsync | Endsync | Abortsync | Reload   | Daemon | Discard   | Stale    |
| Unwritten | Dirty      | -         | -       | -         | -        | -      | -         | NeedSync |
| Clean     | Dirty      | -         | -       | -         | -        | -      | Unwritten | NeedSync |
| Dirty     | -          | -         | -       | -         | NeedSync | Clean  | Unwritten | NeedSync |
| NeedSync  | -          | Syncing   | -       | -         | -        | -      | Unwritten | -        |
| Syncing   | -          | Syncing   | Dirty   | NeedSync  | NeedSync | -      | Unwritten | NeedSync |
`;

type StateName = keyof typeof State;
type ActionName = keyof typeof Action;

const HEALTHY: Conditions = { absent: false, degraded: false, lazyParity: false };
const ABSENT: Conditions = { absent: true, degraded: true, lazyParity: false };
const REBUILDING: Conditions = { absent: false, degraded: true, lazyParity: false };
const LAZY: Conditions = { absent: false, degraded: false, lazyParity: true };

const nameOf = (state: State): string =>
  Object.entries(State).find(([, value]) => value === state)![0];

function cells(): [StateName, ActionName, StateName][] {
  const [head, ...rows] = EXPECTED.trim()
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()));
  return rows.flatMap((row) =>
    row.slice(2, -1).map((cell, index): [StateName, ActionName, StateName] => {
      const before = row[1] as StateName;
      return [before, head![index + 2] as ActionName, cell === "-" ? before : (cell as StateName)];
    }),
  );
}

describe("the table", () => {
  test("has the numbers of the on-disk format", () => {
    expect(State).toEqual({ Unwritten: 0, Clean: 1, Dirty: 2, NeedSync: 3, Syncing: 4 });
  });

  test("has a cell for every state and action, and no other", () => {
    expect(cells()).toHaveLength(5 * 8);
    expect(TABLE.map((row) => row.length)).toEqual([8, 8, 8, 8, 8]);
  });

  test.each(cells())("%s + %s is %s on a healthy array", (before, action, after) => {
    expect(nameOf(nextState(State[before], Action[action], HEALTHY))).toBe(after);
  });
});

/** Every cell that a condition changes; all others must stay as they are on a healthy array. */
const EXCEPTIONS: [string, Conditions, [StateName, ActionName, StateName][]][] = [
  [
    "a member is absent",
    ABSENT,
    [
      ["Unwritten", "Startwrite", "NeedSync"],
      ["Clean", "Startwrite", "NeedSync"],
      ["Dirty", "Startsync", "Syncing"],
      ["Dirty", "Daemon", "Dirty"],
    ],
  ],
  [
    "a member is rebuilding",
    REBUILDING,
    [
      ["Dirty", "Startsync", "Syncing"],
      ["Dirty", "Daemon", "Dirty"],
    ],
  ],
  ["parity is built lazily", LAZY, [["Unwritten", "Startwrite", "NeedSync"]]],
];

describe.each(EXCEPTIONS)("while %s", (_name, conditions, exceptions) => {
  const changed = new Map(
    exceptions.map(([before, action, after]) => [`${before} + ${action}`, after]),
  );

  test.each(cells())("%s + %s", (before, action, healthy) => {
    const after = changed.get(`${before} + ${action}`) ?? healthy;
    expect(nameOf(nextState(State[before], Action[action], conditions))).toBe(after);
  });
});

describe("bytes on disk", () => {
  test("0 to 4 are the states, 5 to 7 upstream's unwritten variants, the rest needs a sync", () => {
    for (let byte = 0; byte <= 255; byte++) {
      const expected = byte < 5 ? byte : byte <= 7 ? State.Unwritten : State.NeedSync;
      expect(stateFromDisk(byte), `byte ${byte}`).toBe(expected);
    }
  });
});

describe("the worse of two states", () => {
  const ranks: Record<StateName, number> = {
    Unwritten: 0,
    Clean: 1,
    Dirty: 2,
    NeedSync: 3,
    Syncing: 3,
  };
  const names = Object.keys(State) as StateName[];
  const pairs = names.flatMap((a) => names.map((b): [StateName, StateName] => [a, b]));

  test.each(pairs)("%s and %s", (a, b) => {
    const winner = nameOf(worse(State[a], State[b])) as StateName;
    expect([a, b]).toContain(winner);
    expect(ranks[winner]).toBe(Math.max(ranks[a], ranks[b]));
  });
});
