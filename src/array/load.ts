import type { Logger } from "pino";
import { loadRegions, type LoadRule } from "../bitmap/load.ts";
import { Doubt, Regions } from "../bitmap/regions.ts";
import { State } from "../bitmap/transitions.ts";
import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import type { Member } from "../member/member.ts";
import {
  BITMAP_FIRST_USE,
  BITMAP_STALE,
  BITMAP_WRITE_ERROR,
  type BitmapSuperblock,
  firstUseState,
} from "../metadata/bitmap-superblock.ts";
import { knownZeroRecordValid } from "../metadata/known-zero.ts";
import {
  BITMAP_FORMATS,
  BITMAP_RESERVED_SECTORS,
  bitmapBytes,
  type BitmapKind,
  regionBytesFor,
  regionCount,
} from "../metadata/layout.ts";
import { DEVFLAG_WRITE_MOSTLY } from "../metadata/superblock.ts";
import { type ArrayParts, RaidArray } from "./array.ts";
import type { AssemblyPlan, Found, MemberPlan } from "./assemble.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import type { ArrayDescription } from "./description.ts";
import { type Device, Devices } from "./devices.ts";
import { bitmapOffsetBytes, hasBitmap, readStates } from "./headers.ts";
import { geometryOf } from "../raid/geometry/of.ts";

/** A member that is open, and what it says. */
export interface OpenMember extends Found {
  readonly member: Member;
}

/** What an array gets from outside. */
export interface Surroundings {
  readonly readOnly: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly openMember: ArrayParts["openMember"];
  readonly identify: ArrayParts["identify"];
  readonly newUuid: ArrayParts["newUuid"];
  /** Sync and requests share one thread (simulations). */
  readonly oneThread: boolean;
}

/** The bitmap as the members in sync hold it, and what to make of it. */
export interface FoundBitmap {
  readonly kind: BitmapKind;
  readonly copies: readonly { readonly found: OpenMember; readonly superblock: BitmapSuperblock }[];
  readonly rule: LoadRule;
}

/** What an array is made of, as far as its members say. */
export type LoadedArray = Omit<ArrayParts, Exclude<keyof Surroundings, "oneThread">>;

/**
 * Makes the running array of a plan that was not refused. Writes nothing; `start` of the array
 * does. Members that the plan leaves out are the caller's to close.
 */
export async function loadArray(
  plan: AssemblyPlan<OpenMember>,
  surroundings: Surroundings,
): Promise<RaidArray> {
  return new RaidArray({ ...surroundings, ...(await readArray(plan, surroundings)) });
}

/** What the members of a plan that was not refused hold. Throws bitmap-corrupt. */
export async function readArray(
  plan: AssemblyPlan<OpenMember>,
  { oneThread }: Pick<Surroundings, "oneThread">,
): Promise<LoadedArray> {
  const devices = placeDevices(plan);
  const found = findBitmap(plan);
  const description = describe(plan, found);
  if (found !== null) refuseOverlap(description, found);
  const regions = Regions.create(
    description.geometry.trackedBytes,
    description.regionBytes,
    oneThread,
  );
  const knownZero = isKnownZero(plan, found);
  if (found === null) {
    loadWithoutBitmap(regions, plan, description.geometry);
  } else {
    const doubt = doubtOf(plan, found, description.geometry, knownZero);
    await loadWithBitmap(regions, found, doubt);
    if (found.copies.length < devices.inSync.length) markAllChanged(regions);
  }
  const superblocks = found?.copies.map(({ superblock }) => superblock) ?? [];
  const { freshest } = plan;
  return {
    description,
    devices,
    regions,
    freshest,
    eventsCleared: Math.max(0, ...superblocks.map(({ eventsCleared }) => eventsCleared)),
    knownZero,
    bitmapStale: found !== null && found.rule !== "reload",
  };
}

function isKnownZero({ freshest }: AssemblyPlan<OpenMember>, found: FoundBitmap | null): boolean {
  if (found?.rule !== "reload") return false;
  return found.copies.every(
    ({ superblock: { knownZero } }) =>
      knownZero !== null && knownZeroRecordValid(knownZero, freshest.events, freshest.utime),
  );
}

/**
 * How far members in sync fit together where a sync is needed. After an unclean stop they may not.
 * After a clean one NeedSync says what an absent member lacks; but with a bitmap that missed
 * writes, or where parity is made behind the first write, it may also say that this was not done.
 */
function doubtOf(
  { freshest }: AssemblyPlan<OpenMember>,
  found: FoundBitmap,
  geometry: AnyGeometry,
  knownZero: boolean,
): Doubt {
  if (freshest.resyncOffsetSectors !== "clean") return Doubt.Suspect;
  if (geometry.kind === "parity") {
    // Without Unwritten no parity is ever left to be made.
    const isBuilt = found.kind === "internal" && found.rule === "reload";
    return knownZero || isBuilt ? Doubt.None : Doubt.Unbuilt;
  }
  return found.rule === "stale" ? Doubt.Suspect : Doubt.None;
}

function placeDevices(plan: AssemblyPlan<OpenMember>): Devices {
  const devices = new Devices(plan.freshest.raidDisks);
  for (const member of plan.members) {
    if (member.use === "left out") continue;
    const device = deviceOf(member, member.use);
    if (member.slot === null) devices.others.push(device);
    else devices.slots[member.slot] = device;
  }
  return devices;
}

