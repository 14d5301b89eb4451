import type { Logger } from "pino";
import { WriteBitmap } from "../bitmap/bitmap.ts";
import { Daemon } from "../bitmap/daemon.ts";
import { REGIONS_PER_BLOCK, type Regions } from "../bitmap/regions.ts";
import type { Conditions } from "../bitmap/transitions.ts";
import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { BlockDevice } from "../nbd/block-device.ts";
import { type LegFailure, Mirror, type UnreadBlock } from "../raid/mirror.ts";
import type { SyncFailure, SyncJob } from "../sync/engine.ts";
import type { ArrayDescription } from "./description.ts";
import type { Device, Devices } from "./devices.ts";
import { Failures } from "./failures.ts";
import { Membership, type MembershipParts } from "./membership.ts";
import { MetadataWriter } from "./metadata-writer.ts";
import type { Superblock } from "../metadata/superblock.ts";
import { RangeLocks } from "./range-locks.ts";
import { describeArray } from "./report.ts";
import type { ArrayControl, ArraySettings, ArrayStatus } from "./status.ts";
import { SyncGate } from "./sync-gate.ts";
import { Syncs } from "./syncs.ts";

/** All that a running array is made of; see `openArrays` and the simulation for who makes it. */
export interface ArrayParts {
  readonly description: ArrayDescription;
  readonly devices: Devices;
  readonly regions: Regions;
  /** The superblock that speaks for the array. */
  readonly freshest: Superblock;
  readonly eventsCleared: number;
  readonly knownZero: boolean;
  /** The bitmap superblocks on disk are older than the array: an update must precede writes. */
  readonly bitmapStale: boolean;
  readonly readOnly: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  /** For members that are added while the array runs. */
  readonly openMember: MembershipParts["openMember"];
  readonly identify: MembershipParts["identify"];
  readonly newUuid: MembershipParts["newUuid"];
}

/**
 * A running array: takes requests, routes them to the level, and owns the policy of what happens
 * when members fail. The invariants are in docs/internals/durability.md.
 */
export class RaidArray implements BlockDevice, ArrayControl {
  readonly about: ArrayDescription;
  readonly readOnly: boolean;
  readonly settings: ArraySettings = {
    syncSpeedMin: 200 * 1024 * 1024,
    syncSpeedMax: 0,
    daemonSleepMs: 30_000,
    barrierIdleMs: 5_000,
  };
  readonly devices: Devices;
  readonly regions: Regions;
  readonly bitmap: WriteBitmap;
  readonly daemon: Daemon;
  readonly syncs: Syncs;
  readonly failures: Failures;
  readonly metadata: MetadataWriter;
  private readonly logger: Logger;
  private readonly mirror: Mirror<Device>;
  private readonly membership: Membership;
  private readonly locks = new RangeLocks();
  private readonly gate = new SyncGate(() => this.syncMembers());
  private readonly repairs = new Set<Promise<void>>();
  /** Superblocks on disk say that writes may be under way. */
  private active: boolean;
  private activating: Promise<void> | null = null;
  /** Changes answered so far, and how many of them a finished sync of the members covers. */
  private changes = 1;
  private syncedChanges = 0;
  /** Requests taken so far; writes among them that are under way. */
  private requestCount = 0;
  private writesUnderWay = 0;
  private started = false;
  private stopping = false;
  private drained: (() => void) | null = null;

