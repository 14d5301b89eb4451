/** The levels this program knows, by the names it shows, with md's numbers for them. */
export const LEVELS = { linear: -1, "0": 0, "1": 1, "4": 4, "5": 5, "6": 6, "10": 10 } as const;

export type LevelName = keyof typeof LEVELS;

const NAMES = new Map<number, LevelName>(
  Object.entries(LEVELS).map(([name, level]) => [level, name as LevelName]),
);

/** The name of md's level number, or null: a level this program does not know. */
export function levelName(level: number): LevelName | null {
  return NAMES.get(level) ?? null;
}

/** Levels that only md has, or had. */
const OTHERS = new Map([
  [-4, "multipath"],
  [-5, "faulty"],
  [-100, "container"],
]);

/** For people: the number of a level that this program does not know, and its name if it has one. */
export function levelInWords(level: number): string {
  const name = OTHERS.get(level);
  return name === undefined ? String(level) : `${level} (${name})`;
}
