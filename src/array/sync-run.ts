import type { Logger } from "pino";
import type { Regions } from "../bitmap/regions.ts";
import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import { copierOf } from "../raid/copiers.ts";
import type { ArrayShape } from "../raid/geometry/geometry.ts";
import { runAsync } from "../sync/async-driver.ts";
import { type SyncControl, SyncRole } from "../sync/control.ts";
import { type SyncFailure, type SyncOutcome, WINDOW_BYTES_MAX } from "../sync/engine.ts";
import { runInWorker } from "../sync/worker-driver.ts";
import type { Device, Devices } from "./devices.ts";
import type { SyncPlan } from "./sync-plan.ts";
import type { SyncProgress } from "./sync-progress.ts";
import type { ArraySettings } from "./status.ts";

/** What syncs ask of the array around them. */
export interface SyncHost {
  readonly name: string;
  readonly shape: ArrayShape;
  readonly devices: Devices;
  readonly regions: Regions;
  readonly settings: ArraySettings;
  readonly clock: Clock;
  readonly logger: Logger;
  /** No sync may run: the array stops, has failed, or is read-only. */
  mayNotSync(): boolean;
  /** In-sync devices in the order in which reads pin to them. */
  sources(): readonly Device[];
  /** Requests clients have sent so far. */
  requests(): number;
  /** A member failed during a sync: policy, recorded when it resolves. */
  failed(device: Device, failure: SyncFailure): Promise<void>;
  /** Regions below `end` are finished: makes that durable. */
  checkpoint(action: "resync" | "recovery", targets: readonly Device[], end: number): Promise<void>;
  /** A recovery has copied all: the targets that are still there become in sync. */
  recovered(targets: readonly Device[]): Promise<void>;
}

const TICK_MS = 250;
const SPACE_RETRY_MS = 1000;

/**
 * Runs one sync to its end, and makes durable what it has done. A thread of its own does it where
 * every member that takes part is a file.
 */
export async function runSync(
  host: SyncHost,
  plan: SyncPlan,
  control: SyncControl,
  progress: SyncProgress,
): Promise<SyncOutcome> {
  assignRoles(host, plan, control);
  const stopTimers = startTimers(host, plan, control, progress);
  let outcome: SyncOutcome;
  try {
    outcome = await drive(host, plan, control);
  } finally {
    await stopTimers();
  }
  return finish(host, plan, control, outcome);
}

function assignRoles(host: SyncHost, plan: SyncPlan, control: SyncControl): void {
  for (const [rank, device] of host.sources().entries()) {
    control.setSlot(device.slot ?? 0, SyncRole.InSync, rank);
  }
  for (const device of plan.targets) control.setSlot(device.slot ?? 0, SyncRole.Target, 0);
}

function drive(host: SyncHost, plan: SyncPlan, control: SyncControl): Promise<SyncOutcome> {
  const failed = async (slot: number, failure: SyncFailure): Promise<void> => {
    const device = host.devices.slots[slot];
    if (device == null) return;
    await host.failed(device, failure);
  };
  const members = host.devices.slots.map((device, slot) =>
    control.role(slot) === SyncRole.None ? null : device,
  );
  const descriptors = members.map((device) => device?.member.descriptor ?? null);
  if (members.every((device, slot) => device === null || descriptors[slot] !== null)) {
    const order = {
      job: plan.job,
      shape: host.shape,
      regions: host.regions.shared,
      control: control.buffer,
      members: members.map((device, slot) =>
        device === null
          ? null
          : {
              path: device.member.path,
              descriptor: descriptors[slot]!,
              dataOffset: device.dataOffset,
            },
      ),
    };
    return runInWorker(order, control, failed);
  }
  const run = {
    ...plan.job,
    regions: host.regions,
    control,
    copy: copierOf(host.shape, WINDOW_BYTES_MAX),
    now: () => host.clock.now(),
  };
  return runAsync(run, members, host.clock, failed);
}

/** Makes durable what the run has done; waits for space, as the run itself does. */
async function finish(
  host: SyncHost,
  plan: SyncPlan,
  control: SyncControl,
  outcome: SyncOutcome,
): Promise<SyncOutcome> {
  const recovered = plan.job.action === "recovery" && outcome.result === "done";
  for (;;) {
    try {
      if (recovered) await host.recovered(plan.targets);
      else await checkpoint(host, plan, control);
      return outcome;
    } catch (error) {
      if (!(error instanceof NbdRaidError) && !(error instanceof MemberError)) throw error;
      const full = error instanceof MemberError ? error.noSpace : error.code === "no-space";
      if (!full) return { result: "failed", failure: error.message };
    }
    control.waitsForSpace = true;
    if (control.stopping || host.mayNotSync()) return { result: "stopped", failure: null };
    await new Promise<void>((resolve) => host.clock.after(SPACE_RETRY_MS, resolve));
  }
}

async function checkpoint(
  host: SyncHost,
  { job, targets }: SyncPlan,
  control: SyncControl,
): Promise<void> {
  // A check writes only what a member could not read.
  if (job.action === "check" && control.writtenBytes === 0) return;
  const action = job.action === "recovery" ? "recovery" : "resync";
  await host.checkpoint(action, targets, control.cursor);
}

/** The samples of speed, the limit, and the checkpoints; the result ends them. */
function startTimers(
  host: SyncHost,
  plan: SyncPlan,
  control: SyncControl,
  progress: SyncProgress,
): () => Promise<void> {
  let cancel = (): void => undefined;
  let running: Promise<void> | null = null;
  let lastCheckpoint = host.clock.now();
  let requests = host.requests();
  const tick = (): void => {
    const busy = host.requests() !== requests;
    requests = host.requests();
    const { syncSpeedMin, syncSpeedMax, daemonSleepMs } = host.settings;
    const limits = [syncSpeedMax, busy ? syncSpeedMin : 0].filter((limit) => limit > 0);
    control.limit = limits.length > 0 ? Math.min(...limits) : 0;
    progress.sample();
    if (running === null && host.clock.now() - lastCheckpoint >= daemonSleepMs) {
      lastCheckpoint = host.clock.now();
      running = checkpoint(host, plan, control)
        .catch((error: unknown) => host.logger.warn({ err: error }, "checkpoint failed"))
        .finally(() => (running = null));
    }
    cancel = host.clock.after(TICK_MS, tick);
  };
  control.limit = host.settings.syncSpeedMax;
  cancel = host.clock.after(TICK_MS, tick);
  return async () => {
    cancel();
    await running;
  };
}
