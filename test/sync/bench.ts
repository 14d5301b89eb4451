import { expect } from "vitest";
import { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { copiesCopier } from "../../src/raid/copies-copy.ts";
import { mirrorPlacement } from "../../src/raid/placement.ts";
import { SyncControl, SyncRole } from "../../src/sync/control.ts";
import {
  type MemberIo,
  type RangeCopier,
  type SyncCommand,
  type SyncFailure,
  type SyncJob,
  type SyncOutcome,
  type SyncReply,
  syncRun,
  WINDOW_BYTES_MAX,
} from "../../src/sync/engine.ts";

export const REGION_BYTES = 64 * 1024;

export const RESYNC: SyncJob = {
  action: "resync",
  requested: false,
  markedOnlyBelow: 0,
  suspectOnly: false,
};
export const RECOVERY: SyncJob = { ...RESYNC, action: "recovery" };
export const CHECK: SyncJob = { ...RESYNC, action: "check", requested: true };
export const REPAIR: SyncJob = { ...RESYNC, action: "repair", requested: true };
export const ASKED_RESYNC: SyncJob = { ...RESYNC, requested: true };
export const BY_BITMAP: SyncJob = { ...RECOVERY, markedOnlyBelow: Infinity };

export const BROKEN = { noSpace: false, message: "broken" };
export const FULL = { noSpace: true, message: "full" };

/** What a read or write of a member answers; null: it works. */
export type Fault = (io: MemberIo) => Omit<SyncFailure, "kind"> | null;

export function lengthOf({ buffers }: MemberIo): number {
  return buffers.reduce((sum, { length }) => sum + length, 0);
}

/**
 * A sync over members in memory. The bench performs the engine's commands, checks that no writer
 * could be where it copies, and lets the test meddle before each command.
 */
export class SyncBench {
  readonly regions: Regions;
  readonly control = new SyncControl();
  /** Data areas, by slot. */
  readonly members: Uint8Array[];
  /** Monotonic milliseconds; pauses pass it. */
  time = 0;
  readonly pauses: number[] = [];
  readonly reports: { slot: number; failure: SyncFailure }[] = [];
  reads = 0;
  writes = 0;
  fault: Fault = () => null;
  before: (command: SyncCommand) => void = () => undefined;
  /** How ranges are copied: as a mirror does it, unless the test says otherwise. */
  copy: RangeCopier;
  /** What the array does about a member that failed: by default nothing. */
  onReport: (slot: number, failure: SyncFailure) => void = () => undefined;

  /** `members`: their data areas, or how many: then each is full of bytes of its own. */
  constructor(
    trackedBytes: number,
    members: number | Uint8Array[] = 2,
    regionBytes = REGION_BYTES,
  ) {
    this.regions = Regions.create(trackedBytes, regionBytes, true);
    this.members =
      typeof members === "number"
        ? Array.from({ length: members }, (_, slot) =>
            new Uint8Array(trackedBytes).fill(0x10 + slot),
          )
        : members;
    this.copy = copiesCopier(mirrorPlacement(this.members.length), WINDOW_BYTES_MAX);
    this.setRoles();
  }

  /** All in sync, the lowest slot in front; but for these. */
  setRoles(others: Readonly<Record<number, SyncRole>> = {}): void {
    for (const slot of this.members.keys()) {
      this.control.setSlot(slot, others[slot] ?? SyncRole.InSync, slot);
    }
  }

  force(state: State, ...regions: readonly number[]): void {
    for (const region of regions) this.regions.force(region, state);
  }

  states(): State[] {
    return Array.from({ length: this.regions.count }, (_, region) => this.regions.state(region));
  }

  /** Regions in which two members hold the same. */
  equalRegions(one = 0, other = 1): number[] {
    const part = (slot: number, region: number): Uint8Array =>
      this.members[slot]!.subarray(region * REGION_BYTES, (region + 1) * REGION_BYTES);
    return this.states()
      .map((_, region) => region)
      .filter((region) => Buffer.compare(part(one, region), part(other, region)) === 0);
  }

  run(job: SyncJob): SyncOutcome {
    const { regions, control, copy } = this;
    const run = { ...job, regions, control, copy, now: () => this.time };
    const steps = syncRun(run);
    let step = steps.next();
    while (step.done !== true) {
      this.before(step.value);
      step = steps.next(this.perform(step.value));
    }
    expect(this.isOpen(0, regions.count - 1), "no window is left behind").toBe(true);
    expect(this.states(), "no region is left as one that syncs").not.toContain(State.Syncing);
    return step.value;
  }

  private isOpen(first: number, last: number): boolean {
    if (!this.regions.tryEnter(first, last)) return false;
    this.regions.leave(first, last);
    return true;
  }

  private perform(command: SyncCommand): SyncReply {
    switch (command.op) {
      case "admit":
        expect(this.isOpen(0, this.regions.count - 1), "those barred can get in").toBe(true);
        return [];
      case "drain":
        for (let region = command.first; region < command.end; region++) {
          expect(this.isOpen(region, region), "the window is open before the drain").toBe(false);
        }
        return [];
      case "io":
        return command.all.map((io) => this.access(io));
      case "report":
        this.reports.push({ slot: command.slot, failure: command.failure });
        this.onReport(command.slot, command.failure);
        return [];
      case "pause":
        expect(this.isOpen(0, this.regions.count - 1), "no window is held in a pause").toBe(true);
        this.pauses.push(command.ms);
        this.time += command.ms;
        return [];
    }
  }

  /** The regions that the bytes of a read or write belong to. */
  protected regionsOf(io: MemberIo): number[] {
    const first = this.regions.at(io.offset);
    const last = this.regions.at(io.offset + lengthOf(io) - 1);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  private access(io: MemberIo): SyncFailure | null {
    const { kind } = io;
    for (const region of this.regionsOf(io)) {
      expect(this.isOpen(region, region), "writers are barred where it copies").toBe(false);
    }
    const failure = this.fault(io);
    if (failure !== null) return { kind, ...failure };
    access(this.members[io.slot]!, io);
    if (kind === "read") this.reads++;
    else this.writes++;
    return null;
  }
}

/** Reads or writes a member's data area that lies in memory. */
export function access(member: Uint8Array, { kind, offset, buffers }: MemberIo): void {
  let at = offset;
  for (const buffer of buffers) {
    if (kind === "read") buffer.set(member.subarray(at, at + buffer.length));
    else member.set(buffer, at);
    at += buffer.length;
  }
}
