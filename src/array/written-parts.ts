/** Which parts of a range there is anything to trim in. */
import type { Regions } from "../bitmap/regions.ts";
import { State } from "../bitmap/transitions.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";

/** Unwritten, or not, by state: as `Regions.runEnd` takes it. */
const WRITTEN = Object.values(State)
  .toSorted((a, b) => a - b)
  .map((state) => (state === State.Unwritten ? 0 : 1));
/** Regions that are alike are passed in one go: so many at most, and so many in the time of a step. */
const ALIKE_REGIONS_MAX = 2 ** 14;
const REGIONS_PER_STEP = 64;
/** After so many steps others have their turn. */
const STEPS = 1024;

/**
 * Parts of a range, [start, end) in bytes of the array, in order: whole regions that are Unwritten
 * need nothing. Looked up as they are asked for; null: time for others to have a turn.
 */
export function* writtenParts(
  regions: Regions,
  geometry: AnyGeometry,
  offset: number,
  length: number,
): Generator<readonly [number, number] | null> {
  const end = offset + length;
  const firstRegion = (start: number, bytes: number): number =>
    regions.at(geometry.trackedStart(start, bytes));
  const lastRegion = (start: number, bytes: number): number =>
    regions.at(geometry.trackedEnd(start, bytes) - 1);
  const span = regionSpan(geometry, regions.regionBytes);
  const regionsPerSpan = regionsOfSpan(geometry, regions.regionBytes);
  const regionsEnd = lastRegion(offset, length) + 1;
  let start = offset;
  for (let at = offset, steps = 0; at < end;) {
    const next = Math.min(end, (Math.floor(at / span) + 1) * span);
    const last = lastRegion(at, next - at);
    const unwritten = regions.everyUnwritten(firstRegion(at, next - at), last);
    const limit = Math.min(regionsEnd, last + ALIKE_REGIONS_MAX);
    const known = unwritten || regionsPerSpan === 1;
    const alike = known ? regions.runEnd(last, limit, WRITTEN) - 1 - last : 0;
    const pieceEnd = Math.min(end, next + Math.floor(alike / regionsPerSpan) * span);
    if (unwritten) {
      if (at > start) yield [start, at];
      start = pieceEnd;
    }
    at = pieceEnd;
    steps += 1 + alike / REGIONS_PER_STEP;
    if (steps < STEPS) continue;
    steps = 0;
    yield null;
  }
  if (end > start) yield [start, end];
}

/** Bytes of the array that lie in one region, or in the regions of one stripe if those are more. */
function regionSpan(geometry: AnyGeometry, regionBytes: number): number {
  if (geometry.kind !== "parity") return regionBytes;
  const { chunkBytes, stripeBytes } = geometry;
  return Math.max(1, Math.floor(regionBytes / chunkBytes)) * stripeBytes;
}

/** How many regions a span has; Infinity: they do not fit together, and are looked at one by one. */
function regionsOfSpan(geometry: AnyGeometry, regionBytes: number): number {
  if (geometry.kind !== "parity" || regionBytes % geometry.chunkBytes === 0) return 1;
  return geometry.chunkBytes % regionBytes === 0 ? geometry.chunkBytes / regionBytes : Infinity;
}
