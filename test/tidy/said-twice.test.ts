import { expect, test } from "vitest";
import { STATE_FORMATS } from "../../src/bitmap/on-disk.ts";
import { BITMAP_FORMATS, BITMAP_KINDS } from "../../src/metadata/layout.ts";
import { textOf } from "./sources.ts";

/** What two rooms have to know that may not import one another: said twice, and the same. */

test("the most slots of an array, to the superblock and to a sync", () => {
  const said = ["src/metadata/layout.ts", "src/sync/control.ts"].map(
    (path) => /\bconst SLOTS_MAX = (\d+);/.exec(textOf(path))?.[1],
  );
  expect(said).toEqual(["384", "384"]);
});

test("how many regions share a byte on disk, to the layout and to who packs them", () => {
  expect(Object.keys(STATE_FORMATS).sort()).toEqual([...BITMAP_KINDS].sort());
  for (const kind of BITMAP_KINDS) {
    expect(STATE_FORMATS[kind].regionsPerByte).toBe(BITMAP_FORMATS[kind].regionsPerByte);
  }
});
