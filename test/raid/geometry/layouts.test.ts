import { describe, expect, it } from "vitest";
import {
  defaultLayout,
  layoutName,
  layoutNames,
  layoutNumber,
} from "../../../src/raid/geometry/layouts.ts";

const NAMES: readonly [level: number, layout: number, name: string][] = [
  [0, 1, "original"],
  [0, 2, "alternate"],
  [5, 0, "left-asymmetric"],
  [5, 1, "right-asymmetric"],
  [5, 2, "left-symmetric"],
  [5, 3, "right-symmetric"],
  [5, 4, "parity-first"],
  [5, 5, "parity-last"],
  [6, 0, "left-asymmetric"],
  [6, 1, "right-asymmetric"],
  [6, 2, "left-symmetric"],
  [6, 3, "right-symmetric"],
  [6, 4, "parity-first"],
  [6, 5, "parity-last"],
  [6, 8, "ddf-zero-restart"],
  [6, 9, "ddf-N-restart"],
  [6, 10, "ddf-N-continue"],
  [10, 0x102, "n2"],
  [10, 0x103, "n3"],
  [10, 0x201, "f2"],
  [10, 0x301, "f3"],
  [10, 0x10201, "o2"],
  [10, 0x10301, "o3"],
  [10, 0x1c8, "n200"],
];

describe("layouts", () => {
  it.each(NAMES)("of level %i: number %i is %s", (level, layout, name) => {
    expect(layoutName(level, layout)).toBe(name);
    expect(layoutNumber(level, name)).toBe(layout);
  });

  it.each([5, 6])("of level %i have mdadm's short names too", (level) => {
    expect(["la", "ra", "ls", "rs"].map((name) => layoutNumber(level, name))).toEqual([0, 1, 2, 3]);
  });

  it.each([
    [10, 0x40201],
    [10, 0x202],
    [10, 0x101],
  ])("of level %i without a name of mdadm's are shown as a number: 0x%x", (level, layout) => {
    expect(layoutName(level, layout)).toBe(`0x${layout.toString(16)}`);
  });

  it.each([
    [1, "left-symmetric"],
    [4, "left-symmetric"],
    [-1, "original"],
    [0, "left-symmetric"],
    [5, "n2"],
    [5, "ddf-zero-restart"],
    [6, "left-symmetric-6"],
    [6, "constructor"],
    [10, "n1"],
    [10, "n256"],
    [10, "x2"],
    [10, "n2 "],
    [10, "left-symmetric"],
  ])("of level %i include none called %s", (level, name) => {
    expect(layoutNumber(level, name)).toBeNull();
  });

  it("have no name where the level has none, or not this one", () => {
    expect([1, 4, -1].map((level) => layoutName(level, 0))).toEqual([null, null, null]);
    expect(layoutName(5, 6)).toBeNull();
    expect(layoutName(6, 18)).toBeNull();
  });

  it("are by default mdadm's", () => {
    const names = [0, 5, 6, 10].map((level) => layoutName(level, defaultLayout(level)));
    expect(names).toEqual(["original", "left-symmetric", "left-symmetric", "n2"]);
    expect([-1, 1, 4].map(defaultLayout)).toEqual([0, 0, 0]);
  });

  it("are listed for people, each one a name that is taken", () => {
    for (const level of [0, 5, 6]) {
      const names = layoutNames(level)?.split(", ") ?? [];
      expect(names.length).toBeGreaterThan(1);
      for (const name of names) expect(layoutNumber(level, name)).not.toBeNull();
    }
    expect(layoutNames(1)).toBeNull();
    expect(layoutNames(10)).toContain("n2");
  });
});
