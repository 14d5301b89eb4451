import { clamp, roundDown } from "./arithmetic.ts";
import type { ArrayShape, StripingGeometry } from "./geometry.ts";
import { stripingGeometry } from "./striping.ts";

/** By absolute chunk number: what md did before it had layouts. */
export const RAID0_ORIGINAL = 1;
/** By chunk number within the zone. */
export const RAID0_ALTERNATE = 2;

const SECTOR_BYTES = 512;

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
  const sizeBytes = arrayBytes(shape);
  return stripingGeometry({
    sizeBytes,
    stripeBytes: raidDisks * chunkBytes,
    raidDisks,
    locate: (offset) => {
      let index = 0;
      while (offset >= zones[index]!.end && index < zones.length - 1) index++;
      const { start, end, memberStart, slots } = zones[index]!;
      const only = slots.length === 1;
      if (only) {
        const length = Math.min(end, sizeBytes) - offset;
        return { slot: slots[0]!, offset: memberStart + offset - start, length };
      }
      const chunkInZone = Math.floor((offset - start) / chunkBytes);
      const inChunk = offset % chunkBytes;
      const turn = layout === RAID0_ALTERNATE ? chunkInZone : Math.floor(offset / chunkBytes);
      const row = Math.floor(chunkInZone / slots.length);
      return {
        slot: slots[turn % slots.length]!,
        offset: memberStart + row * chunkBytes + inChunk,
        length: Math.min(chunkBytes - inChunk, sizeBytes - offset),
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

/**
 * md rounds members down to whole chunks, and counts them with the bits of the chunk's sectors
 * less one masked out (raid0_size). Only for a power of two is that the same: for others the last
 * zone is not used up, and what is behind is lost if md takes the array over.
 */
function arrayBytes(shape: ArrayShape): number {
  const mask = ~(BigInt(shape.chunkBytes / SECTOR_BYTES) - 1n);
  const sectors = memberBytes(shape).map((bytes) => BigInt(bytes / SECTOR_BYTES) & mask);
  return sectors.reduce((sum, one) => sum + Number(one), 0) * SECTOR_BYTES;
}

/** By slot, in whole chunks. */
function memberBytes({ chunkBytes, raidDisks, dataBytes }: ArrayShape): number[] {
  return dataBytes.slice(0, raidDisks).map((bytes) => roundDown(bytes, chunkBytes));
}

function zonesOf(shape: ArrayShape): Zone[] {
  const used = memberBytes(shape);
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
