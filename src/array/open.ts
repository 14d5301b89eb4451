import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import type { Logger } from "pino";
import { systemClock } from "../clock.ts";
import { type ErrorCode, NbdRaidError } from "../errors.ts";
import { FileMember } from "../member/file.ts";
import { identityOf } from "../member/open-file.ts";
import { UUID_BYTES } from "../metadata/uuid.ts";
import type { RaidArray } from "./array.ts";
import { type AssemblyPlan, groupByArray, planAssembly } from "./assemble.ts";
import { readHeaders } from "./headers.ts";
import { loadArray, type OpenMember } from "./load.ts";
import { findPlace, type Place, refuseTwice } from "./places.ts";

export interface OpenOptions {
  readonly readOnly: boolean;
  /** Start although a member is missing, or of no use, that the freshest superblock calls active. */
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
  const { members, unusable } = await openUsable(paths, options.readOnly);
  try {
    const plans = groupByArray(members).map((group) => planAssembly(group, options));
    const [first] = unusable;
    if (first !== undefined && !(options.run && plans.length > 0)) throw hintAtRun(first, plans);
    for (const { message } of unusable)
      options.logger.warn({ reason: message }, "member left out: it cannot be used");
    for (const plan of plans) refuse(plan, options.run);
    const arrays = await Promise.all(plans.map((plan) => loadArray(plan, surroundings(options))));
    for (const plan of plans) await closeLeftOut(plan, options.logger);
    return arrays;
  } catch (error) {
    await Promise.all(members.map(({ member }) => member.close()));
    throw error;
  }
}

/**
 * Opens and reads every member; closes all again if one cannot be used, and says so, and whether
 * the others could start without it.
 */
export async function openMembers(
  paths: readonly string[],
  readOnly: boolean,
): Promise<OpenMember[]> {
  const { members, unusable } = await openUsable(paths, readOnly);
  const [first] = unusable;
  if (first === undefined) return members;
  const plans = groupByArray(members).map((group) => planAssembly(group));
  await Promise.all(members.map(({ member }) => member.close()));
  throw hintAtRun(first, plans);
}

/** A listed member that is absent, blank or damaged: an array may do without it. */
const MAY_BE_LEFT_OUT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "member-unreadable",
  "member-too-small",
  "member-foreign",
  "superblock-corrupt",
]);

function mayBeLeftOut(error: unknown): error is NbdRaidError {
  if (!(error instanceof NbdRaidError) || !MAY_BE_LEFT_OUT.has(error.code)) return false;
  // It is there, and whole for all we know: that is for its owner to mend.
  const cause = (error.cause as NodeJS.ErrnoException | undefined)?.code;
  return cause !== "EACCES" && cause !== "EPERM";
}

/** Opens what can be used; nothing stays open if it throws. */
async function openUsable(
  paths: readonly string[],
  readOnly: boolean,
): Promise<{ members: OpenMember[]; unusable: NbdRaidError[] }> {
  const members: OpenMember[] = [];
  const unusable: NbdRaidError[] = [];
  const leaveOut = (error: unknown): void => {
    if (!mayBeLeftOut(error)) throw error;
    unusable.push(error);
  };
  try {
    const places: Place[] = [];
    for (const path of paths) {
      await findPlace(path).then((place) => places.push(place), leaveOut);
    }
    refuseTwice(places);
    for (const { path } of places) await openMember(path, readOnly, members).catch(leaveOut);
    return { members, unusable };
  } catch (error) {
    await Promise.all(members.map(({ member }) => member.close()));
    throw error;
  }
}

async function openMember(path: string, readOnly: boolean, members: OpenMember[]): Promise<void> {
  const member = await FileMember.open(path, { readOnly });
  try {
    members.push({ path: member.path, member, ...(await readHeaders(member)) });
  } catch (error) {
    await member.close();
    throw error;
  }
}

/** Names the way out, if it is one. */
function hintAtRun(error: NbdRaidError, plans: readonly AssemblyPlan<OpenMember>[]): NbdRaidError {
  if (plans.length === 0 || plans.some(({ refusal }) => refusal !== null)) return error;
  const message = `${error.message}; the others can start without it: --run`;
  return new NbdRaidError(error.code, message, { cause: error });
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
