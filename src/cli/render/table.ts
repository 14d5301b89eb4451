/** A column is as wide as its widest cell; numbers stand to the right. */
export interface Column {
  readonly title: string;
  readonly right?: boolean;
}

export interface Row {
  readonly cells: readonly string[];
  /** Colours the whole line, after it has been laid out. */
  readonly paint?: (line: string) => string;
}

/** Two spaces in front of each column; no blanks at the end of a line. */
export function renderTable(columns: readonly Column[], rows: readonly Row[]): string {
  const titles = columns.map(({ title }) => title.toUpperCase());
  const widths = columns.map((_, column) =>
    Math.max(
      ...[titles, ...rows.map(({ cells }) => cells)].map((line) => line[column]?.length ?? 0),
    ),
  );
  const layOut = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return `  ${columns[column]?.right ? cell.padStart(width) : cell.padEnd(width)}`;
      })
      .join("")
      .trimEnd();
  const lines = rows.map(({ cells, paint = (line: string) => line }) => paint(layOut(cells)));
  return [layOut(titles), ...lines, ""].join("\n");
}