function deviceOf(
  { found, slot, recovery }: MemberPlan<OpenMember>,
  state: "in_sync" | "rebuilding" | "spare",
): Device {
  const { superblock, member } = found;
  return {
    member,
    superblock,
    dataOffset: superblock.dataOffsetSectors * 512,
    state,
    slot,
    writeMostly: (superblock.devflags & DEVFLAG_WRITE_MOSTLY) !== 0,
    readErrors: 0,
    writeErrors: 0,
    recovery,
  };
}

/**
 * Copies on members in sync that are as new as the array; with none, everything may differ. The
 * freshest superblock says whether there is a bitmap at all, as in md: one member may be an update
 * behind, and that one may have taken the bitmap away or brought it. Throws bitmap-corrupt.
 */
export function findBitmap(plan: AssemblyPlan<OpenMember>): FoundBitmap | null {
  if (!hasBitmap(plan.freshest)) return null;
  const inSync = plan.members.filter(({ use }) => use === "in_sync");
  const copies = inSync.flatMap(({ found }) => {
    const { bitmap } = found;
    if (bitmap === null || bitmap instanceof NbdRaidError) return [];
    return [{ found, superblock: bitmap }];
  });
  const [one, ...others] = copies;
  if (one === undefined) return null;
  const { kind } = one.superblock;
  const odd = others.find(({ superblock }) => superblock.kind !== kind);
  if (odd !== undefined) {
    const message = `${odd.found.path}: the bitmap is ${odd.superblock.kind}, on ${one.found.path} it is ${kind}`;
    throw new NbdRaidError("bitmap-corrupt", message);
  }
  const { events } = plan.freshest;
  const firstUse = copies.map(({ superblock }) => firstUseState(superblock));
  if (!firstUse.includes(null)) {
    const clean = firstUse.every((state) => state === "clean");
    // With more events the kernel that was to initialise it has run, and may have lost it.
    const rule = events > 1 ? "stale" : clean ? "first-use-clean" : "first-use";
    return { kind, copies, rule };
  }
  const usable = copies.filter(({ superblock }) => hasSeenAll(superblock, events));
  if (usable.length > 0) return { kind, copies: usable, rule: "reload" };
  return { kind, copies, rule: "stale" };
}

/** True if no write of an array with so many events is missing in this copy of the bitmap. */
export function hasSeenAll(bitmap: BitmapSuperblock, events: number): boolean {
  const bad = BITMAP_FIRST_USE | BITMAP_STALE | BITMAP_WRITE_ERROR;
  return bitmap.events >= events && (bitmap.state & bad) === 0;
}

function describe(
  { freshest, shape }: AssemblyPlan<OpenMember>,
  bitmap: FoundBitmap | null,
): ArrayDescription {
  const geometry = geometryOf(shape);
  const kind = bitmap?.kind ?? "none";
  const settled = bitmap?.copies.find(({ superblock }) => firstUseState(superblock) === null);
  return {
    name: freshest.setName,
    uuid: freshest.setUuid,
    ctime: freshest.ctime,
    shape,
    geometry,
    bitmap: kind,
    regionBytes:
      settled === undefined
        ? regionBytesFor("lockless", geometry.trackedBytes, BITMAP_RESERVED_SECTORS)
        : settled.superblock.regionSectors * 512,
    bitmapOffsetSectors: bitmap === null ? 0 : freshest.bitmapOffsetSectors,
    bitmapKept: {
      daemonSleepSeconds:
        settled?.superblock.daemonSleepSeconds ?? BITMAP_FORMATS.lockless.daemonSleepSeconds,
      writeBehind: settled?.superblock.writeBehind ?? 0,
      sectorsReserved: settled?.superblock.sectorsReserved ?? BITMAP_RESERVED_SECTORS,
    },
  };
}

/** The regions that the array has, whatever the bitmap says of its own size, end before the data. */
function refuseOverlap({ geometry, regionBytes }: ArrayDescription, found: FoundBitmap): void {
  const regions = regionCount(geometry.trackedBytes, regionBytes);
  for (const { path, superblock } of found.copies.map((copy) => copy.found)) {
    const end = bitmapOffsetBytes(superblock) + bitmapBytes(found.kind, regions);
    if (end <= superblock.dataOffsetSectors * 512) continue;
    const message = `${path}: a bitmap of ${regions} regions reaches into the data`;
    throw new NbdRaidError("bitmap-corrupt", message);
  }
}

async function loadWithBitmap(regions: Regions, found: FoundBitmap, doubt: Doubt): Promise<void> {
  const copies =
    found.rule === "reload"
      ? await Promise.all(
          found.copies.map(({ found: { member, superblock } }) =>
            readStates(member, superblock, found.kind, regions.count),
          ),
        )
      : [];
  const conditions = { absent: false, degraded: false, lazyParity: false };
  loadRegions(regions, copies, found.rule, conditions, doubt);
}

/** Some member holds no copy that counts: each block is written before it is relied on. */
function markAllChanged(regions: Regions): void {
  for (let block = 0; block < regions.blocks; block++) regions.markChanged(block);
}

/** Without a bitmap the superblock alone knows: from its resync offset on everything may differ. */
function loadWithoutBitmap(
  regions: Regions,
  { freshest }: AssemblyPlan<OpenMember>,
  { redundant }: AnyGeometry,
): void {
  const { resyncOffsetSectors } = freshest;
  const end = !redundant || resyncOffsetSectors === "clean" ? Infinity : resyncOffsetSectors * 512;
  for (let region = 0; region < regions.count; region++) {
    const suspect = (region + 1) * regions.regionBytes > end;
    regions.force(region, suspect ? State.NeedSync : State.Clean);
    regions.setSuspect(region, suspect);
  }
}
