import type { Clock } from "../clock.ts";
import { assert } from "../errors.ts";
import { type Member, MemberError } from "../member/member.ts";
import {
  type SyncCommand,
  type SyncFailure,
  type SyncOutcome,
  type SyncReply,
  type SyncRun,
  syncRun,
} from "./engine.ts";

/** A member as this driver uses it. */
export interface AsyncMember {
  readonly member: Member;
  /** Bytes from the start of the member to its data area. */
  readonly dataOffset: number;
}

/** Runs a sync on this thread over any members: remote and simulated ones. */
export async function runAsync(
  run: SyncRun,
  members: readonly (AsyncMember | null)[],
  clock: Clock,
  failed: (slot: number, failure: SyncFailure) => Promise<void>,
): Promise<SyncOutcome> {
  const perform = async (command: SyncCommand): Promise<SyncReply> => {
    switch (command.op) {
      case "drain":
        await run.regions.drain(command.first, command.end);
        return null;
      case "read": {
        const { member, dataOffset } = at(members, command.slot);
        return attempt("read", member.read(command.into, dataOffset + command.offset));
      }
      case "write": {
        const { member, dataOffset } = at(members, command.slot);
        return attempt("write", member.write(command.from, dataOffset + command.offset));
      }
      case "report":
        await failed(command.slot, command.failure);
        return null;
      case "pause":
        await new Promise<void>((resolve) => clock.after(command.ms, resolve));
        return null;
    }
  };
  const steps = syncRun(run);
  let step = steps.next();
  while (step.done !== true) step = steps.next(await perform(step.value));
  return step.value;
}

async function attempt(kind: "read" | "write", operation: Promise<void>): Promise<SyncReply> {
  try {
    await operation;
    return null;
  } catch (error) {
    if (!(error instanceof MemberError)) throw error;
    return { kind, noSpace: error.noSpace, message: error.message };
  }
}

function at(members: readonly (AsyncMember | null)[], slot: number): AsyncMember {
  const found = members[slot];
  assert(found != null, "a slot with a sync role has a member");
  return found;
}