  constructor(parts: ArrayParts) {
    const { description, devices, regions, clock, logger } = parts;
    this.about = description;
    this.readOnly = parts.readOnly;
    this.devices = devices;
    this.regions = regions;
    this.logger = logger;
    this.metadata = new MetadataWriter(
      description,
      devices,
      parts.freshest,
      parts,
      { metadataFailed: (device, error) => this.failures.metadataFailed(device, error) },
      clock,
    );
    this.failures = new Failures({
      name: description.name,
      devices,
      logger,
      clock,
      readOnly: parts.readOnly,
      record: () => this.metadata.update(),
      failureUnrecorded: () => this.metadata.failureUnrecorded(),
      ejected: (device) => this.ejected(device),
    });
    this.bitmap = new WriteBitmap(regions, {
      store:
        description.bitmap === "none"
          ? null
          : { writeBlocks: (first, bytes) => this.writeBitmapBlocks(first, bytes) },
      conditions: () => this.conditions(),
      dirtied: () => this.daemon.poke(),
    });
    this.daemon = new Daemon(
      this.bitmap,
      {
        mayClean: () => this.devices.degraded === 0 && this.failures.clear,
        syncMembers: () => this.syncForDaemon(),
        recordEventsCleared: () => this.metadata.recordEventsCleared(),
        idle: () => this.markCleanIfIdle(),
        failed: (error) => logger.warn({ array: this.name, err: error }, "bitmap daemon failed"),
      },
      clock,
    );
    this.mirror = new Mirror<Device>(devices);
    this.syncs = new Syncs({
      name: description.name,
      level: description.level,
      devices,
      regions,
      settings: this.settings,
      clock,
      logger,
      mayNotSync: () => this.stopping || this.readOnly || this.failures.failed !== null,
      sources: () => this.mirror.sources(),
      requests: () => this.requestCount,
      failed: (device, failure) => this.failedInSync(device, failure),
      checkpoint: (action, targets, end) => this.checkpoint(action, targets, end),
      recovered: (targets) => this.recovered(targets),
    });
    this.membership = new Membership({
      description,
      devices,
      bitmap: this.bitmap,
      metadata: this.metadata,
      syncs: this.syncs,
      failures: this.failures,
      logger,
      openMember: parts.openMember,
      identify: parts.identify,
      newUuid: parts.newUuid,
    });
    // A resync that md stopped half-way left an offset: that is not yet the mark of a writer.
    this.active = parts.freshest.resyncOffsetSectors === 0 && !parts.bitmapStale;
  }

  get name(): string {
    return this.about.name;
  }

  get sizeBytes(): number {
    return this.about.sizeBytes;
  }

  /** One line for people who list exports. */
  get description(): string {
    return `raid${this.about.level} of ${this.about.raidDisks} members`;
  }

  /** Before the first request: marks are on every member, and the syncs that load calls for run. */
  async start(): Promise<void> {
    if (this.readOnly) return;
    this.started = true;
    await this.bitmap.flush();
    this.syncs.request();
    this.membership.fillSlots();
    if (this.active) this.daemon.poke();
  }

  // ---- reads

  tryRead(into: Uint8Array, offset: number): boolean {
    if (this.stopping) return false;
    this.requestCount++;
    const first = this.regions.at(offset);
    const last = this.regions.at(offset + into.length - 1);
    if (this.metadata.knownZero && this.regions.everyUnwritten(first, last)) {
      into.fill(0);
      return true;
    }
    return this.mirror.tryRead(into, offset, this.regions.anyPinned(first, last));
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    this.refuseIfStopping();
    const first = this.regions.at(offset);
    const last = this.regions.at(offset + into.length - 1);
    const pinned = this.regions.anyPinned(first, last);
    let unread: readonly UnreadBlock<Device>[];
    try {
      unread = await this.mirror.read(into, offset, pinned);
    } catch (error) {
      throw this.clientError(error);
    }
    if (unread.length > 0) this.repairLater(unread);
  }

  async cache(offset: number, length: number): Promise<void> {
    if (!this.stopping) await this.mirror.prefetch(offset, length);
  }

  // ---- writes

  tryWrite(from: Uint8Array, offset: number, fua: boolean): boolean {
    const first = this.regions.at(offset);
    const last = this.regions.at(offset + from.length - 1);
    const inline =
      this.active &&
      !this.stopping &&
      !this.readOnly &&
      this.failures.clear &&
      !this.locks.isBusy(offset, from.length) &&
      this.mirror.writesInline(from.length) &&
      (!fua || this.mirror.syncsInline);
    if (!inline || !this.bitmap.tryBegin(first, last)) return false;
    this.requestCount++;
    const written = this.mirror.tryWrite(from, offset);
    this.changes++;
    this.bitmap.end(first, last);
    return written;
  }

  async write(from: Uint8Array, offset: number, fua: boolean): Promise<void> {
    // A FUA write comes here for its sync; its data may still be written at once.
    if (fua && this.tryWrite(from, offset, false)) return this.flush();
    await this.change(offset, from.length, fua, () => this.mirror.write(from, offset));
  }

