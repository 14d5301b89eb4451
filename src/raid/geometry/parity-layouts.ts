/**
 * Where levels 4, 5 and 6 put parity and data: md's layouts as a table (raid5.c:
 * raid5_compute_sector, and the ALGORITHM_ constants of raid5.h). `n` is the number of slots.
 */

export interface ParityLayout {
  /** False: every stripe is laid out as the first. */
  readonly rotates: boolean;
  readonly p: (stripe: number, n: number) => number;
  /** -1: there is none. */
  readonly q: (p: number, n: number) => number;
  /** The slot of data chunk `index` of a stripe. */
  readonly data: (index: number, p: number, n: number) => number;
  /**
   * What counts the exponents of Q: data slots from the one behind Q on, or all slots from 0 on,
   * as if P and Q held zeroes there (the layouts of DDF).
   */
  readonly exponents: "data behind Q" | "slots";
}

type Where = Pick<ParityLayout, "rotates" | "p">;

const LEFT: Where = { rotates: true, p: (stripe, n) => n - 1 - (stripe % n) };
const LEFT_AHEAD: Where = { rotates: true, p: (stripe, n) => n - 1 - ((stripe + 1) % n) };
const RIGHT: Where = { rotates: true, p: (stripe, n) => stripe % n };
const FIRST: Where = { rotates: false, p: () => 0 };
const LAST: Where = { rotates: false, p: (_, n) => n - 1 };
const LAST_BUT_ONE: Where = { rotates: false, p: (_, n) => n - 2 };

type Rest = Omit<ParityLayout, keyof Where>;

const NO_Q = { q: () => -1, exponents: "data behind Q" } as const;
const SKIPS_P: Rest = { ...NO_Q, data: (index, p) => (index < p ? index : index + 1) };
const FOLLOWS_P: Rest = { ...NO_Q, data: (index, p, n) => (p + 1 + index) % n };

const Q_BEHIND_P = {
  q: (p: number, n: number) => (p + 1) % n,
  exponents: "data behind Q",
} as const;
/** Q of a stripe whose P is in the last slot goes to slot 0, and moves the data by one. */
const SKIPS_P_AND_Q: Rest = {
  ...Q_BEHIND_P,
  data: (index, p, n) => {
    if (p === n - 1) return index + 1;
    return index < p ? index : index + 2;
  },
};
const FOLLOWS_Q: Rest = { ...Q_BEHIND_P, data: (index, p, n) => (p + 2 + index) % n };
const DDF_RESTART: Rest = { ...SKIPS_P_AND_Q, exponents: "slots" };
const DDF_CONTINUE: Rest = {
  q: (p, n) => (p + n - 1) % n,
  data: FOLLOWS_P.data,
  exponents: "slots",
};

/** Level 4 has no layouts: md does not look at the number. */
export const RAID4_LAYOUT: ParityLayout = { ...LAST, ...SKIPS_P };

export const RAID5_LAYOUTS: ReadonlyMap<number, ParityLayout> = new Map([
  [0, { ...LEFT, ...SKIPS_P }],
  [1, { ...RIGHT, ...SKIPS_P }],
  [2, { ...LEFT, ...FOLLOWS_P }],
  [3, { ...RIGHT, ...FOLLOWS_P }],
  [4, { ...FIRST, ...SKIPS_P }],
  [5, { ...LAST, ...SKIPS_P }],
]);

export const RAID6_LAYOUTS: ReadonlyMap<number, ParityLayout> = new Map([
  [0, { ...LEFT, ...SKIPS_P_AND_Q }],
  [1, { ...RIGHT, ...SKIPS_P_AND_Q }],
  [2, { ...LEFT, ...FOLLOWS_Q }],
  [3, { ...RIGHT, ...FOLLOWS_Q }],
  [4, { ...FIRST, ...SKIPS_P_AND_Q }],
  [5, { ...LAST_BUT_ONE, ...SKIPS_P_AND_Q }],
  [8, { ...RIGHT, ...DDF_RESTART }],
  [9, { ...LEFT_AHEAD, ...DDF_RESTART }],
  [10, { ...LEFT, ...DDF_CONTINUE }],
]);

/** Null: the level has no such layout. */
export function parityLayout(level: number, layout: number): ParityLayout | null {
  if (level === 4) return RAID4_LAYOUT;
  return (level === 5 ? RAID5_LAYOUTS : RAID6_LAYOUTS).get(layout) ?? null;
}
