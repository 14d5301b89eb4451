/** What `convert` will do, and why it will not. Pure, apart from what it throws. */
import { State } from "../bitmap/transitions.ts";
import { NbdRaidError } from "../errors.ts";
import {
  FEATURE_BITMAP_OFFSET,
  FEATURE_RECOVERY_BITMAP,
  FEATURE_RECOVERY_OFFSET,
} from "../metadata/features.ts";
import type { UpdateStamp } from "../metadata/known-zero.ts";
import {
  BITMAP_FORMATS,
  BITMAP_OFFSET_SECTORS,
  BITMAP_RESERVED_SECTORS,
  bitmapBytes,
  type BitmapKind,
  regionBytesAllowed,
  regionBytesFor,
  SUPERBLOCK_OFFSET_SECTORS,
} from "../metadata/layout.ts";
import { levelName } from "../metadata/levels.ts";
import type { Superblock } from "../metadata/superblock.ts";
import type { AssemblyPlan, Found } from "./assemble.ts";
import { hasBitmap } from "./headers.ts";
import type { LoadedArray } from "./load.ts";
import { encodeBitmap, refuseRegionBytes } from "./new-bitmap.ts";

export interface WantedBitmap {
  readonly bitmap: BitmapKind | "none";
  /** Bytes one state covers. Default: what `create` would choose in the space that there is. */
  readonly regionBytes?: number;
}

/** A bitmap to be, in the same place on every member. */
export interface BitmapPlan {
  readonly kind: BitmapKind;
  readonly trackedBytes: number;
  readonly regionBytes: number;
  /** Header and states together. */
  readonly reservedSectors: number;
}

type Plan = AssemblyPlan<Found>;

/** 1.2 metadata: behind the superblock, as mdadm and `create` put it. */
const BITMAP_START_SECTORS = SUPERBLOCK_OFFSET_SECTORS + BITMAP_OFFSET_SECTORS;
export const BITMAP_START_BYTES = BITMAP_START_SECTORS * 512;
/** mdadm's unit of a bitmap's space, and the kernel's of writes to it. */
const RESERVED_UNIT_SECTORS = 8;

/** Throws usage for what no state of the array would allow. */
export function refuseWanted({ shape }: Plan, { bitmap, regionBytes }: WantedBitmap): void {
  if (bitmap === "none" && regionBytes !== undefined)
    throw new NbdRaidError("usage", "convert: a region size asks for a bitmap");
  if (bitmap === "none" || (shape.level !== 0 && shape.level !== -1)) return;
  const name = levelName(shape.level);
  throw new NbdRaidError("usage", `convert: level ${name} has no bitmap: there is nothing to sync`);
}

/**
 * True if there is nothing to do. Not so while superblocks disagree about a bitmap: then a
 * conversion was cut short.
 */
export function isAlready(plan: Plan, { description }: LoadedArray, wanted: WantedBitmap): boolean {
  const has = hasBitmap(plan.freshest);
  const agree = plan.members.every(
    ({ slot, found }) => slot === null || hasBitmap(found.superblock) === has,
  );
  const { regionBytes = description.regionBytes } = wanted;
  return agree && description.bitmap === wanted.bitmap && description.regionBytes === regionBytes;
}

/**
 * Throws array-not-ready unless all members are here, equal, and known to be so; never-written
 * if some regions may differ because nobody ever wrote them.
 */
export function refuseUnready(plan: Plan, loaded: LoadedArray): void {
  const reason = whyNotWhole(plan) ?? whyNotClean(plan, loaded);
  if (reason !== null) throw new NbdRaidError("array-not-ready", reason);
  const { unwritten } = loaded.regions.counts();
  if (loaded.knownZero || unwritten === 0) return;
  const message =
    `${plan.freshest.setName}: ${unwritten} of ${loaded.regions.count} regions were never ` +
    "written, and members may differ there";
  throw new NbdRaidError("never-written", message);
}

function whyNotWhole({ freshest, members, shape }: Plan): string | null {
  for (const { use, found, reason } of members) {
    if (use === "left out") return `${found.path} would be left out: ${reason}`;
    if (use === "rebuilding") return `${found.path} has not been rebuilt yet`;
  }
  const held = new Set(members.map(({ slot }) => slot));
  const empty = Array.from({ length: shape.raidDisks }, (_, slot) => slot).filter(
    (slot) => !held.has(slot),
  );
  if (empty.length === 0) return null;
  const slots = `${empty.length === 1 ? "slot" : "slots"} ${empty.join(", ")}`;
  return `${freshest.setName}: no member of ${slots} is given`;
}

function whyNotClean({ freshest }: Plan, { description, regions }: LoadedArray): string | null {
  if (!description.geometry.redundant) return null;
  const name = freshest.setName;
  if (freshest.resyncOffsetSectors !== "clean") return `${name}: it was not stopped clean`;
  const { dirty, needSync, syncing } = regions.counts();
  const marked = dirty + needSync + syncing;
  return marked === 0 ? null : `${name}: ${marked} of ${regions.count} regions need a sync`;
}

/**
 * Null for no bitmap. Throws bitmap-no-room if a member's data starts too early for one, usage for
 * a region size that does not fit.
 */
