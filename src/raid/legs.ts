import { MemberError } from "../member/member.ts";
import type { Leg, LegFailure } from "./level.ts";
import type { SlotRange } from "./slot-ranges.ts";

/** Longer copies to several legs are made at once, by a thread each: see docs/benchmarks.md. */
export const INLINE_COPY_BYTES_MAX = 128 * 1024;
/** Longer reads of several legs go to the pool: this one takes about 0.15 ms from memory. */
export const INLINE_READ_BYTES_MAX = 1024 * 1024;

/** Does it on each leg at once; the legs that failed. Resolves when all have ended. */
export async function onEach<L extends Leg>(
  legs: readonly L[],
  operation: (leg: L) => Promise<void>,
): Promise<LegFailure<L>[]> {
  const results = await Promise.allSettled(legs.map(operation));
  const failures: LegFailure<L>[] = [];
  for (const [index, result] of results.entries()) {
    if (result.status === "fulfilled") continue;
    const error: unknown = result.reason;
    if (!(error instanceof MemberError)) throw error;
    failures.push({ leg: legs[index]!, error });
  }
  return failures;
}

/**
 * Does it on each range of a slot at once; the legs that failed, once each. Resolves when all have
 * ended.
 */
export async function onRanges<L extends Leg>(
  ranges: readonly SlotRange[],
  legAt: (slot: number) => L,
  operation: (leg: L, range: SlotRange) => Promise<void>,
): Promise<LegFailure<L>[]> {
  const legs = ranges.map(({ slot }) => legAt(slot));
  const results = await Promise.allSettled(
    ranges.map((range, index) => operation(legs[index]!, range)),
  );
  const failures = new Map<L, MemberError>();
  for (const [index, result] of results.entries()) {
    if (result.status === "fulfilled") continue;
    const error: unknown = result.reason;
    if (!(error instanceof MemberError)) throw error;
    const leg = legs[index]!;
    // A leg that is broken somewhere does not only lack space.
    if (failures.get(leg)?.noSpace !== false) failures.set(leg, error);
  }
  return [...failures].map(([leg, error]) => ({ leg, error }));
}

/**
 * What reads came to, when all of them have ended: nobody fills the client's buffer any more.
 * Rejects if one of them did.
 */
export async function allRead<T>(reads: readonly Promise<T[]>[]): Promise<T[]> {
  const results = await Promise.allSettled(reads);
  return results.flatMap((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/** Legs that are read only if there is no other come last. */
export function byWriteMostly(a: Leg, b: Leg): number {
  return Number(a.writeMostly) - Number(b.writeMostly);
}
