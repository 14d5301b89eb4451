/** Which geometry a shape gets, and which shapes get none. */
import { describe, expect, it, test } from "vitest";
import { NbdRaidError } from "../../../src/errors.ts";
import type { ArrayShape } from "../../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../../src/raid/geometry/of.ts";
import { allSets, CHUNK, MIB, shapeOf } from "./shapes.ts";

test.each([
  [-1, 0, 3, "striping", 36],
  [0, 1, 3, "striping", 36],
  [1, 0, 3, "mirror", 12],
  [4, 0, 3, "parity", 24],
  [5, 2, 3, "parity", 24],
  [6, 2, 5, "parity", 36],
  [10, 0x102, 3, "copies", 18],
])("level %i, layout %i on %i slots is %s of %i chunks", (level, layout, slots, kind, chunks) => {
  const geometry = geometryOf(shapeOf(level, layout, slots));
  expect(geometry.kind).toBe(kind);
  expect(geometry.sizeBytes).toBe(chunks * CHUNK);
  expect(geometry.redundant).toBe(level > 0);
});

describe("level 1", () => {
  const geometry = geometryOf(shapeOf(1, 0, 3, { chunkBytes: 0, componentBytes: MIB }));

  it("has the array's bytes on each member", () => {
    expect(geometry).toMatchObject({ sizeBytes: MIB, trackedBytes: MIB, stripeBytes: 0 });
    expect([geometry.trackedStart(7, 9), geometry.trackedEnd(7, 9)]).toEqual([7, 16]);
    expect([-1, 5, MIB + 1].map((bytes) => geometry.memberDone(bytes))).toEqual([0, 5, MIB]);
    expect([-1, 5, MIB + 1].map((bytes) => geometry.trackedDone(bytes))).toEqual([0, 5, MIB]);
  });

  it("survives on any one member", () => {
    for (const there of allSets(3))
      expect(geometry.survives((slot) => there.has(slot))).toBe(there.size >= 1);
  });
});

const POWER = /level \d+ needs a power of two, 4096 at least/;
const ROOM = /have no room for (a|\d+) chunks?/;
const REFUSED: readonly [what: string, shape: ArrayShape, words: RegExp][] = [
  ["an unknown level", shapeOf(-4, 0, 2), /level -4 is unknown/],
  ["level 4 on one slot", shapeOf(4, 0, 1), /level 4 needs 2 slots at least, not 1/],
  ["level 5 on one slot", shapeOf(5, 2, 1), /level 5 needs 2 slots at least, not 1/],
  ["level 6 on three slots", shapeOf(6, 2, 3), /level 6 needs 4 slots at least, not 3/],
  ["level 10 on one slot", shapeOf(10, 0x102, 1), /level 10 needs 2 slots at least, not 1/],
  ["level 1 on no slot", shapeOf(1, 0, 0), /level 1 needs 1 slots at least, not 0/],
  ["level linear on no slot", shapeOf(-1, 0, 0), /level linear needs 1 slots at least/],
  ["level 5 in odd chunks", shapeOf(5, 2, 3, { chunkBytes: 12288 }), POWER],
  ["level 6 in chunks below a page", shapeOf(6, 2, 4, { chunkBytes: 2048 }), POWER],
  ["level 4 in chunks of nothing", shapeOf(4, 0, 4, { chunkBytes: 0 }), POWER],
  ["level 10 in odd chunks", shapeOf(10, 0x102, 2, { chunkBytes: 4097 }), POWER],
  ["level 0 in chunks of nothing", shapeOf(0, 1, 2, { chunkBytes: 0 }), /level 0 needs chunks/],
  ["level 5 in chunks past md's int", shapeOf(5, 2, 2, { chunkBytes: 2 ** 40 }), /is too large/],
  ["level linear in chunks past it", shapeOf(-1, 0, 2, { chunkBytes: 2 ** 40 }), /is too large/],
  ["level 0 in part sectors", shapeOf(0, 1, 2, { chunkBytes: 1000 }), /no whole sectors/],
  ["level 5 without a chunk", shapeOf(5, 2, 3, { componentBytes: CHUNK - 1 }), ROOM],
  ["level 10 without far rows", shapeOf(10, 0x301, 3, { componentBytes: 2 * CHUNK }), ROOM],
  ["level 1 of no length", shapeOf(1, 0, 2, { componentBytes: 0 }), /no room/],
  [
    "a member of level 0 below a chunk",
    shapeOf(0, 1, 2, { dataBytes: [MIB, CHUNK - 1] }),
    /slot 1 has 4095 bytes, not one chunk/,
  ],
  [
    "level 0 of several sizes and no layout",
    shapeOf(0, 0, 3, { dataBytes: [CHUNK, 2 * CHUNK, 2 * CHUNK] }),
    /not known which layout/,
  ],
  ["an unknown layout of level 5", shapeOf(5, 6, 3), /layout 6 of level 5 is unknown/],
  ["an unknown layout of level 6", shapeOf(6, 7, 4), /layout 7 of level 6 is unknown/],
  [
    "a conversion in progress",
    shapeOf(6, 18, 4),
    /layout left-symmetric-6 of level 6: a raid5 to raid6 conversion in progress/,
  ],
  [
    "more slots than level 6 has weights",
    shapeOf(6, 2, 257),
    /256 slots at most in this layout, not 257/,
  ],
  [
    "more slots than DDF has weights",
    shapeOf(6, 8, 256),
    /255 slots at most in this layout, not 256/,
  ],
  ["three copies on two slots", shapeOf(10, 0x103, 2), /3 copies need as many slots/],
  ["one copy", shapeOf(10, 0x101, 2), /one copy only/],
  [
    "more bytes than can be counted",
    shapeOf(5, 2, 5, { componentBytes: 2 ** 52 }),
    /larger than 8 PiB/,
  ],
];

test.each(REFUSED)("%s is refused", (_, shape, words) => {
  const refused = (): unknown => geometryOf(shape);
  expect(refused).toThrow(words);
  expect(refused).toThrow(NbdRaidError);
  try {
    refused();
  } catch (error) {
    expect((error as NbdRaidError).code).toBe("superblock-unsupported");
  }
});

test.each([16, 17, 18, 19, 20])("layout %i of level 6 is named as a conversion", (layout) => {
  expect(() => geometryOf(shapeOf(6, layout, 5))).toThrow(/-6 of level 6: a raid5 to raid6 conv/);
});

test.each([
  ["of equal members", [3, 3]],
  ["of one larger member", [3, 5]],
])("level 0 needs no layout where it makes no difference: %s", (_, chunks) => {
  const dataBytes = chunks.map((count) => count * CHUNK);
  const geometry = geometryOf(shapeOf(0, 0, 2, { dataBytes }));
  expect(geometry.sizeBytes).toBe((chunks[0]! + chunks[1]!) * CHUNK);
});

test("level 4 is laid out alike whatever its layout field says", () => {
  const [zero, five] = [0, 5].map((layout) => geometryOf(shapeOf(4, layout, 4)));
  if (zero?.kind !== "parity" || five?.kind !== "parity") throw new Error("a parity level");
  expect(zero.stripe(1)).toEqual(five.stripe(1));
});
