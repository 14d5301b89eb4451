import type { WriteBitmap } from "../bitmap/bitmap.ts";
import { NbdRaidError } from "../errors.ts";
import type { MemberError } from "../member/member.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import type { LegFailure, Level, TrackedRange } from "../raid/level.ts";
import { clientError } from "./client-error.ts";
import type { Device } from "./devices.ts";
import type { Failures } from "./failures.ts";
import type { MetadataWriter } from "./metadata-writer.ts";
import { RangeLocks } from "./range-locks.ts";
import { SyncGate } from "./sync-gate.ts";
import { Turns } from "./turns.ts";
import { writtenParts } from "./written-parts.ts";

/** So many parts of a trim are begun in one turn of the event loop. */
const PARTS_PER_TURN = 256;

export interface WritePathParts {
  /** The array's. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Superblocks on disk say that writes may be under way. */
  readonly active: boolean;
  readonly bitmap: WriteBitmap;
  readonly metadata: MetadataWriter;
  readonly failures: Failures;
  readonly geometry: AnyGeometry;
  readonly level: Level<Device>;
  /** A slot is not in sync. */
  readonly degraded: () => boolean;
  /** Regions need a sync: a write found no space, or no member took it. */
  readonly syncNeeded: () => void;
  /** Superblocks say that writers may be at work. */
  readonly activated: () => void;
  /** A member that is rebuilt had no space for a write: the rebuild is not done with its region. */
  readonly targetMissed: () => void;
}

/**
 * Whatever changes an array's bytes, in the order that durability asks for: superblocks say dirty,
 * regions are durably marked, data goes out, failures are recorded, FUA is synced, and only then
 * comes the answer. A write that needs to wait for none of it is done at once (`tryWrite`).
 */
export class WritePath {
  /** Changes taken so far. */
  requests = 0;
  /** Superblocks on disk say that writes may be under way. */
  private active: boolean;
  private activating: Promise<void> | null = null;
  private readonly parts: WritePathParts;
  private readonly locks = new RangeLocks();
  /** A change that was begun inline and goes on, for the `write` that follows at once. */
  private begun: { readonly from: Uint8Array; readonly done: Promise<void> } | null = null;
  private readonly turns = new Turns();
  private readonly gate = new SyncGate(() => this.syncMembers());
  /** Changes answered so far, and how many of them a finished sync of the members covers. */
  private changes = 1;
  private syncedChanges = 0;
  private underWay = 0;
  private stopping = false;
  private drained: (() => void) | null = null;

  constructor(parts: WritePathParts) {
    this.parts = parts;
    this.active = parts.active;
  }

  get isActive(): boolean {
    return this.active;
  }

  get isStopping(): boolean {
    return this.stopping;
  }

  tryWrite(from: Uint8Array, offset: number, fua: boolean): boolean {
    const { bitmap, level, failures } = this.parts;
    const first = this.firstRegion(offset, from.length);
    const last = this.lastRegion(offset, from.length);
    const inline =
      this.isMarked &&
      !this.stopping &&
      !this.parts.readOnly &&
      failures.clear &&
      !this.locks.isBusy(offset, from.length) &&
      level.writesInline(offset, from.length) &&
      (!fua || level.syncsInline);
    if (!inline || !bitmap.tryBegin(first, last)) return false;
    this.requests++;
    const outcome = level.tryWrite(from, offset);
    if (typeof outcome !== "boolean") {
      this.goOn(from, offset, outcome);
      return false;
    }
    this.changes++;
    bitmap.end(first, last);
    return outcome;
  }

  /** What was begun inline has to be waited for; the `write` that follows does that. */
  private goOn(
    from: Uint8Array,
    offset: number,
    outcome: Promise<readonly LegFailure<Device>[]>,
  ): void {
    const first = this.firstRegion(offset, from.length);
    const last = this.lastRegion(offset, from.length);
    const release = this.locks.hold(offset, offset + from.length);
    const done = outcome
      .then((failures) => this.judge(failures, first, last))
      .finally(() => {
        this.changes++;
        this.parts.bitmap.end(first, last);
        release();
      });
    this.begun = { from, done };
  }

  async write(from: Uint8Array, offset: number, fua: boolean): Promise<void> {
    // A FUA write comes here for its sync; its data may still be written at once.
    if (fua && this.begun === null && this.tryWrite(from, offset, false)) return this.flush();
    const { begun } = this;
    if (begun?.from === from) {
      this.begun = null;
      return this.answer(fua, () => begun.done);
    }
    await this.change(offset, from.length, fua, () => this.parts.level.write(from, offset));
  }

