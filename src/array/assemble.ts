import { NbdRaidError } from "../errors.ts";
import { geometryOf } from "../raid/geometry/of.ts";
import type { ArrayShape } from "../raid/geometry/geometry.ts";
import {
  FEATURE_RAID0_LAYOUT,
  FEATURE_RECOVERY_BITMAP,
  FEATURE_RECOVERY_OFFSET,
} from "../metadata/features.ts";
import { ROLE_FAULTY, ROLE_SPARE, roleOf, type Superblock } from "../metadata/superblock.ts";
import { timestampsEqual } from "../metadata/timestamp.ts";
import type { Recovery } from "./devices.ts";
import { hasBitmap, type MemberHeaders } from "./headers.ts";

/** A member as it was found. */
export interface Found extends MemberHeaders {
  readonly path: string;
}

/** What becomes of one member. */
export interface MemberPlan<Candidate extends Found> {
  readonly found: Candidate;
  readonly slot: number | null;
  readonly use: "in_sync" | "rebuilding" | "spare" | "left out";
  /** Why it is left out, or null. */
  readonly reason: string | null;
  readonly recovery: Recovery | null;
}

export interface AssemblyOptions {
  /** Start a parity array that is dirty and degraded. */
  readonly force?: boolean;
}

/** How an array would start; pure, so that `assemble --check` and `serve` agree. */
export interface AssemblyPlan<Candidate extends Found> {
  readonly freshest: Superblock;
  readonly shape: ArrayShape;
  readonly members: readonly MemberPlan<Candidate>[];
  /** Slots the freshest superblock calls active whose members are not here. */
  readonly missingActive: readonly number[];
  /** Why it must not start, or null. */
  readonly refusal: NbdRaidError | null;
}

/** An export is found by its name: two arrays of one name are not served together. */
export function nameClash(names: readonly string[]): NbdRaidError | null {
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice === undefined) return null;
  return new NbdRaidError("array-name-clash", `two arrays have the name "${twice}"`);
}

/** Members by array, in the order in which arrays were met. */
export function groupByArray<Candidate extends Found>(found: readonly Candidate[]): Candidate[][] {
  const groups = new Map<string, Candidate[]>();
  for (const member of found) {
    const { setUuid } = member.superblock;
    groups.set(setUuid, [...(groups.get(setUuid) ?? []), member]);
  }
  return [...groups.values()];
}

/**
 * Decides which members of one array are used and how, by md's rules: the freshest superblock
 * that holds a slot speaks for the array; a member one event behind is still accepted.
 */
export function planAssembly<Candidate extends Found>(
  found: readonly Candidate[],
  options: AssemblyOptions = {},
): AssemblyPlan<Candidate> {
  const freshest = freshestOf(found);
  const members = found.map((member) => planMember(member, freshest));
  const shape = shapeOf(freshest, members);
  return {
    freshest,
    shape,
    members,
    missingActive: missingActive(freshest, members),
    refusal:
      clash(found) ??
      splitBrain(found) ??
      claimedTwice(members) ??
      incomplete(freshest, shape, members) ??
      (options.force === true ? null : dirtyDegraded(freshest, shape, members)),
  };
}

function shapeOf(freshest: Superblock, members: readonly MemberPlan<Found>[]): ArrayShape {
  const { level, raidDisks } = freshest;
  // Level 0 names its layout only with the feature that says so.
  const named = level !== 0 || (freshest.featureMap & FEATURE_RAID0_LAYOUT) !== 0;
  const dataBytes = new Array<number>(raidDisks).fill(0);
  for (const { slot, found } of members) {
    if (slot !== null) dataBytes[slot] = found.superblock.dataSizeSectors * 512;
  }
  return {
    level,
    layout: named ? freshest.layout : 0,
    raidDisks,
    chunkBytes: freshest.chunksizeSectors * 512,
    componentBytes: freshest.sizeSectors * 512,
    dataBytes,
  };
}

