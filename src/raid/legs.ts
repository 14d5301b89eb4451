import { MemberError } from "../member/member.ts";
import type { Leg, LegFailure } from "./level.ts";

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