export function planBitmap(
  { members }: Plan,
  { description }: LoadedArray,
  { bitmap: kind, regionBytes: asked }: WantedBitmap,
): BitmapPlan | null {
  if (kind === "none") return null;
  const { trackedBytes } = description.geometry;
  const reserved = members.map(({ found }) => reservedOn(found, kind));
  const reservedSectors = Math.min(BITMAP_RESERVED_SECTORS, ...reserved);
  const room = { kind, trackedBytes, reservedSectors };
  if (asked !== undefined) refuseRegionBytes(asked, { command: "convert", ...room });
  const regionBytes = asked ?? regionBytesFor(kind, trackedBytes, reservedSectors);
  if (!regionBytesAllowed(kind, regionBytes, trackedBytes, reservedSectors))
    throw new NbdRaidError(
      "bitmap-no-room",
      `${description.name}: ${reservedSectors * 512} bytes are too few for the regions of ` +
        `${trackedBytes} bytes`,
    );
  return { ...room, regionBytes };
}

function reservedOn({ path, superblock }: Found, kind: BitmapKind): number {
  const sectors = superblock.dataOffsetSectors - BITMAP_START_SECTORS;
  const reserved = sectors - (sectors % RESERVED_UNIT_SECTORS);
  const needed = bitmapBytes(kind, 1);
  if (reserved * 512 >= needed) return reserved;
  throw new NbdRaidError(
    "bitmap-no-room",
    `${path}: its data start ${sectors * 512} bytes behind the superblock: too early for a bitmap`,
  );
}

/**
 * All of the space that the bitmap gets. Its events_cleared are its own events: it has forgotten
 * nothing since, and of what was before it knows nothing, so nobody older may come back by it.
 */
export function encodePlanned(
  plan: BitmapPlan,
  { description }: LoadedArray,
  { events }: UpdateStamp,
): Uint8Array {
  const { kind, trackedBytes, regionBytes, reservedSectors } = plan;
  const kept =
    description.bitmap === kind
      ? description.bitmapKept
      : { daemonSleepSeconds: BITMAP_FORMATS[kind].daemonSleepSeconds, writeBehind: 0 };
  return encodeBitmap(
    {
      ...kept,
      kind,
      uuid: description.uuid,
      events,
      eventsCleared: events,
      syncSizeSectors: trackedBytes / 512,
      regionSectors: regionBytes / 512,
      sectorsReserved: reservedSectors,
      knownZero: null,
    },
    State.Clean,
  );
}

/** The superblock of a member in sync, or of a spare, that says whether there is a bitmap. */
export function convertedSuperblock(
  before: Superblock,
  { freshest }: Plan,
  { events, utime }: UpdateStamp,
  bitmap: BitmapPlan | null,
): Superblock {
  const ours = FEATURE_BITMAP_OFFSET | FEATURE_RECOVERY_OFFSET | FEATURE_RECOVERY_BITMAP;
  return {
    ...before,
    ...(bitmap === null ? {} : badBlockLogBeside(before, bitmap)),
    featureMap: (before.featureMap & ~ours) | (bitmap === null ? 0 : FEATURE_BITMAP_OFFSET),
    bitmapOffsetSectors: bitmap === null ? 0 : BITMAP_OFFSET_SECTORS,
    recoveryOffsetSectors: 0,
    resyncOffsetSectors: freshest.resyncOffsetSectors,
    roles: freshest.roles,
    events,
    utime,
  };
}

/** What the freshest superblock says, for a member that missed that update. */
export function caughtUp(before: Superblock, freshest: Superblock): Superblock {
  const noLog = { bblogShift: 0, bblogSizeSectors: 0, bblogOffsetSectors: 0 };
  return {
    ...before,
    ...(freshest.bblogSizeSectors === 0 ? noLog : {}),
    featureMap:
      (before.featureMap & ~FEATURE_BITMAP_OFFSET) | (freshest.featureMap & FEATURE_BITMAP_OFFSET),
    bitmapOffsetSectors: freshest.bitmapOffsetSectors,
    resyncOffsetSectors: freshest.resyncOffsetSectors,
    roles: freshest.roles,
    events: freshest.events,
    utime: freshest.utime,
  };
}

/**
 * mdadm puts the log for bad blocks where a bitmap may grow. It is empty (one in use is a feature
 * that is refused), and without a place md keeps none: better than one in the bitmap.
 */
function badBlockLogBeside(
  { bblogShift, bblogSizeSectors, bblogOffsetSectors }: Superblock,
  { reservedSectors }: BitmapPlan,
): Pick<Superblock, "bblogShift" | "bblogSizeSectors" | "bblogOffsetSectors"> {
  const overlaps =
    bblogOffsetSectors + bblogSizeSectors > BITMAP_OFFSET_SECTORS &&
    bblogOffsetSectors < BITMAP_OFFSET_SECTORS + reservedSectors;
  return overlaps
    ? { bblogShift: 0, bblogSizeSectors: 0, bblogOffsetSectors: 0 }
    : { bblogShift, bblogSizeSectors, bblogOffsetSectors };
}