function freshestOf(found: readonly Found[]): Superblock {
  const superblocks = found.map(({ superblock }) => superblock);
  const holders = superblocks.filter((one) => roleOf(one, one.devNumber) < one.raidDisks);
  const candidates = holders.length > 0 ? holders : superblocks;
  return candidates.reduce((best, one) => (isFresher(one, best) ? one : best));
}

/** Of two with equal events, which nobody writes so, the one that knows of a bitmap: it says more. */
function isFresher(one: Superblock, best: Superblock): boolean {
  if (one.events !== best.events) return one.events > best.events;
  return hasBitmap(one) && !hasBitmap(best);
}

function planMember<Candidate extends Found>(
  found: Candidate,
  freshest: Superblock,
): MemberPlan<Candidate> {
  const { superblock } = found;
  const leftOut = (reason: string): MemberPlan<Candidate> => {
    return { found, slot: null, use: "left out", reason, recovery: null };
  };
  if (!sameShape(superblock, freshest)) return leftOut("its superblock describes another shape");
  const role = roleOf(freshest, superblock.devNumber);
  const own = roleOf(superblock, superblock.devNumber);
  if (role === ROLE_FAULTY) return leftOut("the array recorded that it failed");
  if (role === ROLE_SPARE && own === ROLE_SPARE) {
    return { found, slot: null, use: "spare", reason: null, recovery: null };
  }
  if (superblock.events + 1 < freshest.events) {
    return leftOut(
      `it is not fresh: events ${superblock.events}, the array has ${freshest.events}`,
    );
  }
  if (role >= freshest.raidDisks) return leftOut("the array does not count it as a member");
  // A spare whose superblock does not know yet that it took the slot holds nothing so far.
  const recovery = own === role ? recoveryOf(superblock) : { byBitmap: false, offset: 0 };
  const use = recovery === null ? "in_sync" : "rebuilding";
  return { found, slot: role, use, reason: null, recovery };
}

/** What the superblocks of one array's members agree on. */
export type SuperblockShape = Pick<
  Superblock,
  "level" | "layout" | "raidDisks" | "sizeSectors" | "chunksizeSectors" | "ctime"
>;

/** True if both are of one array as it is laid out now: md reshapes and grows arrays. */
export function sameShape(one: SuperblockShape, other: SuperblockShape): boolean {
  return (
    one.level === other.level &&
    one.layout === other.layout &&
    one.raidDisks === other.raidDisks &&
    one.sizeSectors === other.sizeSectors &&
    one.chunksizeSectors === other.chunksizeSectors &&
    timestampsEqual(one.ctime, other.ctime)
  );
}

function recoveryOf(superblock: Superblock): Recovery | null {
  if ((superblock.featureMap & FEATURE_RECOVERY_OFFSET) === 0) return null;
  const { recoveryOffsetSectors } = superblock;
  if (recoveryOffsetSectors === "done") return null;
  return {
    byBitmap: (superblock.featureMap & FEATURE_RECOVERY_BITMAP) !== 0,
    offset: recoveryOffsetSectors * 512,
  };
}

function missingActive(freshest: Superblock, members: readonly MemberPlan<Found>[]): number[] {
  const present = new Set(members.map(({ slot }) => slot));
  const active = freshest.roles.filter((role) => role < freshest.raidDisks);
  return [...new Set(active)].filter((slot) => !present.has(slot)).sort((a, b) => a - b);
}

/** One member copied, or two that claim one place: neither can be told to be the right one. */
function clash(found: readonly Found[]): NbdRaidError | null {
  for (const [index, one] of found.entries()) {
    for (const other of found.slice(index + 1)) {
      if (one.superblock.deviceUuid !== other.superblock.deviceUuid) continue;
      const message = `${one.path} and ${other.path} are copies of one member`;
      return new NbdRaidError("member-clash", message);
    }
  }
  return null;
}

