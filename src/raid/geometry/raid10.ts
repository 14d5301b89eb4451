import { clamp, greatestCommonDivisor } from "./arithmetic.ts";
import type { ArrayShape, CopiesGeometry, Extent } from "./geometry.ts";
import { type Raid10Layout, raid10Layout } from "./raid10-layout.ts";

/** Where a copy lies, from the start of the row that its chunk starts in. */
interface Place {
  readonly slot: number;
  readonly distance: number;
}

/**
 * Level 10 (raid10.c: setup_geo, __raid10_find_phys, calc_sectors). Near copies fill rows of
 * chunks slot by slot; far copies repeat whole rows on other slots, further down: behind all of
 * the first ones (far), or row by row (offset).
 */
export function raid10Geometry(shape: ArrayShape): CopiesGeometry {
  const { chunkBytes, raidDisks, componentBytes } = shape;
  const layout = raid10Layout(shape.layout, raidDisks);
  const { near, far, offset: interleaved } = layout;
  const chunks = Math.floor((Math.floor(componentBytes / chunkBytes / far) * raidDisks) / near);
  const rows = Math.ceil((chunks * near) / raidDisks);
  const sizeBytes = chunks * chunkBytes;
  const usedBytes = rows * far * chunkBytes;
  /** On the member, from one row to the next, and from a row to its next far copy. */
  const rowBytes = interleaved ? far * chunkBytes : chunkBytes;
  const strideBytes = interleaved ? chunkBytes : rows * chunkBytes;
  /** By the slot of a chunk's first copy. */
  const places = Array.from({ length: raidDisks }, (_, slot) =>
    placesOf(slot, layout, raidDisks, { rowBytes, strideBytes }),
  );
  const groups = firstSlots(raidDisks, near).map((slot) => places[slot]!);
  /** Rows of which a chunk's copies all lie below: members are done up to there. */
  const doneBytes = (wholeRows: number): number => wholeRows * rowBytes;
  const apart = far > 1 && !interleaved;

  return {
    kind: "copies",
    sizeBytes,
    trackedBytes: sizeBytes,
    stripeBytes: (raidDisks % near === 0 ? raidDisks / near : raidDisks) * chunkBytes,
    redundant: true,
    chunkBytes,
    copies: near * far,
    survives: (has) => groups.every((group) => group.some(({ slot }) => has(slot))),
    trackedStart: (offset) => offset,
    trackedEnd: (offset, length) => offset + length,
    memberDone: (trackedDone) => {
      if (trackedDone >= sizeBytes) return usedBytes;
      if (apart) return 0;
      const chunksDone = Math.floor(clamp(trackedDone, sizeBytes) / chunkBytes);
      return doneBytes(Math.floor((chunksDone * near) / raidDisks));
    },
    trackedDone: (memberDone) => {
      if (memberDone >= usedBytes) return sizeBytes;
      if (apart) return 0;
      const rowsDone = Math.floor(clamp(memberDone, usedBytes) / rowBytes);
      return clamp(Math.floor((rowsDone * raidDisks) / near) * chunkBytes, sizeBytes);
    },
    locate: (chunk) => {
      const position = chunk * near;
      const row = Math.floor(position / raidDisks) * rowBytes;
      return places[position % raidDisks]!.map(({ slot, distance }): Extent => ({
        slot,
        offset: row + distance,
        length: chunkBytes,
      }));
    },
  };
}

/** The slots that the first copy of a chunk comes to lie on. */
function firstSlots(raidDisks: number, near: number): number[] {
  const step = greatestCommonDivisor(raidDisks, near);
  return Array.from({ length: raidDisks / step }, (_, index) => index * step);
}

function placesOf(
  firstSlot: number,
  { near, far, farSlot }: Raid10Layout,
  raidDisks: number,
  { rowBytes, strideBytes }: { readonly rowBytes: number; readonly strideBytes: number },
): Place[] {
  const places: Place[] = [];
  for (let copy = 0; copy < near; copy++) {
    const wraps = firstSlot + copy >= raidDisks;
    let slot = (firstSlot + copy) % raidDisks;
    let distance = wraps ? rowBytes : 0;
    places.push({ slot, distance });
    for (let again = 1; again < far; again++) {
      slot = farSlot(slot);
      distance += strideBytes;
      places.push({ slot, distance });
    }
  }
  return places;
}