  async trim(offset: number, length: number, fua: boolean): Promise<void> {
    for (const [start, end] of this.writtenParts(offset, length)) {
      await this.change(start, end - start, false, async () => {
        const failures = await this.mirror.punch(start, end - start);
        if (failures.length === 0) this.bitmap.noteTrimmed(start, end - start);
        return failures;
      });
    }
    if (fua) await this.flush();
  }

  zero(offset: number, length: number, allocate: boolean, fua: boolean): Promise<void> {
    return this.change(offset, length, fua, () =>
      allocate ? this.mirror.zero(offset, length) : this.mirror.punch(offset, length),
    );
  }

  async flush(): Promise<void> {
    if (this.readOnly) return;
    this.refuseChange();
    if (this.syncedChanges !== this.changes) await this.gate.request();
    await this.settled();
  }

  /**
   * One change of the array's bytes, in the order that durability asks for: the superblock says
   * dirty, regions are durably marked, data goes out, failures are recorded, FUA is synced.
   */
  private async change(
    offset: number,
    length: number,
    fua: boolean,
    operation: () => Promise<LegFailure<Device>[]>,
  ): Promise<void> {
    this.refuseChange();
    this.requestCount++;
    this.writesUnderWay++;
    try {
      const release = await this.locks.acquire(offset, length);
      try {
        await this.changeLocked(offset, length, operation);
      } finally {
        release();
      }
      if (fua) await this.gate.request();
      await this.settled();
    } catch (error) {
      throw this.clientError(error);
    } finally {
      this.writesUnderWay--;
      if (this.writesUnderWay === 0) this.drained?.();
    }
  }

  private async changeLocked(
    offset: number,
    length: number,
    operation: () => Promise<LegFailure<Device>[]>,
  ): Promise<void> {
    await this.activate();
    const first = this.regions.at(offset);
    const last = this.regions.at(offset + length - 1);
    await this.bitmap.begin(first, last);
    try {
      this.judge(await operation(), first, last);
    } finally {
      this.changes++;
      this.bitmap.end(first, last);
    }
  }

  /** What failed writes mean for members, regions and the client. */
  private judge(failures: readonly LegFailure<Device>[], first: number, last: number): void {
    const current = failures.filter(({ leg }) => leg.state !== "faulty");
    if (current.length === 0) return;
    const noSpace = current.filter(({ error }) => error.noSpace);
    const broken = current.filter(({ error }) => !error.noSpace);
    const survived = broken.length === 0 || this.failures.writesFailed(broken);
    if (survived && noSpace.length === 0) return;
    this.bitmap.needsSync(first, last);
    this.syncs.renew();
    throw (noSpace[0] ?? broken[0])!.error;
  }

  /** Superblocks say dirty, durably, before the first write; missing members are recorded too. */
  private async activate(): Promise<void> {
    while (!this.active) {
      this.activating ??= this.metadata
        .update(0)
        .then(() => {
          this.active = true;
        })
        .finally(() => {
          this.activating = null;
        });
      await this.activating;
    }
    if (!this.failures.clear) await this.settled();
  }

  /** Parts of a range to trim: whole regions that are known to be zero need nothing. */
  private writtenParts(offset: number, length: number): [number, number][] {
    if (!this.metadata.knownZero) return [[offset, offset + length]];
    const parts: [number, number][] = [];
    const end = offset + length;
    let start = offset;
    for (let at = offset; at < end;) {
      const region = this.regions.at(at);
      const next = Math.min(end, (region + 1) * this.regions.regionBytes);
      if (this.regions.everyUnwritten(region, region)) {
        if (at > start) parts.push([start, at]);
        start = next;
      }
      at = next;
    }
    if (end > start) parts.push([start, end]);
    return parts;
  }

  // ---- bitmap and syncs of the members

  private conditions(): Conditions {
    return {
      absent: this.devices.absent > 0,
      degraded: this.devices.degraded > 0,
      lazyParity: false,
    };
  }

