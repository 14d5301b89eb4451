import type { Logger } from "pino";
import type { Regions } from "../bitmap/regions.ts";
import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import { copierOf } from "../raid/copiers.ts";
import type { ArrayShape } from "../raid/geometry/geometry.ts";
import { runAsync } from "../sync/async-driver.ts";
import { SyncControl, SyncRole } from "../sync/control.ts";
import {
  type SyncFailure,
  type SyncJob,
  type SyncOutcome,
  WINDOW_BYTES_MAX,
} from "../sync/engine.ts";
import { runInWorker } from "../sync/worker-driver.ts";
import type { Device, Devices } from "./devices.ts";
import { SyncProgress } from "./sync-progress.ts";
import type { ArraySettings, LastSync, SyncStatus } from "./status.ts";

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
  checkpoint(action: SyncJob["action"], targets: readonly Device[], end: number): Promise<void>;
  /** A recovery has copied all: the targets that are still there become in sync. */
  recovered(targets: readonly Device[]): Promise<void>;
}

interface Plan {
  readonly job: SyncJob;
  readonly targets: readonly Device[];
}

interface Run extends Plan {
  readonly control: SyncControl;
  readonly progress: SyncProgress;
  readonly ended: Promise<void>;
}

const TICK_MS = 250;
const SPACE_RETRY_MS = 1000;

/** Decides which sync runs, runs it, and knows how the last one ended. One at a time. */
export class Syncs {
  lastSync: LastSync | null = null;
  private readonly host: SyncHost;
  private current: Run | null = null;
  private pausedBy = 0;
  /** After a failure nothing starts by itself until the devices or the regions changed. */
  private failedAt: number | null = null;
  private readonly waiters: (() => void)[] = [];

  constructor(host: SyncHost) {
    this.host = host;
  }

  /** Starts what is needed, if nothing runs. */
  request(): void {
    if (this.current !== null || this.pausedBy > 0) return;
    const plan = this.plan();
    if (plan === null) {
      for (const wake of this.waiters.splice(0)) wake();
      return;
    }
    this.start(plan);
  }

  /** What would run now: recovery before resync. Null: nothing is needed, or nothing can be done. */
  private plan(): Plan | null {
    const { devices, regions } = this.host;
    if (this.host.mayNotSync() || this.failedAt === devices.generation) return null;
    const targets = devices.rebuilding();
    if (targets.length > 0) {
      const from = targets.map(({ recovery }) =>
        recovery === null || recovery.byBitmap ? regions.count : regions.at(recovery.offset),
      );
      const markedOnlyBelow = Math.min(...from);
      return {
        job: { action: "recovery", requested: false, markedOnlyBelow, suspectOnly: false },
        targets,
      };
    }
    if (devices.inSync.length < 2) return null;
    // What an absent member lacks stays marked for it; what in-sync members may differ in does not.
    const suspectOnly = devices.absent > 0;
    const needed = suspectOnly ? regions.anySuspect() : regions.counts().needSync > 0;
    if (!needed) return null;
    return {
      job: { action: "resync", requested: false, markedOnlyBelow: regions.count, suspectOnly },
      targets,
    };
  }

