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
