import { State, stateFromDisk } from "../bitmap/transitions.ts";
import { NbdRaidError } from "../errors.ts";
import { firstUseState } from "../metadata/bitmap-superblock.ts";
import { regionCount } from "../metadata/layout.ts";
import { levelName } from "../metadata/levels.ts";
import { layoutName } from "../raid/geometry/layouts.ts";
import { type AssemblyPlan, groupByArray, nameClash, planAssembly } from "./assemble.ts";
import { readStates } from "./headers.ts";
import type { OpenMember } from "./load.ts";
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
  const { freshest, refusal, missingActive } = plan;
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
    sync: await describeSync(plan),
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

async function describeSync(plan: AssemblyPlan<OpenMember>): Promise<string | null> {
  const { freshest, members } = plan;
  if (members.some(({ use }) => use === "rebuilding")) return "recovery of the rebuilding members";
  const inSync = members.filter(({ use }) => use === "in_sync");
  const unclean = freshest.resyncOffsetSectors !== "clean";
  if (unclean && inSync.length > 1) return "resync of the regions that were being written";
  // What is marked while a member is absent waits for that member.
  if (inSync.length < freshest.raidDisks) return null;
  for (const { found } of inSync) {
    if (await isMarked(found, freshest.events)) return "resync of the regions that are marked";
  }
  return null;
}

/** True if a region is in need of a sync by this member's bitmap, which must have seen all writes. */
async function isMarked(found: OpenMember, events: number): Promise<boolean> {
  const { member, superblock, bitmap } = found;
  if (bitmap === null || bitmap instanceof NbdRaidError) return false;
  if (firstUseState(bitmap) !== null || bitmap.events < events) return false;
  const regions = regionCount(bitmap.syncSizeSectors, bitmap.regionSectors);
  const states = await readStates(member, superblock, bitmap.kind, regions);
  return states.some((state) => stateFromDisk(state) >= State.Dirty);
}