  async trim(offset: number, length: number, fua: boolean): Promise<void> {
    const { bitmap, geometry, level } = this.parts;
    let parts = 0;
    for (const part of this.writtenParts(offset, length)) {
      // Members may do their part at once, so that no change waits for anything.
      if (part === null || ++parts % PARTS_PER_TURN === 0) await this.turns.next();
      if (part === null) continue;
      const [start, end] = part;
      await this.change(start, end - start, false, async () => {
        const failures = await level.punch(start, end - start);
        const whole = wholeTracked(geometry, start, end);
        if (failures.length === 0) bitmap.noteTrimmed(whole.start, whole.end - whole.start);
        return failures;
      });
    }
    if (fua) await this.flush();
  }

  zero(offset: number, length: number, allocate: boolean, fua: boolean): Promise<void> {
    const { level } = this.parts;
    return this.change(offset, length, fua, () =>
      allocate ? level.zero(offset, length) : level.punch(offset, length),
    );
  }

  async flush(): Promise<void> {
    if (this.parts.readOnly) return;
    this.refuse();
    if (!this.isSynced) await this.gate.request();
    await this.parts.failures.settled();
  }

  /** Runs `work` while no change and no sync touches the range. */
  async exclusively<T>(offset: number, length: number, work: () => Promise<T>): Promise<T> {
    const { regions } = this.parts.bitmap;
    const release = await this.locks.acquire(offset, length);
    try {
      const [first, last] = [this.firstRegion(offset, length), this.lastRegion(offset, length)];
      await regions.enter(first, last);
      try {
        return await work();
      } finally {
        regions.leave(first, last);
      }
    } finally {
      release();
    }
  }

  /** One change: `operation` does it on the members, while the range is locked and marked. */
  async change(
    offset: number,
    length: number,
    fua: boolean,
    operation: () => Promise<LegFailure<Device>[]>,
  ): Promise<void> {
    this.refuse();
    this.requests++;
    await this.answer(fua, async () => {
      const release = await this.locks.acquire(offset, length);
      try {
        await this.changeLocked(offset, length, operation);
      } finally {
        release();
      }
    });
  }

  /** A change is answered when it is done, its failures are recorded and FUA is synced. */
  private async answer(fua: boolean, change: () => Promise<void>): Promise<void> {
    this.underWay++;
    try {
      await change();
      if (fua) await this.gate.request();
      await this.parts.failures.settled();
    } catch (error) {
      throw clientError(error);
    } finally {
      this.underWay--;
      if (this.underWay === 0) this.drained?.();
    }
  }

  private async changeLocked(
    offset: number,
    length: number,
    operation: () => Promise<LegFailure<Device>[]>,
  ): Promise<void> {
    const { bitmap } = this.parts;
    await this.activate();
    const first = this.firstRegion(offset, length);
    const last = this.lastRegion(offset, length);
    await bitmap.begin(first, last);
    try {
      this.judge(await operation(), first, last);
    } finally {
      this.changes++;
      bitmap.end(first, last);
    }
  }

  /** What failed writes mean for members, regions and the client. */
  private judge(failures: readonly LegFailure<Device>[], first: number, last: number): void {
    const error = this.verdict(failures, [[first, last]]);
    if (error !== null) throw error;
  }

  /**
   * Part of a change has ended without these: members and regions are judged at once, for other
   * changes go on there. What the client is told is judged when the change ends.
   */
  partFailed(failures: readonly LegFailure<Device>[], changed: readonly TrackedRange[]): void {
    const { regions } = this.parts.bitmap;
    const touched = changed.map(({ start, end }): [number, number] => {
      return [regions.at(start), regions.at(end - 1)];
    });
    this.verdict(failures, touched);
  }

  /** The error that the client gets, or null: the level bears it. Regions are [first, last]. */
  private verdict(
    failures: readonly LegFailure<Device>[],
    regions: readonly (readonly [number, number])[],
  ): MemberError | null {
    const current = failures.filter(({ leg }) => leg.state !== "faulty");
    if (current.length === 0) return null;
    const noSpace = current.filter(({ error }) => error.noSpace);
    const broken = current.filter(({ error }) => !error.noSpace);
    const survived = broken.length === 0 || this.parts.failures.writesFailed(broken);
    if (survived && noSpace.length === 0) return null;
    if (survived && noSpace.every(({ leg }) => leg.state === "rebuilding")) {
      // Members in sync fit together: only what is rebuilt lacks this.
      this.parts.targetMissed();
    } else if (this.parts.geometry.redundant) {
      // A sync that failed here would fail again: once more only for what it did not know of.
      const found = regions.map(([first, last]) => this.parts.bitmap.needsSync(first, last));
      if (found.includes(true)) this.parts.syncNeeded();
    }
    return (noSpace[0] ?? broken[0])!.error;
  }

