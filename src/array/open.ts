import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import type { Logger } from "pino";
import { systemClock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { FileMember } from "../member/file.ts";
import { identityOf } from "../member/open-file.ts";
import { UUID_BYTES } from "../metadata/uuid.ts";
import type { RaidArray } from "./array.ts";
import { type AssemblyPlan, groupByArray, planAssembly } from "./assemble.ts";
import { readHeaders } from "./headers.ts";
import { loadArray, type OpenMember } from "./load.ts";
import { findPlace, refuseTwice } from "./places.ts";

export interface OpenOptions {
  readonly readOnly: boolean;
  /** Start although a member is missing that the freshest superblock calls active. */
  readonly run: boolean;
  /** Start a parity array that is dirty and degraded. */
  readonly force: boolean;
  readonly logger: Logger;
}

/**
 * Opens members and makes the arrays they belong to. Nothing is written, and nothing stays open
 * if it throws: `RaidArray.start` is the first to write. Throws an NbdRaidError for whatever
 * keeps one of the arrays from starting.
 */
export async function openArrays(
  paths: readonly string[],
  options: OpenOptions,
): Promise<RaidArray[]> {
  const members = await openMembers(paths, options.readOnly);
  try {
    const plans = groupByArray(members).map((group) => planAssembly(group, options));
    for (const plan of plans) refuse(plan, options.run);
    const arrays = await Promise.all(plans.map((plan) => loadArray(plan, surroundings(options))));
    for (const plan of plans) await closeLeftOut(plan, options.logger);
    return arrays;
  } catch (error) {
    await Promise.all(members.map(({ member }) => member.close()));
    throw error;
  }
}

/** Opens and reads every member; closes all again if one cannot be used. */
export async function openMembers(
  paths: readonly string[],
  readOnly: boolean,
): Promise<OpenMember[]> {
  const places = await Promise.all(paths.map(findPlace));
  refuseTwice(places);
  const members: OpenMember[] = [];
  const opened: FileMember[] = [];
  try {
    for (const { path } of places) {
      const member = await FileMember.open(path, { readOnly });
      opened.push(member);
      members.push({ path: member.path, member, ...(await readHeaders(member)) });
    }
    return members;
  } catch (error) {
    await Promise.all(opened.map((member) => member.close()));
    throw error;
  }
}

function refuse(
  { refusal, missingActive, freshest }: AssemblyPlan<OpenMember>,
  run: boolean,
): void {
  if (refusal !== null) throw refusal;
  if (missingActive.length === 0 || run) return;
  throw new NbdRaidError("member-missing", missingMessage(freshest.setName, missingActive));
}

/** What is missing, in words. */
export function missingMessage(name: string, slots: readonly number[]): string {
  const which = slots.length === 1 ? `slot ${slots[0]}` : `slots ${slots.join(", ")}`;
  return `${name}: the member of ${which} is missing, and was in use when the array last ran`;
}

async function closeLeftOut(plan: AssemblyPlan<OpenMember>, logger: Logger): Promise<void> {
  for (const { found, use, reason } of plan.members) {
    if (use !== "left out") continue;
    logger.warn({ array: plan.freshest.setName, member: found.path, reason }, "member left out");
    await found.member.close();
  }
}

function surroundings({ readOnly, logger }: OpenOptions) {
  return {
    readOnly,
    logger,
    clock: systemClock,
    openMember: (path: string) => FileMember.open(path, { readOnly: false }),
    identify,
    newUuid: () => randomBytes(UUID_BYTES),
    oneThread: false,
  };
}

/** Null where nothing is, or nothing that could be a member. */
function identify(path: string): string | null {
  try {
    return identityOf(path, statSync(path, { bigint: true }));
  } catch {
    return null;
  }
}
