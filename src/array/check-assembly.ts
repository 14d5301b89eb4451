import { State, stateFromDisk } from "../bitmap/transitions.ts";
import { NbdRaidError } from "../errors.ts";
import { regionCount } from "../metadata/layout.ts";
import { levelName } from "../metadata/levels.ts";
import { layoutName } from "../raid/geometry/layouts.ts";
import {
  type AssemblyPlan,
  groupByArray,
  nameClash,
  PARITY_LEVELS,
  planAssembly,
} from "./assemble.ts";
import { readStates } from "./headers.ts";
import { findBitmap, type FoundBitmap, type OpenMember } from "./load.ts";
import { missingMessage, openMembers } from "./open.ts";

/** What `serve` would do with the members of one array, and why. */
export interface AssemblyReport {
  readonly name: string;
  readonly uuid: string;
  readonly level: string;
  /** mdadm's name of it, or null: the level has none. */
  readonly layout: string | null;
  /** Bytes, or null: the array has no chunks. */
  readonly chunkSize: number | null;
  readonly raidDisks: number;
  readonly verdict: "start" | "needs --run" | "needs --force" | "refused";
  /** Why it would not just start, or null. */
  readonly reason: string | null;
  readonly members: readonly {
    readonly path: string;
    readonly slot: number | null;
    readonly events: number;
    readonly use: "in_sync" | "rebuilding" | "spare" | "left out";
    readonly reason: string | null;
  }[];
  /** What would be synced, in words, or null. */
  readonly sync: string | null;
}

/** Changes nothing; the members are opened read-only. Throws if one is no member at all. */
export async function checkAssembly(paths: readonly string[]): Promise<AssemblyReport[]> {
  const members = await openMembers(paths, true);
  try {
    const plans = groupByArray(members).map((group) => planAssembly(group));
    const reports = await Promise.all(plans.map(report));
    const clash = nameClash(reports.map(({ name }) => name));
    return clash === null ? reports : reports.map((one) => refused(one, clash, reports));
  } finally {
    await Promise.all(members.map(({ member }) => member.close()));
  }
}

async function report(plan: AssemblyPlan<OpenMember>): Promise<AssemblyReport> {
  const { freshest, missingActive } = plan;
  const { sync, error } = await lookForSync(plan);
  const refusal = plan.refusal ?? error;
  const missing = missingActive.length > 0;
  return {
    name: freshest.setName,
    uuid: freshest.setUuid,
    level: levelName(freshest.level) ?? String(freshest.level),
    layout: layoutName(plan.shape.level, plan.shape.layout),
    chunkSize: plan.shape.chunkBytes || null,
    raidDisks: freshest.raidDisks,
    verdict: verdictOn(refusal, missing),
    reason: refusal?.message ?? (missing ? missingMessage(freshest.setName, missingActive) : null),
    members: plan.members.map(({ found, slot, use, reason }) => {
      return { path: found.path, slot, events: found.superblock.events, use, reason };
    }),
    sync,
  };
}

/** As serve does: refused for its name if another has it, even if it would start alone. */
function refused(
  one: AssemblyReport,
  clash: NbdRaidError,
  reports: readonly AssemblyReport[],
): AssemblyReport {
  const shared = reports.filter(({ name }) => name === one.name).length > 1;
  if (!shared || one.verdict === "refused") return one;
  return { ...one, verdict: "refused", reason: `${clash.message}: ${clash.remedy}` };
}

function verdictOn(refusal: NbdRaidError | null, missing: boolean): AssemblyReport["verdict"] {
  if (refusal?.code === "dirty-degraded") return "needs --force";
  if (refusal !== null) return "refused";
  return missing ? "needs --run" : "start";
}

/** What serve finds only when it reads the bitmaps keeps it from starting, too. */
async function lookForSync(
  plan: AssemblyPlan<OpenMember>,
): Promise<{ sync: string | null; error: NbdRaidError | null }> {
  try {
    return { sync: await describeSync(plan), error: null };
  } catch (error) {
    if (error instanceof NbdRaidError) return { sync: null, error };
    throw error;
  }
}

async function describeSync(plan: AssemblyPlan<OpenMember>): Promise<string | null> {
  const { freshest, members } = plan;
  if (freshest.level <= 0) return null; // no redundancy
  if (members.some(({ use }) => use === "rebuilding")) return "recovery of the rebuilding members";
  const inSync = members.filter(({ use }) => use === "in_sync").length;
  if (inSync < 2) return null;
  const isWhole = inSync === freshest.raidDisks;
  const isClean = freshest.resyncOffsetSectors === "clean";
  const found = findBitmap(plan);
  if (found === null) return isClean ? null : "resync of everything: there is no bitmap";
  if (found.rule === "stale") {
    // Of parity that lacks a member nothing can be made, but where a write was cut short.
    const waits = isClean && !isWhole && PARITY_LEVELS.includes(freshest.level);
    return waits ? null : "resync of everything: the bitmap has missed writes";
  }
  if (found.rule !== "reload") return null; // nothing was ever written
  if (!isClean) return "resync of the regions that were being written";
  // What is marked while a member is absent waits for that member.
  const marked = isWhole && (await isAnyMarked(found));
  return marked ? "resync of the regions that are marked" : null;
}

/** True if a region is in need of a sync by any copy of the bitmap that counts. */
async function isAnyMarked({ kind, copies }: FoundBitmap): Promise<boolean> {
  for (const { found, superblock } of copies) {
    const regions = regionCount(superblock.syncSizeSectors, superblock.regionSectors);
    const states = await readStates(found.member, found.superblock, kind, regions);
    if (states.some((state) => stateFromDisk(state) >= State.Dirty)) return true;
  }
  return false;
}
