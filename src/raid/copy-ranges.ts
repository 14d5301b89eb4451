import { assert } from "../errors.ts";
import type { CopiesGeometry } from "./geometry/geometry.ts";
import { mergeRanges } from "./merge-ranges.ts";
import type { SlotRange } from "./slot-ranges.ts";

/**
 * Where all copies of a range of the array lie, adjacent ones as one range without parts. Takes
 * no longer for long ranges than for short ones: after a number of chunks, at most one a slot, the
 * layout starts over with the same slots further down.
 */
export function copyRanges(geometry: CopiesGeometry, offset: number, length: number): SlotRange[] {
  const end = offset + length;
  const { arrayBytes, memberBytes } = periodOf(geometry);
  const first = Math.ceil(offset / arrayBytes);
  const last = Math.floor(end / arrayBytes);
  if (last - first < 2) return mergeRanges([...chunkRanges(geometry, offset, end)]);
  const start = first * arrayBytes;
  const one = mergeRanges([...chunkRanges(geometry, start, start + arrayBytes)]);
  const whole = one.map((range) => {
    assert(range.length === memberBytes, "a period of level 10 leaves no gaps on a member");
    return { ...range, length: (last - first) * memberBytes };
  });
  return mergeRanges([
    ...chunkRanges(geometry, offset, start),
    ...whole,
    ...chunkRanges(geometry, last * arrayBytes, end),
  ]);
}

/** How far it is, in the array and on members, until chunks lie on the same slots again. */
function periodOf(geometry: CopiesGeometry) {
  const { chunkBytes } = geometry;
  const [start] = geometry.locate(0);
  for (let chunk = 1; ; chunk++) {
    const [again] = geometry.locate(chunk);
    if (again!.slot !== start!.slot) continue;
    return { arrayBytes: chunk * chunkBytes, memberBytes: again!.offset - start!.offset };
  }
}

function* chunkRanges(geometry: CopiesGeometry, offset: number, end: number): Iterable<SlotRange> {
  const { chunkBytes } = geometry;
  for (let at = offset; at < end;) {
    const start = at % chunkBytes;
    const length = Math.min(end - at, chunkBytes - start);
    for (const place of geometry.locate(Math.floor(at / chunkBytes))) {
      yield { slot: place.slot, offset: place.offset + start, length, parts: [] };
    }
    at += length;
  }
}
