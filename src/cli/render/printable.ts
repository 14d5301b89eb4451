/** C0, DEL and C1: what a terminal takes for commands to it. */
const CONTROLS = /\p{Cc}/gu;
const CONTROLS_BUT_NEWLINES = /(?!\n)\p{Cc}/gu;

/**
 * A copy of plain data in which every text can be shown to people: a name that came from an image,
 * a path or a peer moves no cursor, sets no title and begins no line, but reads `\x1b`.
 */
export function printable<T>(document: T): T {
  return mapTexts(document, CONTROLS);
}

/** The same for what has lines of its own, as stacks do. */
export function printableLines<T>(document: T): T {
  return mapTexts(document, CONTROLS_BUT_NEWLINES);
}

function mapTexts<T>(document: T, controls: RegExp): T {
  return JSON.parse(JSON.stringify(document), (_key, value: unknown) =>
    typeof value === "string" ? value.replace(controls, escaped) : value,
  ) as T;
}

function escaped(control: string): string {
  return `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
