import { describe, expect, test } from "vitest";
import { createKernels } from "../../src/parity/create.ts";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import type { Legs } from "../../src/raid/level.ts";
import { Scratch } from "../../src/raid/scratch.ts";
import { buildStripe } from "../../src/raid/stripe-build.ts";
import type { DecodeParts } from "../../src/raid/stripe-read.ts";
import { BLOCK, FakeLeg } from "./fake-leg.ts";

/** Parity of what was never written: members hold anything there, slot n bytes of value n. */
const GEOMETRY = geometryOf({
  level: 5,
  layout: 2,
  raidDisks: 4,
  chunkBytes: BLOCK,
  componentBytes: 4 * BLOCK,
  dataBytes: [],
}) as ParityGeometry;
const { data, p } = GEOMETRY.stripe(0);

function bench({ rebuilding = -1, absent = -1 }) {
  const all = Array.from({ length: GEOMETRY.raidDisks }, (_, slot) => new FakeLeg(slot));
  const legs: Legs<FakeLeg> = {
    inSync: all.filter(({ slot }) => slot !== rebuilding && slot !== absent),
    writable: all.filter(({ slot }) => slot !== absent),
    inSyncAt: (slot) => legs.inSync.find((leg) => leg.slot === slot) ?? null,
    writableAt: (slot) => legs.writable.find((leg) => leg.slot === slot) ?? null,
  };
  const kernels = createKernels();
  const parts: DecodeParts<FakeLeg> = {
    geometry: GEOMETRY,
    legs,
    kernels,
    scratch: new Scratch(kernels),
  };
  return { all, parts };
}

const sumOf = (legs: readonly FakeLeg[]): number =>
  legs.reduce((sum, { bytes }) => sum ^ bytes[0]!, 0);

describe("where a data chunk is lost", () => {
  test("parity is such that it is zero", async () => {
    const { all, parts } = bench({ absent: data[1]! });
    expect(await buildStripe(parts, 0, 0, BLOCK)).toEqual([]);
    expect(sumOf(all.filter(({ slot }) => slot !== data[1]))).toBe(0);
  });

  test("a member that is rebuilt there is zero too: the rebuild may have passed already", async () => {
    const { all, parts } = bench({ rebuilding: data[1]! });
    expect(await buildStripe(parts, 0, 0, BLOCK)).toEqual([]);
    expect(sumOf(all)).toBe(0);
    expect(all[data[1]!]!.bytes.subarray(0, BLOCK).every((byte) => byte === 0)).toBe(true);
    expect(all[data[1]!]!.bytes[BLOCK]).toBe(data[1]);
    expect(all[p]!.bytes[0]).toBe(data[0]! ^ data[2]!);
  });
});

test("one that cannot be read rejects only when nothing reads into buffers any more", async () => {
  const { all, parts } = bench({});
  all[data[0]!]!.badBlocks.add(0);
  let open = 1;
  all[data[2]!]!.delay = new Promise((resolve) => setTimeout(resolve, 20)).then(() => void open--);
  await expect(buildStripe(parts, 0, 0, BLOCK)).rejects.toThrow("read failed");
  expect(open).toBe(0);
});
