import { NbdRaidError } from "../errors.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import { geometryOf } from "../raid/geometry/of.ts";
import { SyncControl, SyncRole } from "../sync/control.ts";
import type { SyncOutcome } from "../sync/engine.ts";
import type { Device } from "./devices.ts";
import { neededSync, type SyncPlan } from "./sync-plan.ts";
import { SyncProgress } from "./sync-progress.ts";
import { runSync, type SyncHost } from "./sync-run.ts";
import type { AskedAction, LastSync, SyncStatus } from "./status.ts";

/** What a user asked for: whatever interrupts it, it goes on where it was, until it has ended. */
interface Asked {
  readonly action: AskedAction;
  readonly control: SyncControl;
  readonly progress: SyncProgress;
}

interface Plan extends SyncPlan {
  /** Null: it is needed. */
  readonly asked: Asked | null;
}

interface Run extends Plan {
  readonly control: SyncControl;
  readonly progress: SyncProgress;
  readonly ended: Promise<void>;
}

/** Why nothing starts, in words. */
const FROZEN = "syncs are frozen, and nbd-raid idle lets them start";

/**
 * Decides which sync runs, runs it, and knows how the last one ended. One at a time: what is needed
 * comes before what a user asked for, and interrupts it.
 */
export class Syncs {
  lastSync: LastSync | null = null;
  private readonly host: SyncHost;
  private readonly geometry: AnyGeometry;
  private current: Run | null = null;
  private asked: Asked | null = null;
  private frozen = false;
  private pausedBy = 0;
  /** After a failure nothing starts by itself until the devices or the regions changed. */
  private failedAt: number | null = null;
  /** What a spare waits for that would be rebuilt, in words. */
  private spareWaits: string | null = null;
  /** Of the last sync that compared anything. */
  private mismatchBytes = 0;
  private readonly waiters: (() => void)[] = [];

  constructor(host: SyncHost) {
    this.host = host;
    this.geometry = geometryOf(host.shape);
  }

  /** Starts what is due, if nothing runs that comes before it. */
  request(): void {
    if (this.current !== null) {
      const { asked, control } = this.current;
      if (asked !== null && !control.stopping && this.needed() !== null) control.stop();
      return;
    }
    if (this.pausedBy > 0) return;
    const plan = this.plan();
    if (plan === null) {
      for (const wake of this.waiters.splice(0)) wake();
    } else if (!this.frozen) {
      this.start(plan);
    }
  }

  /** What would run now. Null: nothing is needed or asked for, or nothing can be done. */
  private plan(): Plan | null {
    if (this.host.mayNotSync()) return null;
    const needed = this.needed();
    if (needed !== null) return { ...needed, asked: null };
    const { asked } = this;
    if (asked === null) return null;
    const everything = { requested: true, markedOnlyBelow: 0, suspectOnly: false };
    return { job: { action: asked.action, ...everything }, targets: [], asked };
  }

  private needed(): SyncPlan | null {
    const { devices, regions } = this.host;
    if (this.failedAt === devices.generation) return null;
    return neededSync(this.geometry, devices, regions);
  }