  /** Superblocks say dirty, durably, before the first write; missing members are recorded too. */
  private async activate(): Promise<void> {
    const { failures, metadata } = this.parts;
    while (!this.isMarked) {
      this.activating ??= metadata
        .update(0)
        .then(() => {
          this.active = true;
          this.parts.activated();
        })
        .finally(() => {
          this.activating = null;
        });
      await this.activating;
    }
    if (!failures.clear) await failures.settled();
  }

  /** Parts of a range to trim. */
  private writtenParts(offset: number, length: number): Iterable<readonly [number, number] | null> {
    if (!this.parts.metadata.knownZero) return [[offset, offset + length]];
    return writtenParts(this.parts.bitmap.regions, this.parts.geometry, offset, length);
  }

  private firstRegion(offset: number, length: number): number {
    const { bitmap, geometry } = this.parts;
    return bitmap.regions.at(geometry.trackedStart(offset, length));
  }

  private lastRegion(offset: number, length: number): number {
    const { bitmap, geometry } = this.parts;
    return bitmap.regions.at(geometry.trackedEnd(offset, length) - 1);
  }

  /** Data may go out: superblocks say so, or there is nothing that a crash could part. */
  private get isMarked(): boolean {
    return this.active || !this.parts.geometry.redundant;
  }

  // ---- syncs of the members

  /** Resolves when a sync of the members that began after the call has covered every change. */
  sync(): Promise<void> {
    return this.gate.request();
  }

  /** True if a finished sync covers every change that was answered. */
  private get isSynced(): boolean {
    return this.syncedChanges === this.changes;
  }

  private async syncMembers(): Promise<void> {
    const { level, failures } = this.parts;
    const { changes } = this;
    const failed = await level.sync();
    failures.syncsFailed(failed.filter(({ leg }) => leg.state !== "faulty"));
    if (failures.failed !== null) throw failures.failed;
    this.syncedChanges = changes;
  }

  /**
   * Nobody writes: once everything is synced, the superblock may say so. What is marked while a
   * member is absent, that member lacks; those that are here fit together all the same, and after a
   * crash nothing of it is in doubt (md's safe mode).
   */
  async markCleanIfIdle(): Promise<void> {
    const { bitmap, degraded, failures, metadata } = this.parts;
    if (!this.active || this.underWay > 0 || !failures.clear) return;
    // What was written before the start may not be durable, though nothing is Dirty.
    if (!this.isSynced) await this.gate.request();
    const { dirty, needSync, syncing } = bitmap.regions.counts();
    if (!this.active || this.underWay > 0 || this.stopping) return;
    if (!this.isSynced || bitmap.regions.anySuspect() || !failures.clear) return;
    if (!degraded() && dirty + needSync + syncing > 0) return;
    this.active = false;
    this.activating ??= metadata.update("clean").finally(() => {
      this.activating = null;
    });
    await this.activating;
  }

  // ---- refusals

  /** Throws if no change can be taken: shutting down, read-only, failed. */
  refuse(): void {
    const { name, readOnly, failures } = this.parts;
    this.refuseIfStopping();
    if (readOnly) throw new NbdRaidError("read-only", `${name} is read-only`);
    if (failures.failed !== null) throw failures.failed;
  }

  refuseIfStopping(): void {
    const { name } = this.parts;
    if (this.stopping) throw new NbdRaidError("shutting-down", `${name} is shutting down`);
  }

  /** Takes no more changes; resolves when those under way are answered. */
  async stop(): Promise<void> {
    this.stopping = true;
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.drained = resolve));
  }
}

/** The tracked bytes that a range of the array covers whole, on every member that has a part. */
function wholeTracked(geometry: AnyGeometry, start: number, end: number) {
  if (geometry.kind !== "parity") return { start, end };
  const { chunkBytes, stripeBytes } = geometry;
  const first = Math.ceil(start / stripeBytes) * chunkBytes;
  return { start: first, end: Math.max(first, Math.floor(end / stripeBytes) * chunkBytes) };
}
