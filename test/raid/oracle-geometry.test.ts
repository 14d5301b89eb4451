/** The program's geometry and the oracle's placement: made apart, they must agree everywhere. */
import { describe, expect, it } from "vitest";
import type { AnyGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { seededRandom } from "../member/seeded.ts";
import {
  anyLost,
  arrayBytes,
  type OracleShape,
  parityRow,
  type Place,
  placesOf,
  survives,
} from "./oracle-placement.ts";
import { trackedBytes, writeImages } from "./oracle.ts";
import { LAYOUTS, levelNumber, titleOf } from "./oracle-shapes.ts";

const CHUNK = 4096;
const MEMBERS_MAX = 8;
/** More than one cycle of the widest layout, and a number that halves and thirds leave a rest of. */
const CHUNKS = 29;

/** Layouts without a name of their own, or that no one makes any more. */
const NAMELESS = [
  { level: "10", name: "n2 f2", layout: 0x202, counts: [4, 5, 6, 7, 8] },
  // On 5 and 7 near copies that go on in the next row would lie on top of the offset ones.
  { level: "10", name: "n2 o2", layout: 0x10202, counts: [4, 6, 8] },
  { level: "10", name: "f2 in far sets", layout: 0x40201, counts: [2, 3, 4, 5, 6, 7, 8] },
] as const;

function shapeOf(level: number, layout: number, raidDisks: number): OracleShape {
  const striped = level === 0 || level === -1;
  return {
    level,
    layout,
    chunkBytes: level === 1 ? 0 : CHUNK,
    raidDisks,
    componentBytes: striped ? 0 : CHUNKS * CHUNK + (level === 1 ? 512 : 0),
    dataBytes: Array.from(
      { length: raidDisks },
      (_, slot) => CHUNK * (striped ? 2 + ((slot * 3) % 5) : CHUNKS) + 512,
    ),
  };
}

/** Where the program says that a byte lies: all copies, or the data's own place. */
function located(geometry: AnyGeometry, shape: OracleShape, offset: number): Place[] {
  const inside = offset % CHUNK;
  switch (geometry.kind) {
    case "mirror":
      return Array.from({ length: shape.raidDisks }, (_, slot) => ({ slot, offset }));
    case "striping": {
      const { slot, offset: at } = geometry.locate(offset);
      return [{ slot, offset: at }];
    }
    case "copies":
      return geometry
        .locate(Math.floor(offset / CHUNK))
        .map(({ slot, offset: at }) => ({ slot, offset: at + inside }));
    case "parity": {
      const chunk = Math.floor(offset / CHUNK);
      const stripe = Math.floor(chunk / geometry.dataDisks);
      const slot = geometry.stripe(stripe).data[chunk % geometry.dataDisks]!;
      return [{ slot, offset: stripe * CHUNK + inside }];
    }
  }
}

const bySlot = (places: Place[]): Place[] => places.sort((a, b) => a.slot - b.slot);

const named = LAYOUTS.map(({ least, ...of }) => {
  const counts = Array.from({ length: MEMBERS_MAX - least + 1 }, (_, more) => least + more);
  return { ...of, counts };
});
const layouts = [...named, ...NAMELESS];

describe.for(layouts.map((of) => [titleOf(of), of] as const))("%s", ([, of]) => {
  const level = levelNumber(of.level);
  const cases = of.counts.map((n) => {
    const shape = shapeOf(level, of.layout, n);
    return { n, shape, geometry: geometryOf(shape) };
  });

  it("has the oracle's sizes", () => {
    for (const { n, shape, geometry } of cases) {
      expect(geometry.sizeBytes, `of ${n}`).toBe(arrayBytes(shape));
      expect(geometry.trackedBytes, `of ${n}`).toBe(trackedBytes(shape));
      expect(geometry.redundant, `of ${n}`).toBe(anyLost(shape) > 0);
    }
  });

  it("puts every chunk where the oracle does", () => {
    for (const { n, shape, geometry } of cases) {
      for (let offset = 300; offset < geometry.sizeBytes; offset += CHUNK) {
        const [ours, oracle] = [located(geometry, shape, offset), placesOf(shape, offset)];
        expect(bySlot(ours), `byte ${offset} of ${n}`).toEqual(bySlot(oracle));
      }
    }
  });

  if (cases[0]!.geometry.kind === "parity") {
    it("has the oracle's parity in every stripe", () => {
      for (const { n, shape, geometry } of cases) expectSameStripes(geometry, shape, n);
    });

    it("tracks every byte of a member that a write changes", () => {
      const random = seededRandom(7);
      for (const { shape, geometry } of cases) {
        for (let count = 0; count < 12; count++) expectTracked(geometry, shape, count < 6, random);
      }
    });
  }

  if (cases[0]!.geometry.redundant) {
    it("calls nothing of a member rebuilt that is not, in both directions", () => {
      for (const { n, shape, geometry } of cases) {
        for (let done = 0; done <= geometry.trackedBytes; done += CHUNK) {
          expect(wronglyDone(geometry, shape, done), `${done} done, of ${n}`).toEqual([]);
        }
        const all = geometry.trackedDone(geometry.memberDone(geometry.trackedBytes));
        expect(all, `all of ${n}`).toBe(geometry.trackedBytes);
      }
    });
  }

  it("survives what the oracle can still read", () => {
    for (const { n, shape, geometry } of cases) {
      for (let present = 0; present < 2 ** n; present++) {
        const has = (slot: number): boolean => ((present >> slot) & 1) === 1;
        if (geometry.survives(has) === survives(shape, has)) continue;
        expect.fail(`of ${n}, with ${present.toString(2)}`);
      }
    }
  });
});

function expectSameStripes(geometry: AnyGeometry, shape: OracleShape, n: number): void {
  if (geometry.kind !== "parity") throw new Error("has no stripes");
  for (let stripe = 0; stripe < CHUNKS; stripe++) {
    const { p, q, data, exponents } = geometry.stripe(stripe);
    const oracle = parityRow(shape, stripe);
    expect({ p, q, data: [...data] }, `stripe ${stripe} of ${n}`).toEqual({
      p: oracle.p,
      q: oracle.q ?? -1,
      data: oracle.data,
    });
    if (q >= 0) expect([...exponents], `stripe ${stripe} of ${n}`).toEqual(oracle.exponents);
  }
}

/** Writes one range with the oracle, and finds every byte of a member that is no longer zero. */
function expectTracked(
  geometry: AnyGeometry,
  shape: OracleShape,
  short: boolean,
  random: () => number,
): void {
  const offset = Math.floor(random() * (geometry.sizeBytes - 1));
  const most = Math.min(geometry.sizeBytes - offset, short ? 5000 : 6 * shape.raidDisks * CHUNK);
  const length = 1 + Math.floor(random() * most);
  const bytes = new Uint8Array(geometry.sizeBytes).fill(255, offset, offset + length);
  const start = geometry.trackedStart(offset, length);
  const end = geometry.trackedEnd(offset, length);
  expect(end).toBeLessThanOrEqual(geometry.trackedBytes);
  for (const image of writeImages(shape, bytes)) {
    const first = image.findIndex((byte) => byte !== 0);
    if (first < 0) continue;
    expect(first, `${offset}+${length}`).toBeGreaterThanOrEqual(start);
    expect(
      image.findLastIndex((byte) => byte !== 0),
      `${offset}+${length}`,
    ).toBeLessThan(end);
  }
}

/**
 * Chunks of the tracked bytes that contradict the geometry: of a rebuild that has done `done`
 * tracked bytes, or of a member that is done up to there.
 */
function wronglyDone(geometry: AnyGeometry, shape: OracleShape, done: number): number[] {
  const member = geometry.memberDone(done);
  const tracked = geometry.trackedDone(done);
  const wrong: number[] = [];
  for (let at = 0; at + CHUNK <= geometry.trackedBytes; at += CHUNK) {
    const copies = geometry.kind === "copies" ? placesOf(shape, at) : [{ offset: at }];
    const notYet = at >= done && copies.some(({ offset }) => offset < member);
    const notThere = at < tracked && copies.some(({ offset }) => offset >= done);
    if (notYet || notThere) wrong.push(at / CHUNK);
  }
  return wrong;
}