/**
 * Two members that each went on without the other: their data has parted. Not so where a third,
 * on which one counts, went on without it and with the other: then the one is just stale.
 */
function splitBrain(found: readonly Found[]): NbdRaidError | null {
  for (const [index, one] of found.entries()) {
    for (const other of found.slice(index + 1)) {
      if (!callFailed(one, other)) continue;
      if (isStale(one, other, found) || isStale(other, one, found)) continue;
      const message = `${one.path} and ${other.path} each record that the other failed (split brain)`;
      return new NbdRaidError("split-brain", message);
    }
  }
  return null;
}

function isStale(one: Found, other: Found, found: readonly Found[]): boolean {
  return found.some(
    (third) =>
      roleOf(one.superblock, third.superblock.devNumber) < one.superblock.raidDisks &&
      third.superblock.events > one.superblock.events &&
      callsFailed(third, one) &&
      !callFailed(third, other),
  );
}

/** Each the other. */
function callFailed(one: Found, other: Found): boolean {
  return callsFailed(one, other) && callsFailed(other, one);
}

function callsFailed(one: Found, other: Found): boolean {
  return roleOf(one.superblock, other.superblock.devNumber) === ROLE_FAULTY;
}

function claimedTwice(members: readonly MemberPlan<Found>[]): NbdRaidError | null {
  const slots = new Map<number, string>();
  for (const { slot, found } of members) {
    if (slot === null) continue;
    const other = slots.get(slot);
    if (other !== undefined) {
      return new NbdRaidError("member-clash", `${other} and ${found.path} both claim slot ${slot}`);
    }
    slots.set(slot, found.path);
  }
  return null;
}

/** Too few members, a shape that no level has, or a bitmap that cannot be read. */
function incomplete(
  freshest: Superblock,
  shape: ArrayShape,
  members: readonly MemberPlan<Found>[],
): NbdRaidError | null {
  const { setName } = freshest;
  const inSync = new Map<number, Found>();
  for (const { use, slot, found } of members) {
    if (use === "in_sync" && slot !== null) inSync.set(slot, found);
  }
  try {
    // Levels 0 and linear have no size while a member is missing, so this is looked at first.
    const unredundant = shape.level === 0 || shape.level === -1;
    const survives = unredundant
      ? inSync.size === shape.raidDisks
      : geometryOf(shape).survives((slot) => inSync.has(slot));
    if (!survives) {
      const count = inSync.size === 0 ? "no member in sync is" : `only ${inSync.size} in sync are`;
      const message = `${setName}: ${count} here, of ${shape.raidDisks} members`;
      return new NbdRaidError("array-incomplete", message);
    }
    if (unredundant) geometryOf(shape);
  } catch (error) {
    if (!(error instanceof NbdRaidError)) throw error;
    return new NbdRaidError(error.code, `${setName}: ${error.message}`);
  }
  // A member that is an update behind may still have a bitmap that the array has given up.
  if (!hasBitmap(freshest)) return null;
  for (const { bitmap } of inSync.values()) if (bitmap instanceof NbdRaidError) return bitmap;
  return null;
}

/**
 * The write hole (md refuses this, too): where a write was cut short, the parity that stands in
 * for what is missing may be half old and half new, and nothing tells where.
 */
function dirtyDegraded(
  { setName, resyncOffsetSectors }: Superblock,
  shape: ArrayShape,
  members: readonly MemberPlan<Found>[],
): NbdRaidError | null {
  if (!PARITY_LEVELS.includes(shape.level) || resyncOffsetSectors === "clean") return null;
  const inSync = members.filter(({ use }) => use === "in_sync").length;
  if (inSync === shape.raidDisks) return null;
  const message =
    `${setName}: it was not stopped clean and ${shape.raidDisks - inSync} of its slots are not in ` +
    "sync: parity may not match where writes were cut short (the write hole)";
  return new NbdRaidError("dirty-degraded", message);
}

export const PARITY_LEVELS: readonly number[] = [4, 5, 6];
