import { describe, expect, test } from "vitest";
import type { StripeMap } from "../../src/raid/geometry/geometry.ts";
import {
  type ParityTrust,
  type Piece,
  planStripe,
  type SlotAccess,
  type Strategy,
} from "../../src/raid/stripe-plan.ts";

const GOOD: ParityTrust = { trusted: true, built: true };
const UNBUILT: ParityTrust = { trusted: true, built: false };
const SUSPECT: ParityTrust = { trusted: false, built: false };

/** Data on slots 0 up; then P, and Q at level 6. */
function mapOf(dataDisks: number, parityDisks: number): StripeMap {
  const data = Array.from({ length: dataDisks }, (_, index) => index);
  return { data, exponents: data, p: dataDisks, q: parityDisks === 2 ? dataDisks + 1 : -1 };
}

/**
 * A letter for each slot, data first: `+` in sync, `?` in sync but unreadable, `>` rebuilding, `-`
 * absent.
 */
function accessOf(slots: string): SlotAccess {
  return {
    isInSync: (slot) => "+?".includes(slots[slot]!),
    isReadable: (slot) => slots[slot] === "+",
    isWritable: (slot) => slots[slot] !== "-",
  };
}

function piece(index: number, start: number, end: number): Piece {
  return { index, start, bytes: new Uint8Array(end - start).fill(index + 1) };
}

describe("pieces", () => {
  const plan = (pieces: readonly Piece[], trustIn = () => GOOD) =>
    planStripe(mapOf(3, 1), pieces, accessOf("++++"), trustIn);

  test("are cut where the chunks that are new change, and what is between them is left out", () => {
    const segments = plan([piece(0, 0, 10), piece(1, 5, 10), piece(0, 20, 30)]);
    const shape = segments!.map(({ start, end, at, fresh }) => {
      return [start, end, at, fresh.map((bytes) => bytes?.length ?? 0)];
    });
    expect(shape).toEqual([
      [0, 5, 0, [5, 0, 0]],
      [5, 10, 5, [5, 5, 0]],
      [20, 30, 10, [10, 0, 0]],
    ]);
  });

  test("bring their own bytes", () => {
    const bytes = Uint8Array.from([1, 2, 3, 4]);
    const segments = plan([{ index: 2, start: 6, bytes }, piece(1, 8, 9)]);
    expect(segments!.map(({ fresh }) => Array.from(fresh[2]!))).toEqual([[1, 2], [3], [4]]);
  });

  test("are judged by what is known of their own columns", () => {
    const asked: string[] = [];
    const segments = planStripe(
      mapOf(3, 1),
      [piece(0, 0, 10), piece(1, 20, 30), piece(1, 40, 50)],
      accessOf("++-+"),
      (start, end) => {
        asked.push(`${start}-${end}`);
        return start === 20 ? SUSPECT : GOOD;
      },
    );
    expect(asked).toEqual(["0-10", "20-30", "40-50"]);
    expect(segments!.map(({ strategy }) => strategy)).toEqual(["modify", "modify", "modify"]);
  });

  test("are refused together, if one of them is", () => {
    const trustIn = (start: number): ParityTrust => (start === 20 ? SUSPECT : GOOD);
    const pieces = [piece(0, 0, 10), piece(2, 20, 30)];
    expect(planStripe(mapOf(3, 1), pieces, accessOf("++-+"), trustIn)).toBe(null);
    expect(planStripe(mapOf(3, 1), pieces, accessOf("+++-"), trustIn)).not.toBe(null);
  });
});

/** Slots (data, then parity), new chunks (`n`), and the way by parity good, unbuilt and suspect. */
type Row = [slots: string, fresh: string, ...ways: (Strategy | null)[]];

/** Null: refused. */
const LEVEL_5: readonly Row[] = [
  ["+++ +", "nnn", "full", "full", "full"],
  ["+++ +", "n..", "reconstruct", "reconstruct", "reconstruct"],
  ["++++ +", "n...", "modify", "reconstruct", "reconstruct"],
  ["++++ -", "n...", "data", "data", "data"],
  ["++++ >", "n...", "reconstruct", "reconstruct", "reconstruct"],
  ["++++ ?", "n...", "reconstruct", "reconstruct", "reconstruct"],
  // A lost chunk that is not new.
  ["-++ +", ".n.", "modify", "anew", "modify"],
  [">++ +", ".n.", "modify", "anew", "modify"],
  ["?++ +", ".n.", "modify", "anew", "modify"],
  ["-++ ?", ".n.", null, null, null],
  ["-?+ +", ".n.", null, null, null],
  ["?++ -", ".n.", "data", "data", "data"],
  ["?++ >", ".n.", null, null, "data"],
  // A lost chunk that is new.
  ["-++ +", "n..", "reconstruct", "reconstruct", null],
  ["-++ +", "nnn", "full", "full", null],
  [">++ +", "n..", "reconstruct", "reconstruct", "reconstruct"],
  [">?+ +", "n..", null, null, null],
  ["??+ +", "n..", null, null, null],
];

const LEVEL_6: readonly Row[] = [
  ["+++++ ++", "n....", "modify", "reconstruct", "reconstruct"],
  ["-++ ++", ".n.", "modify", "anew", "modify"],
  ["-++ +-", ".n.", "modify", "anew", "modify"],
  ["-++ +>", ".n.", "decode", "anew", "modify"],
  ["-++ >+", ".n.", "decode", "anew", "modify"],
  // P counts, though it cannot be read: what Q alone was modified for would not follow from it.
  ["-++ ?+", ".n.", "decode", "anew", null],
  ["-++ +?", ".n.", "decode", "anew", null],
  ["-?+ ++", ".n.", "decode", "anew", null],
  ["->+ ++", ".n.", "decode", "anew", null],
  ["->+ ++", "..n", "modify", "anew", "modify"],
  [">>+ ++", ".nn", "decode", "anew", null],
  [">>+ ++", "nn.", "reconstruct", "reconstruct", "reconstruct"],
  ["--+ ++", ".n.", "decode", "anew", null],
];

describe.each([
  { level: 5, parityDisks: 1, rows: LEVEL_5 },
  { level: 6, parityDisks: 2, rows: LEVEL_6 },
])("at level $level", ({ parityDisks, rows }) => {
  test.each(rows)("slots %s, new %s: %s, %s where unbuilt, %s where suspect", (slots, ...row) => {
    const [fresh, ...ways] = row;
    const pieces = [...fresh].flatMap((mark, index) => (mark === "n" ? [piece(index, 0, 4)] : []));
    const access = accessOf(slots.replace(" ", ""));
    const found = [GOOD, UNBUILT, SUSPECT].map((trust) => {
      const segments = planStripe(mapOf(fresh.length, parityDisks), pieces, access, () => trust);
      return segments === null ? null : segments[0]!.strategy;
    });
    expect(found).toEqual(ways);
  });
});
