import { describe, expect, test } from "vitest";
import { loadRegions, type LoadRule } from "../../src/bitmap/load.ts";
import { Doubt, Regions, REGIONS_PER_BLOCK } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";

/** What the bytes of members become in memory, and which blocks must be written again. */
const REGION_BYTES = 64 * 1024;
const HEALTHY = { absent: false, degraded: false, lazyParity: false };

function load(copies: readonly number[][], rule: LoadRule, unclean = false, count = 8): Regions {
  const regions = Regions.create(count * REGION_BYTES, REGION_BYTES, true);
  const bytes = copies.map((copy) => Uint8Array.from({ length: count }, (_, i) => copy[i] ?? 0));
  loadRegions(regions, bytes, rule, HEALTHY, unclean ? Doubt.Suspect : Doubt.None);
  return regions;
}

function statesOf(regions: Regions): number[] {
  return Array.from({ length: regions.count }, (_, region) => regions.state(region));
}

const ALL_BYTES = [0, 1, 2, 3, 4, 5, 7, 9];

describe("rules", () => {
  const cases: [LoadRule, number[]][] = [
    ["reload", [0, 1, 3, 3, 3, 0, 0, 3]],
    ["stale", [3, 3, 3, 3, 3, 3, 3, 3]],
    ["first-use", [0, 0, 0, 0, 0, 0, 0, 0]],
    ["first-use-clean", [1, 1, 1, 1, 1, 1, 1, 1]],
  ];

  test.each(cases)("%s", (rule, expected) => {
    expect(statesOf(load([ALL_BYTES], rule))).toEqual(expected);
  });

  test("stale without a copy: everything may differ", () => {
    expect(statesOf(load([], "stale"))).toEqual(new Array(8).fill(State.NeedSync));
  });
});

test("each region takes the worst byte that a member holds, whichever member that is", () => {
  const one = [0, 1, 2, 0, 1, 0, 1, 0];
  const other = [1, 0, 1, 3, 4, 2, 1, 0];
  const expected = [1, 1, 3, 3, 3, 3, 1, 0];
  expect(statesOf(load([one, other], "reload"))).toEqual(expected);
  expect(statesOf(load([other, one], "reload"))).toEqual(expected);
});

describe("suspects", () => {
  const suspectsOf = (regions: Regions): boolean[] =>
    Array.from({ length: regions.count }, (_, region) => regions.isSuspect(region));

  test("after an unclean stop exactly what needs a sync is suspect", () => {
    const regions = load([[0, 1, 2, 3, 4, 5, 1, 1]], "reload", true);
    expect(suspectsOf(regions)).toEqual([false, false, true, true, true, false, false, false]);
    expect(regions.anySuspect()).toBe(true);
  });

  test("after a clean stop nothing is: NeedSync alone does not mean it", () => {
    const regions = load([[0, 1, 2, 3, 4, 5, 1, 1]], "reload", false);
    expect(regions.counts().needSync).toBe(3);
    expect(regions.anySuspect()).toBe(false);
  });
});

describe("blocks that must be written before they are trusted", () => {
  const count = 3 * REGIONS_PER_BLOCK;
  const copy = (edit: Record<number, number>): number[] => {
    const bytes = new Array<number>(count).fill(State.Clean);
    for (const [region, byte] of Object.entries(edit)) bytes[Number(region)] = byte;
    return bytes;
  };
  const changed = (copies: readonly number[][], rule: LoadRule = "reload"): boolean[] => {
    const regions = load(copies, rule, false, count);
    return [0, 1, 2].map((block) => regions.isChanged(block));
  };

  test("none, where every member holds what is in memory", () => {
    const bytes = copy({ 3: State.NeedSync });
    expect(changed([bytes, bytes])).toEqual([false, false, false]);
  });

  test("none for Dirty or Syncing bytes: they ask for the sync as well", () => {
    expect(changed([copy({ 3: State.Dirty, 600: State.Syncing })])).toEqual([false, false, false]);
  });

  test("the block where one member demands less than another", () => {
    const marked = copy({ 700: State.Dirty });
    expect(changed([marked, copy({})])).toEqual([false, true, false]);
    expect(changed([copy({}), marked])).toEqual([false, true, false]);
  });

  test("the block with a byte that is no state of ours", () => {
    expect(changed([copy({ 1100: 6 })])).toEqual([false, false, true]);
    expect(changed([copy({ 0: 200 })])).toEqual([true, false, false]);
  });

  test("all, where nothing that lies on the members counts", () => {
    for (const rule of ["stale", "first-use", "first-use-clean"] as const) {
      expect(changed([], rule)).toEqual([true, true, true]);
    }
  });
});
