import { expect } from "vitest";
import { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { copyMirror } from "../../src/raid/mirror-copy.ts";
import { SyncControl, SyncRole } from "../../src/sync/control.ts";
import {
  type SyncCommand,
  type SyncFailure,
  type SyncJob,
  type SyncOutcome,
  syncRun,
} from "../../src/sync/engine.ts";

export const REGION_BYTES = 64 * 1024;

export const RESYNC: SyncJob = { action: "resync", markedOnlyBelow: 0, suspectOnly: false };
export const RECOVERY: SyncJob = { action: "recovery", markedOnlyBelow: 0, suspectOnly: false };
export const BY_BITMAP: SyncJob = { ...RECOVERY, markedOnlyBelow: Infinity };

export const BROKEN = { noSpace: false, message: "broken" };
export const FULL = { noSpace: true, message: "full" };

/** What a command that touches a member answers; null: it works. */
type Fault = (command: SyncCommand) => Omit<SyncFailure, "kind"> | null;

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
  /** What the array does about a member that failed: by default nothing. */
  onReport: (slot: number, failure: SyncFailure) => void = () => undefined;

  constructor(trackedBytes: number, members = 2) {
    this.regions = Regions.create(trackedBytes, REGION_BYTES, true);
    this.members = Array.from({ length: members }, (_, slot) =>
      new Uint8Array(trackedBytes).fill(0x10 + slot),
    );
    for (let slot = 0; slot < members; slot++) this.control.setSlot(slot, SyncRole.InSync, slot);
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
    const { regions, control } = this;
    const run = { ...job, regions, control, copy: copyMirror, now: () => this.time };
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

  private perform(command: SyncCommand): SyncFailure | null {
    switch (command.op) {
      case "drain":
        for (let region = command.first; region < command.end; region++) {
          expect(this.isOpen(region, region), "the window is open before the drain").toBe(false);
        }
        return null;
      case "read":
      case "write":
        return this.access(command);
      case "report":
        this.reports.push({ slot: command.slot, failure: command.failure });
        this.onReport(command.slot, command.failure);
        return null;
      case "pause":
        expect(this.isOpen(0, this.regions.count - 1), "no window is held in a pause").toBe(true);
        this.pauses.push(command.ms);
        this.time += command.ms;
        return null;
    }
  }

  private access(command: Extract<SyncCommand, { op: "read" | "write" }>): SyncFailure | null {
    const { offset, slot } = command;
    const length = command.op === "read" ? command.into.length : command.from.length;
    for (let at = offset; at < offset + length; at += REGION_BYTES) {
      const region = this.regions.at(at);
      expect(this.isOpen(region, region), "writers are barred where it copies").toBe(false);
    }
    const failure = this.fault(command);
    if (failure !== null) return { kind: command.op, ...failure };
    if (command.op === "read") {
      this.reads++;
      command.into.set(this.members[slot]!.subarray(offset, offset + length));
    } else {
      this.writes++;
      this.members[slot]!.set(command.from, offset);
    }
    return null;
  }
}
