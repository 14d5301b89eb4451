/**
 * Level 10: first against tables of where md puts the copies of chunks (and sizes that a kernel
 * gave), then properties of every layout that is not refused, each chunk looked at.
 */
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import type { CopiesGeometry } from "../../../src/raid/geometry/geometry.ts";
import { raid10LayoutRefusal } from "../../../src/raid/geometry/raid10-layout.ts";
import { raid10Geometry } from "../../../src/raid/geometry/raid10.ts";
import { holds } from "../../metadata/properties.ts";
import { kernelPlaces } from "./kernel-raid10.ts";
import { allSets, CHUNK, MIB, shapeOf } from "./shapes.ts";

/** The first chunks as (slot, row) pairs. */
function copies(geometry: CopiesGeometry, chunks: number): string {
  const one = (chunk: number): string =>
    geometry
      .locate(chunk)
      .map(({ slot, offset }) => `(${slot},${offset / CHUNK})`)
      .join("");
  return Array.from({ length: chunks }, (_, chunk) => one(chunk)).join(" ");
}

const TABLES: readonly [name: string, layout: number, slots: number, places: string][] = [
  ["n2", 0x102, 4, "(0,0)(1,0) (2,0)(3,0) (0,1)(1,1) (2,1)(3,1)"],
  ["n2", 0x102, 3, "(0,0)(1,0) (2,0)(0,1) (1,1)(2,1) (0,2)(1,2)"],
  ["n3", 0x103, 5, "(0,0)(1,0)(2,0) (3,0)(4,0)(0,1) (1,1)(2,1)(3,1) (4,1)(0,2)(1,2)"],
  ["f2", 0x201, 4, "(0,0)(1,6) (1,0)(2,6) (2,0)(3,6) (3,0)(0,6)"],
  ["o2", 0x10201, 4, "(0,0)(1,1) (1,0)(2,1) (2,0)(3,1) (3,0)(0,1)"],
  ["o2", 0x10201, 3, "(0,0)(1,1) (1,0)(2,1) (2,0)(0,1) (0,2)(1,3)"],
  ["f2 in sets", 0x40201, 4, "(0,0)(1,6) (1,0)(0,6) (2,0)(3,6) (3,0)(2,6)"],
  ["f2 in sets", 0x40201, 5, "(0,0)(1,6) (1,0)(0,6) (2,0)(3,6) (3,0)(4,6) (4,0)(2,6)"],
  ["f2 in md's first sets", 0x20201, 6, "(0,0)(1,6) (1,0)(2,6) (2,0)(0,6) (3,0)(4,6)"],
  ["two near, each of them far", 0x202, 4, "(0,0)(2,6)(1,0)(3,6) (2,0)(0,6)(3,0)(1,6)"],
];

test.each(TABLES)("%s, layout %i on %i slots: %s", (_, layout, slots, places) => {
  const geometry = raid10Geometry(shapeOf(10, layout, slots));
  expect(copies(geometry, places.split(" ").length)).toBe(places);
});

test.each([
  ["n2", 0x102, 3, 18874368],
  ["n3", 0x103, 5, 20971520],
  ["f2", 0x201, 4, 25165824],
  ["o2", 0x10201, 3, 18874368],
])("%s, layout %i on %i slots of 12 MiB has %i bytes, as under md", (_, layout, slots, bytes) => {
  const shape = shapeOf(10, layout, slots, { chunkBytes: 65536, componentBytes: 12 * MIB });
  const geometry = raid10Geometry(shape);
  expect(geometry.sizeBytes).toBe(bytes);
  expect(geometry.trackedBytes).toBe(bytes);
});

/** Every layout number of up to 4 near and far copies. */
const NUMBERS = [0, 1, 2].flatMap((sets) =>
  [0, 1].flatMap((offset) =>
    [1, 2, 3, 4].flatMap((far) =>
      [1, 2, 3, 4].map((near) => near + far * 0x100 + offset * 0x10000 + sets * 0x20000),
    ),
  ),
);
const SOUND = [2, 3, 4, 5, 6, 7, 8, 9].flatMap((slots) =>
  NUMBERS.filter((layout) => raid10LayoutRefusal(layout, slots) === null).map((layout) => ({
    layout,
    slots,
  })),
);

const anyShape = fc
  .tuple(fc.constantFrom(...SOUND), fc.integer({ min: 4, max: 25 }), fc.nat({ max: CHUNK - 1 }))
  .map(([{ layout, slots }, chunks, extra]) =>
    shapeOf(10, layout, slots, { componentBytes: chunks * CHUNK + extra }),
  );
const anyShapeAndPart = fc.tuple(anyShape, fc.double({ min: 0, max: 1.1, noNaN: true }));
const chunksOf = (geometry: CopiesGeometry): number[] => [
  ...new Array(geometry.sizeBytes / CHUNK).keys(),
];

