/** The levels and layouts that tests of levels go through. */
import type { LevelName } from "../../src/metadata/levels.ts";
import { LEVELS } from "../../src/metadata/levels.ts";

export interface Layout {
  readonly level: LevelName;
  /** As `create --layout` takes it; null where the level has none. */
  readonly name: string | null;
  /** md's number. */
  readonly layout: number;
  /** Members at least. */
  readonly least: number;
}

const RAID5 = [
  "left-asymmetric",
  "right-asymmetric",
  "left-symmetric",
  "right-symmetric",
  "parity-first",
  "parity-last",
];
const RAID6_DDF = ["ddf-zero-restart", "ddf-N-restart", "ddf-N-continue"];

/** Every level and layout that md runs arrays with, but for those of a conversion under way. */
export const LAYOUTS: readonly Layout[] = [
  { level: "linear", name: null, layout: 0, least: 1 },
  { level: "0", name: "original", layout: 1, least: 1 },
  { level: "0", name: "alternate", layout: 2, least: 1 },
  { level: "1", name: null, layout: 0, least: 2 },
  { level: "4", name: null, layout: 0, least: 2 },
  ...RAID5.map((name, layout) => ({ level: "5" as const, name, layout, least: 2 })),
  ...RAID5.map((name, layout) => ({ level: "6" as const, name, layout, least: 4 })),
  ...RAID6_DDF.map((name, at) => ({ level: "6" as const, name, layout: 8 + at, least: 4 })),
  { level: "10", name: "n2", layout: 0x102, least: 2 },
  { level: "10", name: "n3", layout: 0x103, least: 3 },
  { level: "10", name: "f2", layout: 0x201, least: 2 },
  { level: "10", name: "f3", layout: 0x301, least: 3 },
  { level: "10", name: "o2", layout: 0x10201, least: 2 },
  { level: "10", name: "o3", layout: 0x10301, least: 3 },
];

export const titleOf = ({ level, name }: Pick<Layout, "level" | "name">): string =>
  name === null ? `level ${level}` : `level ${level} ${name}`;

export const levelNumber = (level: LevelName): number => LEVELS[level];