  private async writeBitmapBlocks(first: number, bytes: Uint8Array): Promise<void> {
    const offset = this.metadata.statesOffset() + first * REGIONS_PER_BLOCK;
    const legs = this.devices.writable;
    const results = await Promise.allSettled(
      legs.map((leg) => leg.member.writeDurable(bytes, offset)),
    );
    const failures: LegFailure<Device>[] = [];
    for (const [index, result] of results.entries()) {
      if (result.status === "fulfilled") continue;
      const error: unknown = result.reason;
      if (!(error instanceof MemberError)) throw error;
      if (legs[index]!.state !== "faulty") failures.push({ leg: legs[index]!, error });
    }
    this.failures.syncsFailed(failures.filter(({ error }) => !error.noSpace));
    if (this.failures.failed !== null) throw this.failures.failed;
    const full = failures.find(({ error }) => error.noSpace);
    if (full !== undefined) throw this.clientError(full.error);
  }

  /** Resolves when every member that still counts holds what was written before the call. */
  private async syncMembers(): Promise<void> {
    const changes = this.changes;
    const failures = await this.mirror.sync();
    const current = failures.filter(({ leg }) => leg.state !== "faulty");
    this.failures.syncsFailed(current);
    if (this.failures.failed !== null) throw this.failures.failed;
    this.syncedChanges = changes;
  }

  private async syncForDaemon(): Promise<boolean> {
    await this.gate.request();
    return this.devices.degraded === 0;
  }

  /** Nothing is Dirty: once everything is synced, the superblock may say so. */
  private async markCleanIfIdle(): Promise<void> {
    // What was written before the start may not be durable, though nothing is Dirty.
    if (this.syncedChanges !== this.changes) await this.gate.request();
    const { dirty, needSync, syncing } = this.regions.counts();
    if (!this.active || this.writesUnderWay > 0 || this.stopping) return;
    if (this.syncedChanges !== this.changes || dirty + needSync + syncing > 0) return;
    if (this.regions.anySuspect() || !this.failures.clear) return;
    this.active = false;
    this.activating ??= this.metadata.update("clean").finally(() => {
      this.activating = null;
    });
    await this.activating;
  }

  private async checkpoint(
    action: SyncJob["action"],
    targets: readonly Device[],
    end: number,
  ): Promise<void> {
    if (action === "resync") {
      // Where nothing may turn Clean, what clients have read must still outlast the source.
      if (!(await this.daemon.checkpoint(end))) await this.gate.request();
      this.daemon.poke();
      return;
    }
    await this.gate.request();
    for (const device of targets) {
      if (device.recovery === null) continue;
      device.recovery = { ...device.recovery, offset: end * this.regions.regionBytes };
    }
    await this.metadata.update();
  }

  /** The targets hold everything: they are synced, hold the whole bitmap, and count from now on. */
  private async recovered(targets: readonly Device[]): Promise<void> {
    await this.gate.request();
    this.bitmap.touchAll();
    await this.bitmap.flush();
    const left = targets.filter((device) => device.state === "rebuilding");
    // Where a write found no space members may differ again: another run copies just that.
    const again = this.regions.anySuspect();
    for (const device of left) {
      device.state = again ? "rebuilding" : "in_sync";
      device.recovery = again ? { byBitmap: true, offset: 0 } : null;
    }
    if (again) return;
    this.devices.changed();
    await this.metadata.update();
    this.daemon.poke();
  }

  // ---- members that fail

  private ejected(device: Device): void {
    this.syncs.lost(device);
    this.settled().then(
      () => {
        this.membership.fillSlots();
        this.syncs.request();
      },
      (error: unknown) => this.logger.error({ array: this.name, err: error }, "not recorded"),
    );
  }

  private async failedInSync(device: Device, failure: SyncFailure): Promise<void> {
    if (device.state === "faulty" || failure.noSpace) return;
    if (failure.kind === "read") {
      this.failures.readFailed(device, failure.message);
    } else {
      const error = new MemberError(device.member.path, "sync write", failure.message);
      this.failures.writesFailed([{ leg: device, error }]);
    }
    try {
      await this.settled();
    } catch (error) {
      if (!(error instanceof NbdRaidError)) throw error;
      // What cannot be recorded now is tried again before any request is answered.
      this.logger.error({ array: this.name, err: error }, "not recorded: the sync stops");
      this.syncs.interrupt();
    }
  }

