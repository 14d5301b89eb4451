import { clamp, roundDown } from "./arithmetic.ts";
import type { ArrayShape, StripingGeometry } from "./geometry.ts";
import { stripingGeometry } from "./striping.ts";

/** By absolute chunk number: what md did before it had layouts. */
export const RAID0_ORIGINAL = 1;
/** By chunk number within the zone. */
export const RAID0_ALTERNATE = 2;

/** A range of the array that is striped over the same members (md's strip_zone). Bytes. */
interface Zone {
  readonly start: number;
  readonly end: number;
  /** The zone's start on each of its members. */
  readonly memberStart: number;
  readonly slots: readonly number[];
}

/**
 * Level 0: chunks in turn over all members; where the smallest ends, over those that go on. Where
 * a later zone has several members, the two layouts differ in which of them a row starts with
 * (raid0.c: create_strip_zones, raid0_map_bio).
 */
export function raid0Geometry(shape: ArrayShape): StripingGeometry {
  const { chunkBytes, raidDisks, layout } = shape;
  const zones = zonesOf(shape);
  return stripingGeometry({
    sizeBytes: zones.at(-1)!.end,
    stripeBytes: raidDisks * chunkBytes,
    raidDisks,
    locate: (offset) => {
      let index = 0;
      while (offset >= zones[index]!.end && index < zones.length - 1) index++;
      const { start, end, memberStart, slots } = zones[index]!;
      const only = slots.length === 1;
      if (only) {
        return { slot: slots[0]!, offset: memberStart + offset - start, length: end - offset };
      }
      const chunkInZone = Math.floor((offset - start) / chunkBytes);
      const inChunk = offset % chunkBytes;
      const turn = layout === RAID0_ALTERNATE ? chunkInZone : Math.floor(offset / chunkBytes);
      const row = Math.floor(chunkInZone / slots.length);
      return {
        slot: slots[turn % slots.length]!,
        offset: memberStart + row * chunkBytes + inChunk,
        length: chunkBytes - inChunk,
      };
    },
    bytesBefore: (slot, offset) => {
      let before = 0;
      for (const { start, end, slots } of zones) {
        const index = slots.indexOf(slot);
        if (index === -1 || offset <= start) break;
        const inZone = Math.min(offset, end) - start;
        const rowBytes = slots.length * chunkBytes;
        const firstIndex = layout === RAID0_ALTERNATE ? 0 : Math.floor(start / chunkBytes);
        const column = (((index - firstIndex) % slots.length) + slots.length) % slots.length;
        const wholeRows = Math.floor(inZone / rowBytes);
        before += wholeRows * chunkBytes;
        before += clamp((inZone % rowBytes) - column * chunkBytes, chunkBytes);
      }
      return before;
    },
  });
}

/** False: it makes no difference which layout it is, so md does not ask (raid0.c). */
export function raid0LayoutMatters(shape: ArrayShape): boolean {
  return zonesOf(shape)
    .slice(1)
    .some(({ slots }) => slots.length > 1);
}

function zonesOf({ chunkBytes, raidDisks, dataBytes }: ArrayShape): Zone[] {
  const used = dataBytes.slice(0, raidDisks).map((bytes) => roundDown(bytes, chunkBytes));
  const ends = [...new Set(used)].sort((a, b) => a - b);
  const zones: Zone[] = [];
  let start = 0;
  let memberStart = 0;
  for (const memberEnd of ends) {
    const slots = [...used.keys()].filter((slot) => used[slot]! >= memberEnd);
    const end = start + (memberEnd - memberStart) * slots.length;
    zones.push({ start, end, memberStart, slots });
    start = end;
    memberStart = memberEnd;
  }
  return zones;
}
