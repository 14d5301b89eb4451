import { describe, expect, it } from "vitest";
import { LEVELS, levelName } from "../../src/metadata/levels.ts";

describe("levels", () => {
  it("have md's numbers", () => {
    expect(LEVELS).toEqual({ linear: -1, "0": 0, "1": 1, "4": 4, "5": 5, "6": 6, "10": 10 });
  });

  it.each(Object.entries(LEVELS))("%s is the name of %i", (name, level) => {
    expect(levelName(level)).toBe(name);
  });

  it("have no name for a number they do not know", () => {
    expect(levelName(-4)).toBeNull();
  });
});
