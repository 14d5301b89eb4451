import type { ArrayStatus, MemberStatus } from "../../array/status.ts";
import { formatBytes } from "../sizes.ts";

/** What is wrong with an array, and the user's next step, both in words. */
export interface Advice {
  readonly status: string;
  readonly action: string;
}

type Case = (array: ArrayStatus) => Advice | null;

/** The first that fits is shown. */
const CASES: readonly Case[] = [
  failed,
  failing,
  syncWaits,
  unknown,
  syncFailed,
  rebuilding,
  faulty,
  missing,
  unlinked,
  resyncing,
  differing,
];

/** Null: the array needs nothing. */
export function adviceFor(array: ArrayStatus): Advice | null {
  for (const fits of CASES) {
    const advice = fits(array);
    if (advice !== null) return advice;
  }
  return null;
}

function failed({ state }: ArrayStatus): Advice | null {
  if (state !== "failed") return null;
  return {
    status: "The array has failed: too few members are left, and writes end with an error.",
    action: "Repair the storage behind its members, then restart the server.",
  };
}

/**
 * One loss too many, but only where it happens: what lies elsewhere is still served. A member that
 * the array could lose would be faulty.
 */
function failing({ name, level, members, degraded }: ArrayStatus): Advice | null {
  const member = members.find(({ state, writeErrors }) => state === "in_sync" && writeErrors > 0);
  if (member === undefined) return null;
  const array = quote(name);
  const status = `${nameOf(member)} has failed ${member.writeErrors} writes that the array could not do without: clients got errors.`;
  if (level === "0" || level === "linear")
    return { status, action: "Copy the array's data elsewhere, to sound storage." };
  const replace = `nbd-raid fail ${array} ${member.slot}; nbd-raid remove ${array} ${member.slot}; nbd-raid add ${array} MEMBER`;
  return {
    status,
    action:
      degraded > 0
        ? `Bring a missing member back first (nbd-raid re-add, or add), and wait for it; then: ${replace}`
        : `Put sound storage in its place: ${replace}`,
  };
}

function syncWaits({ sync }: ArrayStatus): Advice | null {
  if (sync === null || sync.waitingFor === null) return null;
  return {
    status: `A ${sync.action} is due and waits: ${sync.waitingFor}.`,
    action: "Remove what it waits for; it goes on by itself.",
  };
}

/** The write hole: a crash found the array without a member, and it was started by force. */
function unknown({ name, level, degraded, suspectBytes, sync }: ArrayStatus): Advice | null {
  const hasParity = level === "4" || level === "5" || level === "6";
  if (!hasParity || degraded === 0 || suspectBytes === 0 || sync !== null) return null;
  const array = quote(name);
  return {
    status: `What is missing cannot be known in ${formatBytes(suspectBytes)} of each member: a crash may have torn stripes there.`,
    action: `To take what parity says, wrong or not: nbd-raid repair ${array}, then check what was being written.`,
  };
}

function rebuilding({ name, members, sync }: ArrayStatus): Advice | null {
  const target = members.find(({ state }) => state === "rebuilding");
  if (target === undefined) return null;
  const left = sync === null ? "" : ` (${formatBytes(sync.totalBytes - sync.doneBytes)} to go)`;
  return {
    status: `${nameOf(target)} is being rebuilt${left}.`,
    action: `Wait for it: nbd-raid wait ${quote(name)}`,
  };
}

function syncFailed({ lastSync, sync }: ArrayStatus): Advice | null {
  if (sync !== null || lastSync?.result !== "failed") return null;
  return {
    status: `The last ${lastSync.action} failed: ${lastSync.failure ?? "its reason is in the log"}.`,
    action: "Check the storage behind the members.",
  };
}

function faulty({ name, members }: ArrayStatus): Advice | null {
  const member = members.find(({ slot, state }) => slot !== null && state === "faulty");
  if (member === undefined) return null;
  const array = quote(name);
  const path = quote(member.path ?? String(member.slot));
  return {
    status: `${nameOf(member)} has failed; the array runs with less redundancy.`,
    action:
      `If its storage is sound again: nbd-raid remove ${array} ${path}; nbd-raid re-add ${array} ${path}` +
      ` -- or take another: nbd-raid remove ${array} ${path}; nbd-raid add ${array} MEMBER`,
  };
}

function missing({ name, members }: ArrayStatus): Advice | null {
  const member = members.find(({ state }) => state === "missing");
  if (member === undefined) return null;
  const array = quote(name);
  return {
    status: `Slot ${member.slot} has no member; the array runs with less redundancy.`,
    action:
      `If its member is back: nbd-raid re-add ${array} MEMBER` +
      ` -- or take another: nbd-raid add ${array} MEMBER`,
  };
}

/** It works on until it is closed: then what only it holds is gone. */
function unlinked({ name, level, members }: ArrayStatus): Advice | null {
  const member = members.find(({ slot, unlinked }) => slot !== null && unlinked);
  if (member === undefined) return null;
  const status = `${nameOf(member)} was deleted or replaced: what is open is lost when the server stops.`;
  if (level === "0" || level === "linear")
    return { status, action: "Copy the array's data elsewhere before the server stops." };
  const array = quote(name);
  return {
    status,
    action:
      `Take another in its place: nbd-raid fail ${array} ${member.slot}; ` +
      `nbd-raid remove ${array} ${member.slot}; nbd-raid add ${array} MEMBER`,
  };
}

function resyncing({ name, sync }: ArrayStatus): Advice | null {
  if (sync?.action !== "resync") return null;
  return {
    status: "A resync makes members consistent where they may differ, as after a crash.",
    action: `Nothing; the array is in use meanwhile. To wait: nbd-raid wait ${quote(name)}`,
  };
}

function differing({ name, sync, lastSync, mismatchCount }: ArrayStatus): Advice | null {
  if (sync !== null || lastSync?.action !== "check" || mismatchCount === 0) return null;
  return {
    status: `The last check found ${mismatchCount} sectors that differ.`,
    action: `To make them consistent: nbd-raid repair ${quote(name)}`,
  };
}

function nameOf({ path, slot }: MemberStatus): string {
  return `${path ?? "The member"} in slot ${slot}`;
}

/** As a shell takes it. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