  private start(plan: Plan): void {
    const { clock, regions, logger, name } = this.host;
    const { action } = plan.job;
    const control = plan.asked?.control ?? new SyncControl();
    const progress = plan.asked?.progress ?? new SyncProgress(action, control, regions, clock);
    control.resume();
    progress.resume();
    logger.info({ array: name, action }, "sync starts");
    if (action === "repair") this.warnOfAcceptance();
    const ended = runSync(this.host, plan, control, progress)
      .then((outcome) => this.judge(plan, control, progress, outcome))
      .finally(() => {
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

  private warnOfAcceptance(): void {
    const { devices, logger, name } = this.host;
    if (this.geometry.kind !== "parity" || devices.degraded === 0) return;
    const what = "what a missing member held is taken from parity, also where a crash tore a write";
    logger.warn({ array: name }, `repair of a degraded array: ${what}`);
  }

  /** What the end of a run means for what comes next. */
  private judge(
    { job, asked }: Plan,
    control: SyncControl,
    progress: SyncProgress,
    outcome: SyncOutcome,
  ): void {
    const { result, failure } = outcome;
    const { devices, logger, name } = this.host;
    if (job.action !== "recovery") this.mismatchBytes = control.mismatchBytes;
    if (result === "stopped" && asked !== null && asked === this.asked) {
      logger.info({ array: name, action: job.action }, "sync interrupted");
      return;
    }
    if (result === "failed") {
      logger.error({ array: name, reason: failure }, "sync failed");
    }
    if (asked === null) {
      if (result === "failed") this.failedAt = devices.generation;
    } else {
      if (asked === this.asked) this.asked = null;
      // What could not be synced before may be consistent now.
      if (job.action !== "check") this.failedAt = null;
    }
    this.lastSync = progress.end(outcome);
    logger.info({ array: name, ...this.lastSync }, "sync ended");
  }

  /** A device takes no part any more: the run goes on without it. */
  lost(device: Device): void {
    if (device.slot !== null) this.current?.control.setSlot(device.slot, SyncRole.None, 0);
  }

  /** What runs ends soon; what is needed then starts anew. */
  interrupt(): void {
    this.current?.control.stop();
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

  /** A recovery would run if a spare could take the slot: why it cannot, in words. Null: it can. */
  recoveryWaits(reason: string | null): void {
    if (this.spareWaits === reason) return;
    this.spareWaits = reason;
    this.request();
  }

  status(): SyncStatus | null {
    if (this.current !== null) return this.current.progress.status();
    const plan = this.plan();
    const { regions, clock } = this.host;
    if (plan === null) {
      if (this.spareWaits === null) return null;
      const progress = new SyncProgress("recovery", new SyncControl(), regions, clock);
      return progress.pending(this.spareWaits);
    }
    const progress =
      plan.asked?.progress ?? new SyncProgress(plan.job.action, new SyncControl(), regions, clock);
    return progress.pending(this.frozen ? FROZEN : null);
  }

  /** Sectors that the last check, repair or resync found not to be as they should (mismatch_cnt). */
  get mismatchSectors(): number {
    const current = this.current?.job.action === "recovery" ? null : this.current;
    return Math.ceil((current?.control.mismatchBytes ?? this.mismatchBytes) / 512);
  }

  // ---- what users ask for

  /** Runs when nothing needed does. Ends what `freeze` began. Throws not-supported, sync-busy. */
  ask(action: AskedAction): void {
    this.refuseWithoutRedundancy();
    const { asked, host } = this;
    if (asked !== null && asked.action !== action) {
      throw new NbdRaidError("sync-busy", `${host.name}: a ${asked.action} is under way`);
    }
    this.frozen = false;
    if (asked === null) {
      const control = new SyncControl();
      const progress = new SyncProgress(action, control, host.regions, host.clock);
      this.asked = { action, control, progress };
    }
    this.request();
  }

  /** What was asked for is forgotten; what is needed starts anew, also after a failure. */
  async idle(): Promise<void> {
    this.refuseWithoutRedundancy();
    this.frozen = false;
    this.failedAt = null;
    await this.forget();
  }

  /** The same, but nothing starts until `ask` or `idle`. */
  async freeze(): Promise<void> {
    this.refuseWithoutRedundancy();
    this.frozen = true;
    await this.forget();
  }

  private async forget(): Promise<void> {
    this.asked = null;
    const goOn = await this.pause();
    goOn();
  }

  private refuseWithoutRedundancy(): void {
    if (this.geometry.redundant) return;
    const message = `${this.host.name} has no redundancy, and nothing to sync`;
    throw new NbdRaidError("not-supported", message);
  }

  /** Resolves when nothing runs and nothing could; rejects if the last sync failed. */
  async wait(): Promise<void> {
    while (this.isPending) {
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
    if (this.lastSync?.result === "failed") {
      const { action, failure } = this.lastSync;
      const message = `${this.host.name}: the last ${action} failed: ${failure ?? "unknown"}`;
      throw new NbdRaidError("sync-failed", message);
    }
  }

  private get isPending(): boolean {
    if (this.current !== null || this.pausedBy > 0) return true;
    return this.plan() !== null || this.spareWaits !== null;
  }

  /** Regions need a sync again, or a device is new: a failure of before does not count. */
  renew(): void {
    this.failedAt = null;
    this.request();
  }
}
