import { totalLength } from "../member/vectors.ts";
import { type SyncControl, SyncRole } from "../sync/control.ts";
import type { MemberIo, SyncFailure, SyncRange, SyncSteps } from "../sync/engine.ts";

/** A buffer and the place on a member that it is for. Offsets are bytes of the data area. */
export interface Placed {
  readonly slot: number;
  readonly offset: number;
  readonly buffer: Uint8Array;
}

/** One read or write of a member, and what it was made of, in the order of its buffers. */
export interface Merged<P extends Placed> extends MemberIo {
  readonly parts: readonly P[];
}

/** Neighbours on a member become one read or write, in the order of slots and offsets. */
export function merge<P extends Placed>(kind: MemberIo["kind"], parts: readonly P[]): Merged<P>[] {
  const sorted = [...parts].sort((a, b) => a.slot - b.slot || a.offset - b.offset);
  const all: { slot: number; offset: number; end: number; parts: P[]; buffers: Uint8Array[] }[] =
    [];
  for (const part of sorted) {
    const { slot, offset, buffer } = part;
    const last = all.at(-1);
    if (last === undefined || last.slot !== slot || last.end !== offset) {
      all.push({ slot, offset, end: offset + buffer.length, parts: [part], buffers: [buffer] });
      continue;
    }
    last.end += buffer.length;
    last.parts.push(part);
    const before = last.buffers.at(-1)!;
    const joined = join(before, buffer);
    if (joined === null) last.buffers.push(buffer);
    else last.buffers[last.buffers.length - 1] = joined;
  }
  return all.map((one) => ({ kind, ...one }));
}

/** Both as one view, if the second follows the first in memory. */
function join(one: Uint8Array, other: Uint8Array): Uint8Array | null {
  if (one.buffer !== other.buffer || one.byteOffset + one.length !== other.byteOffset) return null;
  return new Uint8Array(one.buffer, one.byteOffset, one.length + other.length);
}

/**
 * Does them all and counts what was done; the failures, in their order. `ahead`: what lies behind
 * them is read next.
 */
export function* transfer(
  control: SyncControl,
  all: readonly MemberIo[],
  ahead = false,
): SyncSteps<readonly (SyncFailure | null)[]> {
  if (all.length === 0) return [];
  const replies = yield { op: "io", all, ahead };
  for (const [index, { kind, buffers }] of all.entries()) {
    if (replies[index] !== null) continue;
    const bytes = totalLength(buffers);
    if (kind === "read") control.countRead(bytes);
    else control.countWritten(bytes);
  }
  return replies;
}

export function* readOne(
  control: SyncControl,
  { slot, offset, buffer }: Placed,
): SyncSteps<SyncFailure | null> {
  const [failure = null] = yield* transfer(control, [
    { kind: "read", slot, offset, buffers: [buffer] },
  ]);
  return failure;
}

/**
 * Writes to the slots that still take part. Members that fail are reported; one that takes part all
 * the same must hold what it was to hold for the range to count as done, if anything depends on it:
 * on a check nothing does, nor on a block that could not be read, where parity is good.
 */
export function* writeAll(
  control: SyncControl,
  { action, everywhere }: SyncRange,
  parts: readonly Placed[],
): SyncSteps<"written" | "no-space" | "unwritable"> {
  const present = parts.filter(({ slot }) => control.role(slot) !== SyncRole.None);
  const all = merge("write", present);
  const replies = yield* transfer(control, all);
  const failed = new Map<number, SyncFailure>();
  for (const [index, failure] of replies.entries()) {
    if (failure !== null) failed.set(all[index]!.slot, failure);
  }
  yield* report(control, failed);
  if (replies.some((failure) => failure?.noSpace === true)) return "no-space";
  const lacks = [...failed.keys()].some((slot) => {
    const role = control.role(slot);
    return role === SyncRole.Target || (role === SyncRole.InSync && everywhere);
  });
  return lacks && action !== "check" ? "unwritable" : "written";
}

/** Tells the array of members that failed, by slot, once each. */
export function* report(
  control: SyncControl,
  failed: ReadonlyMap<number, SyncFailure>,
): SyncSteps<void> {
  for (const [slot, failure] of failed) {
    // Another's failure may have cost it its part.
    if (control.role(slot) !== SyncRole.None) yield { op: "report", slot, failure };
  }
}

/** True if there is still somebody to sync to. */
export function hasTargets(control: SyncControl, everywhere: boolean): boolean {
  if (control.slots(SyncRole.Target).length > 0) return true;
  return everywhere && control.slots(SyncRole.InSync).length > 1;
}

/** Where the block that holds byte `at` ends: blocks lie at multiples of their length. */
export function blockEnd(at: number, blockBytes: number): number {
  return at + blockBytes - (at % blockBytes);
}
