import type { SlotRange } from "./slot-ranges.ts";

/**
 * The same ranges in the order of slots and offsets, adjacent ones as one: copies of a row of
 * chunks lie side by side on a member, though not in the order of the array.
 */
export function mergeRanges(ranges: readonly SlotRange[]): SlotRange[] {
  const merged: SlotRange[] = [];
  const sorted = ranges.toSorted((a, b) => a.slot - b.slot || a.offset - b.offset);
  for (const { slot, offset, length, parts } of sorted) {
    const last = merged.at(-1);
    if (last?.slot === slot && last.offset + last.length === offset) {
      last.length += length;
      last.parts.push(...parts);
    } else {
      merged.push({ slot, offset, length, parts: [...parts] });
    }
  }
  return merged;
}