  private start(plan: Plan): void {
    const { clock, regions, logger, name } = this.host;
    const control = new SyncControl();
    const progress = new SyncProgress(plan.job.action, control, regions, clock);
    logger.info({ array: name, action: plan.job.action }, "sync starts");
    const ended = this.run(plan, control, progress).finally(() => {
      this.current = null;
      this.request();
    });
    this.current = { ...plan, control, progress, ended };
    // A sync thread that broke an invariant must take the process with it.
    ended.catch((error: unknown) => {
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  private async run(plan: Plan, control: SyncControl, progress: SyncProgress): Promise<void> {
    const { host } = this;
    this.assignRoles(control, plan);
    const stopTimers = this.startTimers(plan, control, progress);
    let outcome: SyncOutcome;
    try {
      outcome = await this.drive(plan, control);
    } finally {
      await stopTimers();
    }
    outcome = await this.finish(plan, control, outcome);
    if (outcome.result === "failed") {
      host.logger.error({ array: host.name, reason: outcome.failure }, "sync failed");
      this.failedAt = host.devices.generation;
    }
    this.lastSync = progress.end(outcome.result);
    host.logger.info({ array: host.name, ...this.lastSync }, "sync ended");
  }

  /** Makes durable what the run has done; waits for space, as the run itself does. */
  private async finish(
    plan: Plan,
    control: SyncControl,
    outcome: SyncOutcome,
  ): Promise<SyncOutcome> {
    const { host } = this;
    const recovered = plan.job.action === "recovery" && outcome.result === "done";
    for (;;) {
      try {
        if (recovered) await host.recovered(plan.targets);
        else await host.checkpoint(plan.job.action, plan.targets, control.cursor);
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

  private async drive(plan: Plan, control: SyncControl): Promise<SyncOutcome> {
    const { host } = this;
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

  private assignRoles(control: SyncControl, plan: Plan): void {
    for (const [rank, device] of this.host.sources().entries()) {
      control.setSlot(device.slot ?? 0, SyncRole.InSync, rank);
    }
    for (const device of plan.targets) control.setSlot(device.slot ?? 0, SyncRole.Target, 0);
  }

  /** A device takes no part any more: the run goes on without it. */
  lost(device: Device): void {
    if (device.slot !== null) this.current?.control.setSlot(device.slot, SyncRole.None, 0);
  }

  /** What runs ends soon; what is needed then starts anew. */
  interrupt(): void {
    this.current?.control.stop();
  }

  /** The samples of speed, the limit, and the checkpoints; the result ends them. */
  private startTimers(
    plan: Plan,
    control: SyncControl,
    progress: SyncProgress,
  ): () => Promise<void> {
    const { host } = this;
    let cancel = (): void => undefined;
    let checkpoint: Promise<void> | null = null;
    let lastCheckpoint = host.clock.now();
    let requests = host.requests();
    const tick = (): void => {
      const busy = host.requests() !== requests;
      requests = host.requests();
      const { syncSpeedMin, syncSpeedMax, daemonSleepMs } = host.settings;
      const limits = [syncSpeedMax, busy ? syncSpeedMin : 0].filter((limit) => limit > 0);
      control.limit = limits.length > 0 ? Math.min(...limits) : 0;
      progress.sample();
      if (checkpoint === null && host.clock.now() - lastCheckpoint >= daemonSleepMs) {
        lastCheckpoint = host.clock.now();
        checkpoint = host
          .checkpoint(plan.job.action, plan.targets, control.cursor)
          .catch((error: unknown) => host.logger.warn({ err: error }, "checkpoint failed"))
          .finally(() => (checkpoint = null));
      }
      cancel = host.clock.after(TICK_MS, tick);
    };
    control.limit = host.settings.syncSpeedMax;
    cancel = host.clock.after(TICK_MS, tick);
    return async () => {
      cancel();
      await checkpoint;
    };
  }

  /** Stops what runs and lets nothing start until the returned function is called. */
  async pause(): Promise<() => void> {
    this.pausedBy++;
    this.current?.control.stop();
    await this.current?.ended;
    return () => {
      this.pausedBy--;
      this.request();
    };
  }

  status(): SyncStatus | null {
    if (this.current !== null) return this.current.progress.status();
    const plan = this.plan();
    if (plan === null) return null;
    const { action } = plan.job;
    return new SyncProgress(
      action,
      new SyncControl(),
      this.host.regions,
      this.host.clock,
    ).pending();
  }

  /** Resolves when nothing runs and nothing could; rejects if the last sync failed. */
  async wait(): Promise<void> {
    while (this.current !== null || this.pausedBy > 0 || this.plan() !== null) {
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
    if (this.lastSync?.result === "failed") {
      throw new NbdRaidError("sync-failed", `${this.host.name}: the last sync failed`);
    }
  }

  /** Regions need a sync again, or a device is new: a failure of before does not count. */
  renew(): void {
    this.failedAt = null;
    this.request();
  }
}
