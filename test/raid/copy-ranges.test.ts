/** Level 10: where all copies of a range lie. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { copyRanges } from "../../src/raid/copy-ranges.ts";
import { holds } from "../metadata/properties.ts";
import { CHUNK, COPIES_SHAPES, copiesGeometry, copiesShape } from "./copy-shapes.ts";

const SECTOR = 512;

describe("the copies of a range", () => {
  test.each(COPIES_SHAPES)("of %s on %i members are where each sector has them", (name, disks) => {
    const geometry = copiesGeometry(copiesShape(name, disks, 24));
    const sectors = geometry.sizeBytes / SECTOR;
    holds(
      fc.property(fc.nat(sectors - 1), fc.nat(sectors), (first, count) => {
        const end = Math.min(sectors, first + count + 1);
        const expected = new Set<string>();
        for (let sector = first; sector < end; sector++) {
          const at = sector * SECTOR;
          for (const { slot, offset } of geometry.locate(Math.floor(at / CHUNK))) {
            expected.add(`${slot} ${offset + (at % CHUNK)}`);
          }
        }
        const found: string[] = [];
        for (const range of copyRanges(geometry, first * SECTOR, (end - first) * SECTOR)) {
          for (let at = 0; at < range.length; at += SECTOR) {
            found.push(`${range.slot} ${range.offset + at}`);
          }
        }
        expect(found).toHaveLength(expected.size);
        expect(new Set(found)).toEqual(expected);
      }),
    );
  });

  // A TiB has 268 million chunks: this ends only if they are not looked at one by one.
  test.each([
    ["n2", 4, 4],
    ["n2", 5, 5],
    ["f2", 4, 8],
    ["o2", 4, 4 + 2],
  ])("are a few ranges, for a TiB of %s on %i members too", (name, disks, most) => {
    const geometry = copiesGeometry(copiesShape(name, disks, 2 ** 40 / CHUNK));
    const length = 2 ** 40;
    const ranges = copyRanges(geometry, CHUNK, length);
    expect(ranges.length).toBeLessThanOrEqual(most);
    expect(ranges.reduce((sum, range) => sum + range.length, 0)).toBe(2 * length);
  });
});
