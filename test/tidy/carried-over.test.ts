/** The page of what is carried over says what the tests carry over, no more and no less. */
import { describe, expect, test } from "vitest";
import { BITMAPS, type Carried, STATES, tableOf } from "../guest/carried.ts";
import { DEBIAN, LLBITMAP } from "../guest/kernels.ts";
import { MD_TO_OURS } from "../guest/md-to-ours.cases.ts";
import { OURS_TO_MD } from "../guest/ours-to-md.cases.ts";
import { LAYOUTS, titleOf } from "../raid/oracle-shapes.ts";
import { textOf } from "./sources.ts";

const TEXT = textOf("docs/reference/carried-over.md");
const KERNELS = [DEBIAN, LLBITMAP];

/** The first table behind a heading. */
function tableBehind(heading: string): string {
  const [, section = ""] = TEXT.split(`\n## ${heading}\n`);
  const lines = section.split("\n## ")[0]!.split("\n");
  return lines.filter((line) => line.startsWith("|")).join("\n");
}

describe.each([
  { heading: "Ours, taken over by md", direction: "ours-to-md", cases: OURS_TO_MD },
  { heading: "md's, taken over by us", direction: "md-to-ours", cases: MD_TO_OURS },
])("the cases of $direction", ({ heading, direction, cases }) => {
  test("are what the page's table says", () => {
    expect(tableBehind(heading)).toBe(tableOf(cases));
  });

  test("are of this direction, of kernels that there are, with bitmaps those know", () => {
    const wrong = (cases as readonly Carried[]).filter(
      (one) =>
        one.direction !== direction ||
        !KERNELS.some(({ name, bitmaps }) => name === one.kernel && bitmaps.includes(one.bitmap)),
    );
    expect(wrong).toEqual([]);
  });

  test.each(LAYOUTS.map((layout) => [titleOf(layout), layout] as const))(
    "have %s, with each kernel",
    (_, { level, name }) => {
      const found = (cases as readonly Carried[]).filter(
        (one) => one.level === level && one.layout === name && one.state === "clean",
      );
      // LLBITMAP is compiled without MD_LINEAR.
      const kernels = level === "linear" ? [DEBIAN] : KERNELS;
      expect(found.map(({ kernel }) => kernel)).toEqual(
        expect.arrayContaining(kernels.map(({ name: kernel }) => kernel)),
      );
    },
  );
});

test("the page explains each state and each bitmap", () => {
  for (const [state, meaning] of Object.entries(STATES)) {
    expect(TEXT.replaceAll("\n", " ")).toContain(`_${state}_: ${meaning}`);
  }
  for (const bitmap of BITMAPS) expect(TEXT).toMatch(new RegExp(`_${bitmap}_`));
});
