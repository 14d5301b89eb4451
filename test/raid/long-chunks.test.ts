/** Chunks far longer than what is written of them: nothing may be as long as they are. */
import { describe, expect, test } from "vitest";
import { plainKernels } from "../../src/parity/plain.ts";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { Scratch } from "../../src/raid/scratch.ts";
import { StripeUpdate } from "../../src/raid/stripe-write.ts";
import { KiB, MiB } from "../sim/rule-machine.ts";
import { World } from "../sim/world.ts";
import { FakeLeg } from "./fake-leg.ts";

const GiB = 1024 * MiB;
const BLOCK = 4 * KiB;

/** Every block of a slot is full of one byte before it is written. */
const oldByte = (slot: number, offset: number): number => (7 * slot + offset / BLOCK) % 256;

/** A leg that holds nothing: it makes up what is read, and keeps what was written by its place. */
class LongLeg extends FakeLeg {
  readonly written = new Map<number, Uint8Array>();

  constructor(slot: number) {
    super(slot);
    this.member.tryRead = (into, at) => {
      into.fill(oldByte(slot, at - this.dataOffset));
      return true;
    };
    this.member.tryWritev = (from, at) => {
      this.written.set(at - this.dataOffset, Uint8Array.from(Buffer.concat(from)));
      return true;
    };
  }
}

/** Level 5 on six slots; how much memory updates ask for. */
function bench(chunkBytes: number) {
  const shape = { level: 5, layout: 2, chunkBytes, raidDisks: 6, componentBytes: 2 * chunkBytes };
  const geometry = geometryOf({ ...shape, dataBytes: [] }) as ParityGeometry;
  const legs = Array.from({ length: shape.raidDisks }, (_, slot) => new LongLeg(slot));
  const used = { bytes: 0 };
  const kernels = {
    ...plainKernels,
    allocate: (length: number): Uint8Array => {
      used.bytes += length;
      return new Uint8Array(length);
    },
  };
  const at = (slot: number): LongLeg => legs[slot]!;
  const unused = (): never => expect.fail("an update of one stripe does not ask for this");
  const parts = {
    geometry,
    kernels,
    scratch: new Scratch(kernels),
    legs: { inSync: legs, writable: legs, inSyncAt: at, writableAt: at },
    host: {
      clock: new World(1).clock,
      isSuspect: () => false,
      isDoubtful: () => false,
      exclusively: unused,
      readFailed: unused,
      writeFailed: unused,
    },
    writes: { full: 0, reconstruct: 0, modify: 0 },
  };
  return { geometry, legs, parts, used };
}

describe.each([
  { name: "64 MiB", chunkBytes: 64 * MiB },
  { name: "8 GiB", chunkBytes: 8 * GiB },
])("two pieces at both ends of a chunk of $name", ({ chunkBytes }) => {
  test("take no more memory than they are long, on each slot that is read", async () => {
    const { geometry, legs, parts, used } = bench(chunkBytes);
    const { data, p } = geometry.stripe(1);
    const pieces = [0, chunkBytes - BLOCK].map((start, index) => {
      return { index: 0, start, bytes: new Uint8Array(BLOCK).fill(0xa0 + index) };
    });
    expect(await new StripeUpdate(parts, 1, pieces).run()).toEqual([]);
    expect(used.bytes).toBeLessThanOrEqual(4 * 2 * BLOCK);
    for (const { start, bytes } of pieces) {
      const place = chunkBytes + start;
      expect(legs[data[0]!]!.written.get(place)).toEqual(bytes);
      const parity = oldByte(p, place) ^ oldByte(data[0]!, place) ^ bytes[0]!;
      expect(legs[p]!.written.get(place)).toEqual(new Uint8Array(BLOCK).fill(parity));
    }
    const places = legs.map(({ written }) => written.size);
    expect(places.reduce((sum, count) => sum + count)).toBe(4);
  });
});

test.each([4096, 4097, MiB, 2 ** 31 + 1, 2 ** 32, 2 ** 32 + 1, 2 ** 40])(
  "a buffer for %i bytes is long enough, and no longer than twice that",
  (bytes) => {
    const asked: number[] = [];
    const allocate = (length: number): Uint8Array => {
      asked.push(length);
      return new Uint8Array(0);
    };
    new Scratch({ ...plainKernels, allocate }).take(bytes);
    expect(asked.length).toBe(1);
    expect(asked[0]).toBeGreaterThanOrEqual(bytes);
    expect(asked[0]).toBeLessThan(2 * bytes);
  },
);
