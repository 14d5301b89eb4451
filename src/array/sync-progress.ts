import type { Regions } from "../bitmap/regions.ts";
import type { Clock } from "../clock.ts";
import type { SyncControl } from "../sync/control.ts";
import type { SyncKind, SyncOutcome } from "../sync/engine.ts";
import type { LastSync, SyncStatus } from "./status.ts";

/** md measures speed over about 30 s, so that the ETA follows what happens now. */
const WINDOW_MS = 30_000;
const SAMPLE_MS = 1_000;

interface Sample {
  readonly at: number;
  readonly workedBytes: number;
}

/** How far a sync is, how fast, and when it will be done. Bytes are tracked bytes. */
export class SyncProgress {
  private readonly action: SyncKind;
  private readonly control: SyncControl;
  private readonly regions: Regions;
  private readonly clock: Clock;
  private readonly startedAt: number;
  private samples: Sample[];

  constructor(action: SyncKind, control: SyncControl, regions: Regions, clock: Clock) {
    this.action = action;
    this.control = control;
    this.regions = regions;
    this.clock = clock;
    this.startedAt = Math.floor(clock.wallTime() / 1000);
    this.samples = [];
    this.resume();
  }

  /** Starts to measure the speed: nothing was done for a while. */
  resume(): void {
    this.samples = [{ at: this.clock.now(), workedBytes: this.bytes(this.control.copied) }];
  }

  sample(): void {
    const now = this.clock.now();
    const last = this.samples.at(-1);
    if (last !== undefined && now - last.at < SAMPLE_MS) return;
    this.samples.push({ at: now, workedBytes: this.bytes(this.control.copied) });
    while (this.samples.length > 2 && now - this.samples[0]!.at > WINDOW_MS) this.samples.shift();
  }

  status(): SyncStatus {
    const { control } = this;
    const totalBytes = this.regions.trackedBytes;
    const doneBytes = this.bytes(control.cursor);
    const bytesPerSecond = Math.round(this.speed());
    return {
      action: this.action,
      pending: false,
      waitingFor: control.waitsForSpace ? "free space behind a member" : null,
      doneBytes,
      totalBytes,
      skippedBytes: this.bytes(control.skipped),
      bytesPerSecond,
      etaSeconds: bytesPerSecond > 0 ? Math.ceil((totalBytes - doneBytes) / bytesPerSecond) : null,
    };
  }

  pending(waitingFor: string | null): SyncStatus {
    return { ...this.status(), pending: true, waitingFor, bytesPerSecond: 0, etaSeconds: null };
  }

  end({ result, failure }: SyncOutcome): LastSync {
    return {
      action: this.action,
      startedAt: this.startedAt,
      finishedAt: Math.floor(this.clock.wallTime() / 1000),
      result,
      failure: result === "failed" ? failure : null,
      readBytes: this.control.readBytes,
      writtenBytes: this.control.writtenBytes,
      skippedBytes: this.bytes(this.control.skipped),
    };
  }

  private speed(): number {
    const first = this.samples[0]!;
    const elapsedMs = this.clock.now() - first.at;
    const worked = this.bytes(this.control.copied) - first.workedBytes;
    return elapsedMs > 0 ? (worked * 1000) / elapsedMs : 0;
  }

  private bytes(regions: number): number {
    return Math.min(regions * this.regions.regionBytes, this.regions.trackedBytes);
  }
}
