/** What is in md's layout number of level 10 (raid10.c: setup_geo), and which of it is sound. */

const OFFSET_BIT = 0x10000;
/** Bits 17 and 18 select one of these. */
const FAR_SETS_SHIFT = 17;
const KNOWN_BITS = 0x7ffff;

export interface Raid10Layout {
  /** Copies of a chunk on neighbouring slots; 1 at least. */
  readonly near: number;
  /** Copies of each of those, further down; 1 at least. */
  readonly far: number;
  /** Far copies follow their row, not all rows. */
  readonly offset: boolean;
  /** Far copies of a slot stay in a set of this many slots; md's far_set_size. */
  readonly farSetSize: number;
  /** The slot of the next far copy of what lies on `slot`. */
  readonly farSlot: (slot: number) => number;
}

/** The layout must be one that {@link raid10LayoutRefusal} has nothing against. */
export function raid10Layout(layout: number, raidDisks: number): Raid10Layout {
  const near = layout & 0xff;
  const far = (layout >> 8) & 0xff;
  const farSetSize = FAR_SET_SIZES[layout >> FAR_SETS_SHIFT]!(raidDisks, near, far);
  const lastSet = (Math.floor(raidDisks / farSetSize) - 1) * farSetSize;
  const lastSetSize = farSetSize + (raidDisks % farSetSize);
  return {
    near,
    far,
    offset: (layout & OFFSET_BIT) !== 0,
    farSetSize,
    farSlot: (slot) => {
      // The last set is larger if slots are left over.
      const start = Math.min(slot - (slot % farSetSize), lastSet);
      const size = start === lastSet ? lastSetSize : farSetSize;
      return start + ((slot - start + near) % size);
    },
  };
}

/** By selector. The second was a mistake that md keeps for the arrays made by it. */
const FAR_SET_SIZES: readonly ((raidDisks: number, near: number, far: number) => number)[] = [
  (raidDisks) => raidDisks,
  (raidDisks, _near, far) => Math.floor(raidDisks / far),
  (_raidDisks, near, far) => near * far,
];

/**
 * What is wrong with a layout for so many slots, in words, or null. Beyond what md refuses, there
 * are combinations of near and far copies that it takes, and that make it overwrite one chunk by
 * another.
 */
export function raid10LayoutRefusal(layout: number, raidDisks: number): string | null {
  const shown = `layout 0x${layout.toString(16)}`;
  const near = layout & 0xff;
  const far = (layout >> 8) & 0xff;
  const farSetSizeOf = FAR_SET_SIZES[layout >>> FAR_SETS_SHIFT];
  if (layout > KNOWN_BITS || farSetSizeOf === undefined || near === 0 || far === 0)
    return `${shown} of level 10 is unknown`;
  const copies = near * far;
  if (copies < 2) return `${shown} of level 10 has one copy only`;
  if (copies > raidDisks) return `${copies} copies need as many slots, the array has ${raidDisks}`;
  if (far === 1) return null;
  const farSetSize = farSetSizeOf(raidDisks, near, far);
  const offset = (layout & OFFSET_BIT) !== 0;
  // md turns the last slots of the set before a larger last one into that, a few too many.
  const strays = raidDisks > 2 * farSetSize && raidDisks % farSetSize !== 0;
  // Near copies that wrap end on the next row, where in an offset layout far copies are.
  const wraps = offset && raidDisks % near !== 0;
  const together = farSetSize < copies || (near > 1 && (strays || wraps));
  return together
    ? `${shown} of level 10 puts chunks on top of each other on ${raidDisks} slots`
    : null;
}
