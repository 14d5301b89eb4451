/** The layouts of the levels that have any, by mdadm's names for md's numbers. */
import { RAID0_ALTERNATE, RAID0_ORIGINAL } from "./raid0.ts";

type Names = Readonly<Record<string, number>>;

const RAID0: Names = { original: RAID0_ORIGINAL, alternate: RAID0_ALTERNATE };

const RAID5: Names = {
  "left-asymmetric": 0,
  "right-asymmetric": 1,
  "left-symmetric": 2,
  "right-symmetric": 3,
  "parity-first": 4,
  "parity-last": 5,
};

const RAID6: Names = {
  ...RAID5,
  "ddf-zero-restart": 8,
  "ddf-N-restart": 9,
  "ddf-N-continue": 10,
};

/** Level 6 on its way from level 5: Q on the last slot, the rest as level 5 without that slot. */
const CONVERSIONS: Names = {
  "left-asymmetric-6": 16,
  "right-asymmetric-6": 17,
  "left-symmetric-6": 18,
  "right-symmetric-6": 19,
  "parity-first-6": 20,
};

const NAMES: ReadonlyMap<number, Names> = new Map([
  [0, RAID0],
  [5, RAID5],
  [6, RAID6],
]);

/** Further names that mdadm takes. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ["la", "left-asymmetric"],
  ["ra", "right-asymmetric"],
  ["ls", "left-symmetric"],
  ["rs", "right-symmetric"],
]);

const DEFAULTS: ReadonlyMap<number, number> = new Map([
  [0, RAID0_ORIGINAL],
  [5, RAID5["left-symmetric"]!],
  [6, RAID6["left-symmetric"]!],
  [10, 0x102],
]);

/** n2: two near copies; f2: two far copies; o2: the same, but row by row ("offset"). */
const COPIES: Readonly<Record<string, (copies: number) => number>> = {
  n: (copies) => 0x100 + copies,
  f: (copies) => 0x1 + copies * 0x100,
  o: (copies) => 0x10001 + copies * 0x100,
};
const COPIES_NAME = /^([nfo])([1-9]\d?\d?)$/;
const COPIES_MAX = 0xff;

/**
 * Null: the level (md's number) has no layouts, or not this one. Layouts of level 10 for which
 * mdadm has no name are shown as a hexadecimal number.
 */
export function layoutName(level: number, layout: number): string | null {
  if (level === 10) return copiesName(layout);
  return nameIn(NAMES.get(level) ?? {}, layout);
}

/** The name of a layout in which level 6 lies while md converts it from level 5, or null. */
export function conversionName(layout: number): string | null {
  return nameIn(CONVERSIONS, layout);
}

/** Null: the level has no layout of that name. */
export function layoutNumber(level: number, name: string): number | null {
  if (level === 10) return copiesNumber(name);
  const names = NAMES.get(level) ?? {};
  const full = ALIASES.get(name) ?? name;
  return Object.hasOwn(names, full) ? names[full]! : null;
}

/** mdadm's choice; 0 for levels without layouts. */
export function defaultLayout(level: number): number {
  return DEFAULTS.get(level) ?? 0;
}

/** For people: the names that {@link layoutNumber} takes, or null for a level without layouts. */
export function layoutNames(level: number): string | null {
  if (level === 10) return "n2, f2, o2 (or more copies)";
  const names = NAMES.get(level);
  return names === undefined ? null : Object.keys(names).join(", ");
}

function nameIn(names: Names, layout: number): string | null {
  return Object.keys(names).find((name) => names[name] === layout) ?? null;
}

function copiesName(layout: number): string {
  const near = layout & 0xff;
  const far = (layout >>> 8) & 0xff;
  const name = Object.keys(COPIES).find((kind) =>
    [near, far].some((copies) => copies > 1 && COPIES[kind]!(copies) === layout),
  );
  return name === undefined ? `0x${layout.toString(16)}` : `${name}${Math.max(near, far)}`;
}

/** One copy is none to speak of: what n1, f1 and o1 are is left to level 0. */
function copiesNumber(name: string): number | null {
  const [, kind, digits] = COPIES_NAME.exec(name) ?? [];
  const copies = Number(digits);
  if (kind === undefined || copies < 2 || copies > COPIES_MAX) return null;
  return COPIES[kind]!(copies);
}
