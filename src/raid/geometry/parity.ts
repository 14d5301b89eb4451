import { assert } from "../../errors.ts";
import { clamp, roundDown } from "./arithmetic.ts";
import type { ArrayShape, ParityGeometry, StripeMap } from "./geometry.ts";
import { type ParityLayout, parityLayout } from "./parity-layouts.ts";

/** Levels 4, 5 and 6: a stripe is a chunk of every slot, one or two of which hold parity. */
export function parityGeometry(shape: ArrayShape): ParityGeometry {
  const { level, chunkBytes, raidDisks } = shape;
  const parityDisks = level === 6 ? 2 : 1;
  const dataDisks = raidDisks - parityDisks;
  const layout = parityLayout(level, shape.layout);
  assert(layout !== null, "a parity layout is known");
  const stripeBytes = dataDisks * chunkBytes;
  const trackedBytes = roundDown(shape.componentBytes, chunkBytes);
  const maps = stripeMaps(layout, raidDisks, dataDisks);
  const identity = (bytes: number): number => clamp(bytes, trackedBytes);
  const column = (offset: number): number =>
    Math.floor(offset / stripeBytes) * chunkBytes + (offset % chunkBytes);
  const inOneChunk = (offset: number, length: number): boolean =>
    (offset % chunkBytes) + length <= chunkBytes;

  return {
    kind: "parity",
    sizeBytes: dataDisks * trackedBytes,
    trackedBytes,
    stripeBytes,
    redundant: true,
    chunkBytes,
    raidDisks,
    dataDisks,
    parityDisks,
    survives: (has) => {
      let there = 0;
      for (let slot = 0; slot < raidDisks; slot++) if (has(slot)) there++;
      return there >= dataDisks;
    },
    trackedStart: (offset, length) =>
      inOneChunk(offset, length) ? column(offset) : Math.floor(offset / stripeBytes) * chunkBytes,
    trackedEnd: (offset, length) =>
      inOneChunk(offset, length)
        ? column(offset) + length
        : Math.ceil((offset + length) / stripeBytes) * chunkBytes,
    memberDone: identity,
    trackedDone: identity,
    stripe: (stripe) => maps[stripe % maps.length]!,
  };
}

/** The maps of all stripes until they repeat. */
function stripeMaps(layout: ParityLayout, raidDisks: number, dataDisks: number): StripeMap[] {
  const period = layout.rotates ? raidDisks : 1;
  return Array.from({ length: period }, (_, stripe) => {
    const p = layout.p(stripe, raidDisks);
    const q = layout.q(p, raidDisks);
    const data = Array.from({ length: dataDisks }, (_, index) => layout.data(index, p, raidDisks));
    return { data, exponents: exponentsOf(layout, data, q, raidDisks), p, q };
  });
}

function exponentsOf(
  layout: ParityLayout,
  data: readonly number[],
  q: number,
  raidDisks: number,
): number[] {
  if (layout.exponents === "slots") return [...data];
  const behindQ = (slot: number): number => (slot - q - 1 + raidDisks) % raidDisks;
  const exponents = new Map<number, number>();
  for (const slot of [...data].sort((a, b) => behindQ(a) - behindQ(b)))
    exponents.set(slot, exponents.size);
  return data.map((slot) => exponents.get(slot)!);
}
