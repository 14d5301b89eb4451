import { NbdRaidError } from "../errors.ts";
import { FEATURE_RECOVERY_BITMAP, FEATURE_RECOVERY_OFFSET } from "../metadata/features.ts";
import { roleOf } from "../metadata/superblock.ts";
import { sameShape, type SuperblockShape } from "./assemble.ts";
import type { ArrayDescription } from "./description.ts";
import type { Devices } from "./devices.ts";
import type { MemberHeaders } from "./headers.ts";
import type { MetadataWriter } from "./metadata-writer.ts";

/** What a running array says to a member that wants to come back. */
export interface Returned {
  readonly description: ArrayDescription;
  readonly devices: Devices;
  readonly metadata: Pick<MetadataWriter, "eventsCleared">;
}

/**
 * Why a member must be copied in full, or null: it may come back by bitmap. The bitmap has
 * kept count of what it lacks only if nothing was forgotten since it left (events_cleared),
 * and the member itself must agree on who the others are.
 */
export function whyInFull({ superblock, bitmap }: MemberHeaders, array: Returned): string | null {
  const { description, devices, metadata } = array;
  const slot = roleOf(superblock, superblock.devNumber);
  if (description.bitmap === "none") return "the array has no bitmap";
  // Its superblock is kept as it is, and says where its data end; the other shape also has other
  // places for the same bytes.
  if (!sameShape(superblock, superblockShape(description))) {
    return "its superblock describes another shape of the array";
  }
  if (slot >= description.shape.raidDisks) return "it held no slot";
  const holder = devices.slots[slot];
  if (holder != null && holder.state !== "faulty") return `slot ${slot} is taken`;
  const recovery = superblock.featureMap & (FEATURE_RECOVERY_OFFSET | FEATURE_RECOVERY_BITMAP);
  if (recovery === FEATURE_RECOVERY_OFFSET) return "it was not in sync when it left";
  if (metadata.eventsCleared === 0) return "the bitmap does not say how far back it reaches";
  if (superblock.events < metadata.eventsCleared) {
    return `it has events ${superblock.events}, the bitmap reaches back to ${metadata.eventsCleared}`;
  }
  // What it forgot was in sync on all, here too: so this is not what it left, but an older copy.
  if (forgottenBy(bitmap) > metadata.eventsCleared) {
    return `its bitmap reaches back to ${forgottenBy(bitmap)} only, the array's to ${metadata.eventsCleared}`;
  }
  const foe = devices.inSync.find((other) => {
    return roleOf(superblock, other.superblock.devNumber) !== other.slot;
  });
  return foe === undefined ? null : `it does not count on ${foe.member.path}`;
}

/** The events up to which a member's own bitmap has forgotten; 0: it does not say. */
function forgottenBy(bitmap: MemberHeaders["bitmap"]): number {
  return bitmap === null || bitmap instanceof NbdRaidError ? 0 : bitmap.eventsCleared;
}

/** The array's shape as superblocks say it. */
export function superblockShape({ shape, ctime }: ArrayDescription): SuperblockShape {
  return {
    ctime,
    level: shape.level,
    layout: shape.layout,
    raidDisks: shape.raidDisks,
    sizeSectors: shape.componentBytes / 512,
    chunksizeSectors: shape.chunkBytes / 512,
  };
}
