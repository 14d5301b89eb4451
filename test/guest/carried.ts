/** What is known to be carried over between Linux md and this program, as the tests show it. */
import type { LevelName } from "../../src/metadata/levels.ts";

/** Who made and filled the array, and who took it over. */
export type Direction = "ours-to-md" | "md-to-ours";

/** How the side that made the array left it, by the words of docs/reference/carried-over.md. */
export const STATES = {
  clean: "stopped clean",
  killed: "killed, or its power cut, under load",
  syncing: "stopped or killed while a resync or a recovery ran",
  degraded: "a member failed, and more was written",
} as const;
export type State = keyof typeof STATES;

export const BITMAPS = ["none", "internal", "lockless"] as const;
export type Bitmap = (typeof BITMAPS)[number];

/** One array that a test carries over. Tables of cases extend it by what their tests need. */
export interface Carried {
  readonly direction: Direction;
  /** The name of one of kernels.ts. */
  readonly kernel: string;
  readonly level: LevelName;
  /** By this program's name; null where the level has none. */
  readonly layout: string | null;
  readonly bitmap: Bitmap;
  readonly state: State;
}

const LEVEL_ORDER: readonly LevelName[] = ["linear", "0", "1", "4", "5", "6", "10"];

/**
 * A table of Markdown: a row for each level and layout, a column for each kernel and bitmap; cells
 * are the states that were carried over, a dash for none.
 */
export function tableOf(cases: readonly Carried[]): string {
  const columns = unique(cases.map(({ kernel, bitmap }) => ({ kernel, bitmap }))).sort(
    (a, b) =>
      a.kernel.localeCompare(b.kernel) || BITMAPS.indexOf(a.bitmap) - BITMAPS.indexOf(b.bitmap),
  );
  const rows = unique(cases.map(({ level, layout }) => ({ level, layout }))).sort(
    (a, b) => LEVEL_ORDER.indexOf(a.level) - LEVEL_ORDER.indexOf(b.level),
  );
  const cell = (row: (typeof rows)[number], column: (typeof columns)[number]): string => {
    const of = { ...row, ...column };
    const found = cases.filter((one) =>
      Object.entries(of).every(([key, value]) => one[key as keyof Carried] === value),
    );
    const states = Object.keys(STATES).filter((state) => found.some((one) => one.state === state));
    return states.join(", ") || "-";
  };
  return markdown([
    ["level", "layout", ...columns.map(({ kernel, bitmap }) => `${kernel}, ${bitmap}`)],
    ...rows.map((row) => [row.level, row.layout ?? "", ...columns.map((at) => cell(row, at))]),
  ]);
}

function unique<T extends object>(all: readonly T[]): T[] {
  return [...new Map(all.map((one) => [JSON.stringify(one), one])).values()];
}

/** As prettier lays it out. */
function markdown(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) =>
    Math.max(3, ...rows.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((text, column) => text.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...body] = rows.map(line);
  return [head, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body].join("\n");
}