describe("every layout that is not refused", () => {
  it("puts each copy of each chunk on a slot of its own, inside the member, on nothing else", () => {
    holds(
      fc.property(anyShape, (shape) => {
        const geometry = raid10Geometry(shape);
        const taken = new Set<string>();
        for (const chunk of chunksOf(geometry)) {
          const places = geometry.locate(chunk);
          const slots = new Set(places.map(({ slot }) => slot));
          expect([places.length, slots.size]).toEqual([geometry.copies, geometry.copies]);
          expect(Math.max(...slots)).toBeLessThan(shape.raidDisks);
          for (const { slot, offset, length } of places) {
            expect([length, offset % CHUNK]).toEqual([CHUNK, 0]);
            expect(offset + length).toBeLessThanOrEqual(shape.componentBytes);
            taken.add(`${slot} ${offset}`);
          }
        }
        expect(taken.size).toBe((geometry.sizeBytes / CHUNK) * geometry.copies);
      }),
    );
  });

  it("puts copies where the kernel does, in the kernel's order", () => {
    for (const { layout, slots } of SOUND) {
      const geometry = raid10Geometry(shapeOf(10, layout, slots));
      const rows = Math.floor(12 / ((layout >> 8) & 0xff));
      for (const chunk of chunksOf(geometry)) {
        const places = geometry.locate(chunk).map((at) => [at.slot, at.offset / CHUNK]);
        expect([layout, slots, places]).toEqual([
          layout,
          slots,
          kernelPlaces(layout, slots, rows, chunk),
        ]);
      }
    }
  });

  it("is as large as whole rows of its members allow", () => {
    holds(
      fc.property(anyShape, (shape) => {
        const near = shape.layout & 0xff;
        const far = (shape.layout >> 8) & 0xff;
        const rows = Math.floor(Math.floor(shape.componentBytes / CHUNK) / far);
        const chunks = Math.floor((rows * shape.raidDisks) / near);
        expect(raid10Geometry(shape).sizeBytes).toBe(chunks * CHUNK);
      }),
    );
  });

  it("survives if of each chunk there is a copy", () => {
    for (const { layout, slots } of SOUND.filter((one) => one.slots <= 7)) {
      const geometry = raid10Geometry(shapeOf(10, layout, slots, { chunks: 4 * slots }));
      const groups = chunksOf(geometry).map((k) => geometry.locate(k).map(({ slot }) => slot));
      for (const there of allSets(slots)) {
        const all = groups.every((group) => group.some((slot) => there.has(slot)));
        expect(geometry.survives((slot) => there.has(slot))).toBe(all);
      }
    }
  });

  it("says members are done only where everything on them is", () => {
    holds(
      fc.property(anyShapeAndPart, ([shape, part]) => {
        const geometry = raid10Geometry(shape);
        const tracked = Math.floor(geometry.sizeBytes * part);
        const done = geometry.memberDone(tracked);
        const behind = chunksOf(geometry).filter((chunk) => (chunk + 1) * CHUNK > tracked);
        for (const chunk of behind)
          for (const { offset } of geometry.locate(chunk))
            expect(offset).toBeGreaterThanOrEqual(done);
        expect(geometry.trackedDone(done)).toBeLessThanOrEqual(tracked);
      }),
    );
  });

  it("says the array is done only where every copy is", () => {
    holds(
      fc.property(anyShapeAndPart, ([shape, part]) => {
        const geometry = raid10Geometry(shape);
        const member = Math.floor(shape.componentBytes * part);
        const done = geometry.trackedDone(member);
        for (const chunk of chunksOf(geometry).slice(0, done / CHUNK))
          for (const { offset, length } of geometry.locate(chunk))
            expect(offset + length).toBeLessThanOrEqual(member);
        expect(geometry.memberDone(done)).toBeLessThanOrEqual(member);
      }),
    );
  });

  it("is done when all is done, on members and in the array", () => {
    holds(
      fc.property(anyShape, (shape) => {
        const geometry = raid10Geometry(shape);
        const { sizeBytes } = geometry;
        expect(geometry.memberDone(sizeBytes)).toBeGreaterThan(0);
        expect(geometry.trackedDone(geometry.memberDone(sizeBytes))).toBe(sizeBytes);
        expect(geometry.trackedDone(shape.componentBytes)).toBe(sizeBytes);
      }),
    );
  });
});

test("near copies and rows of offset ones are done row by row, far ones all at once", () => {
  const done = (layout: number, slots: number, chunks: number): number =>
    raid10Geometry(shapeOf(10, layout, slots)).memberDone(chunks * CHUNK) / CHUNK;
  // n2 on 4 slots: two chunks a row. o2 on 4: four chunks in two rows.
  expect([1, 2, 3, 4].map((chunks) => done(0x102, 4, chunks))).toEqual([0, 1, 1, 2]);
  expect([3, 4, 7, 8].map((chunks) => done(0x10201, 4, chunks))).toEqual([0, 2, 2, 4]);
  expect([1, 8, 23, 24].map((chunks) => done(0x201, 4, chunks))).toEqual([0, 0, 0, 12]);
});

describe("layouts", () => {
  it.each([2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13])(
    "on %i slots are refused exactly if the kernel would put two copies in one place",
    (slots) => {
      for (const layout of NUMBERS) {
        const found = (layout & 0xff) * ((layout >> 8) & 0xff);
        const refused = raid10LayoutRefusal(layout, slots);
        if (found < 2) expect(refused).toMatch(/one copy only/);
        else if (found > slots) expect(refused).toMatch(/copies need as many slots/);
        else expect([layout, refused === null]).toEqual([layout, sound(layout, slots)]);
      }
    },
  );

  it.each([0x60201, 0x80102, 0x2, 0x100, 0xffffffff])("%i is unknown", (layout) => {
    expect(raid10LayoutRefusal(layout, 4)).toMatch(/unknown/);
  });
});

/** Two rounds of chunks: no two copies together, each chunk's on slots of their own. */
function sound(layout: number, slots: number): boolean {
  const near = layout & 0xff;
  const rows = 2 * near;
  const taken = new Set<string>();
  let expected = 0;
  for (let chunk = 0; chunk < (slots * rows) / near; chunk++) {
    const places = kernelPlaces(layout, slots, rows, chunk);
    if (new Set(places.map(([slot]) => slot)).size < places.length) return false;
    for (const [slot, row] of places) taken.add(`${slot} ${row}`);
    expected += places.length;
  }
  return taken.size === expected;
}