  private repairLater(unread: readonly UnreadBlock<Device>[]): void {
    for (const { leg, error } of unread) this.failures.readFailed(leg, error.message);
    if (this.readOnly) return;
    const repair = this.repair(unread)
      .catch((error: unknown) => {
        this.logger.warn({ array: this.name, err: error }, "read repair failed");
      })
      .finally(() => this.repairs.delete(repair));
    this.repairs.add(repair);
  }

  /**
   * Rewrites what a member could not read. Each block is entered like a write, so that no other
   * write and no sync touches it; the good copy is read again under that, and what was written
   * is read back. A member that fails here fails.
   */
  private async repair(unread: readonly UnreadBlock<Device>[]): Promise<void> {
    for (const { leg, offset, length } of unread) {
      await this.change(offset, length, false, () => this.mirror.repair(leg, offset, length));
    }
  }

  // ---- refusals

  private refuseIfStopping(): void {
    if (this.stopping) throw new NbdRaidError("shutting-down", `${this.name} is shutting down`);
  }

  private refuseChange(): void {
    this.refuseIfStopping();
    if (this.readOnly) throw new NbdRaidError("read-only", `${this.name} is read-only`);
    if (this.failures.failed !== null) throw this.failures.failed;
  }

  private clientError(error: unknown): unknown {
    if (!(error instanceof MemberError)) return error;
    return new NbdRaidError(error.noSpace ? "no-space" : "io-error", error.message, {
      cause: error,
    });
  }

  private async settled(): Promise<void> {
    await this.failures.settled();
  }

  // ---- control

  status(): ArrayStatus {
    return describeArray(this);
  }

  fail(member: string): Promise<void> {
    return this.controlled(() => this.membership.fail(member));
  }

  remove(member: string): Promise<void> {
    return this.controlled(() => this.membership.remove(member));
  }

  reAdd(path: string): Promise<void> {
    return this.controlled(() => this.membership.reAdd(path));
  }

  add(path: string, options: { writeMostly: boolean }): Promise<void> {
    return this.controlled(() => this.membership.add(path, options.writeMostly));
  }

  setWriteMostly(member: string, writeMostly: boolean): Promise<void> {
    return this.controlled(() => this.membership.setWriteMostly(member, writeMostly));
  }

  set(settings: Partial<ArraySettings>): void {
    Object.assign(this.settings, settings);
    this.daemon.sleepMs = this.settings.daemonSleepMs;
    this.daemon.idleMs = this.settings.barrierIdleMs;
    this.daemon.rearm();
  }

  wait(): Promise<void> {
    return this.syncs.wait();
  }

  private async controlled(verb: () => Promise<void>): Promise<void> {
    this.refuseChange();
    if (!this.started) throw new NbdRaidError("member-busy", `${this.name} is starting`);
    await verb();
  }

  /** True while superblocks on disk say that writes may be under way. */
  get isActive(): boolean {
    return this.active;
  }

  /**
   * Takes no more requests, finishes those under way, and leaves the array clean where it is:
   * members synced, then bitmap, bitmap superblock, superblocks, each durable before the next.
   * Rejects if it could not be left clean; members are closed all the same.
   */
  async stop(): Promise<void> {
    this.stopping = true;
    try {
      if (this.writesUnderWay > 0) await new Promise<void>((resolve) => (this.drained = resolve));
      await Promise.all(this.repairs);
      await this.membership.stop();
      await this.syncs.pause();
      await this.daemon.stop();
      if (this.started) await this.leaveClean();
    } finally {
      await Promise.all(this.devices.all().map((device) => device.member.close()));
    }
  }

  /** Superblocks say clean, nothing was written since, and no sync left anything to record. */
  private isLeftClean(): boolean {
    if (this.active || this.metadata.resyncOffset !== "clean") return false;
    return this.regions.counts().dirty === 0 && !this.regions.anySuspect();
  }

  private async leaveClean(): Promise<void> {
    if (this.failures.failed !== null) throw this.failures.failed;
    if (this.isLeftClean()) return;
    await this.gate.request();
    await this.settled();
    if (this.devices.degraded === 0) {
      await this.metadata.recordEventsCleared();
      for (let region = 0; region < this.regions.count; region++) this.bitmap.clean(region);
    }
    await this.bitmap.flush();
    await this.metadata.update(this.regions.anySuspect() ? 0 : "clean");
    await this.settled();
  }
}
