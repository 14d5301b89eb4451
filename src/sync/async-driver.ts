import type { Clock } from "../clock.ts";
import { assert } from "../errors.ts";
import { type Member, MemberError } from "../member/member.ts";
import {
  type MemberIo,
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
      case "admit":
        await run.regions.admit();
        return [];
      case "drain":
        await run.regions.drain(command.first, command.end);
        return [];
      case "io":
        return Promise.all(command.all.map((one) => transfer(members, one)));
      case "report":
        await failed(command.slot, command.failure);
        return [];
      case "pause":
        await new Promise<void>((resolve) => clock.after(command.ms, resolve));
        return [];
    }
  };
  const steps = syncRun(run);
  let step = steps.next();
  while (step.done !== true) step = steps.next(await perform(step.value));
  return step.value;
}

async function transfer(
  members: readonly (AsyncMember | null)[],
  { kind, slot, offset, buffers }: MemberIo,
): Promise<SyncFailure | null> {
  const { member, dataOffset } = memberAt(members, slot);
  try {
    const [only] = buffers;
    const at = dataOffset + offset;
    if (only !== undefined && buffers.length === 1) await member[kind](only, at);
    else if (kind === "read") await member.readv(buffers, at);
    else await member.writev(buffers, at);
    return null;
  } catch (error) {
    if (!(error instanceof MemberError)) throw error;
    return { kind, noSpace: error.noSpace, message: error.message };
  }
}

function memberAt(members: readonly (AsyncMember | null)[], slot: number): AsyncMember {
  const found = members[slot];
  assert(found != null, "a slot with a sync role has a member");
  return found;
}
