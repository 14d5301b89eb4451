import type { Logger } from "pino";
import { WriteBitmap } from "../bitmap/bitmap.ts";
import { STATE_FORMATS } from "../bitmap/on-disk.ts";
import { Daemon } from "../bitmap/daemon.ts";
import type { Regions } from "../bitmap/regions.ts";
import type { Conditions } from "../bitmap/transitions.ts";
import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import { levelName } from "../metadata/levels.ts";
import type { Superblock } from "../metadata/superblock.ts";
import type { BlockDevice, Extent, RegionExtent } from "../nbd/block-device.ts";
import type { Level } from "../raid/level.ts";
import { levelOf } from "../raid/levels.ts";
import type { SyncFailure, SyncJob } from "../sync/engine.ts";
import { MemberBitmapStore } from "./bitmap-store.ts";
import type { ArrayDescription } from "./description.ts";
import type { Device, Devices } from "./devices.ts";
import { Extents } from "./extents.ts";
import { Failures } from "./failures.ts";
import { Membership, type MembershipParts } from "./membership.ts";
import { MetadataWriter } from "./metadata-writer.ts";
import { ReadPath } from "./read-path.ts";
import { Rebuilds } from "./rebuilds.ts";
import { describeArray } from "./report.ts";
import type { ArrayControl, ArraySettings, ArrayStatus, SyncVerb } from "./status.ts";
import { Syncs } from "./syncs.ts";
import { WritePath } from "./write-path.ts";

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
  readonly identify: MembershipParts["identify"];
  private readonly logger: Logger;
  private readonly level: Level<Device>;
  private readonly membership: Membership;
  private readonly reads: ReadPath;
  private readonly writes: WritePath;
  private readonly stored: Extents;
  private readonly rebuilds: Rebuilds;
  private started = false;

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
      geometry: description.geometry,
      logger,
      clock,
      readOnly: parts.readOnly,
      record: () => this.metadata.update(),
      inDoubt: () => description.geometry.kind === "parity" && regions.anySuspect(),
      failureUnrecorded: () => this.metadata.failureUnrecorded(),
      ejected: (device) => this.ejected(device),
    });
    this.bitmap = new WriteBitmap(regions, {
      store: this.storeOf(description.bitmap),
      fine: description.bitmap === "lockless",
      conditions: () => this.conditions(),
      dirtied: () => this.daemon.poke(),
      parityWanted: () => this.parityWanted(),
    });
    this.daemon = new Daemon(
      this.bitmap,
      {
        mayClean: () => this.devices.degraded === 0 && this.failures.clear,
        isActive: () => this.isActive,
        syncMembers: () => this.syncForDaemon(),
        recordEventsCleared: () => this.metadata.recordEventsCleared(),
        idle: () => this.writes.markCleanIfIdle(),
        failed: (error) => logger.warn({ array: this.name, err: error }, "bitmap daemon failed"),
      },
      clock,
    );
    this.level = levelOf<Device>(description.geometry, devices, {
      clock,
      isSuspect: (start, end) => regions.anySuspectIn(regions.at(start), regions.at(end - 1)),
      isDoubtful: (start, end) => regions.anyDoubtIn(regions.at(start), regions.at(end - 1)),
      exclusively: (offset, length, work) => this.writes.exclusively(offset, length, work),
      readFailed: (device, message) => this.failures.readFailed(device, message),
      writeFailed: (failures, changed) => this.writes.partFailed(failures, changed),
    });
    this.syncs = new Syncs({
      name: description.name,
      shape: description.shape,
      devices,
      regions,
      settings: this.settings,
      clock,
      logger,
      mayNotSync: () => this.writes.isStopping || this.readOnly || this.failures.failed !== null,
      sources: () => this.level.sources(),
      requests: () => this.reads.requests + this.writes.requests,
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
      clock,
      logger,
      openMember: parts.openMember,
      identify: parts.identify,
      newUuid: parts.newUuid,
    });
    this.identify = parts.identify;
    const { bitmap, metadata, failures, level } = this;
    const { readOnly } = parts;
    const { name, geometry } = description;
    this.writes = new WritePath({
      name,
      readOnly,
      // A resync that md stopped half-way left an offset: that is not yet the mark of a writer.
      active: parts.freshest.resyncOffsetSectors === 0 && !parts.bitmapStale,
      bitmap,
      metadata,
      failures,
      geometry,
      level,
      syncNeeded: () => this.syncs.renew(),
      degraded: () => this.devices.degraded > 0,
      activated: () => this.daemon.wake(),
      targetMissed: () => this.rebuilds.lacks(),
    });
    const { writes } = this;
    const sync = (): Promise<void> => writes.sync();
    const unrecorded = (error: unknown): void =>
      logger.error({ array: name, err: error }, "not recorded");
    this.rebuilds = new Rebuilds({ geometry, devices, bitmap, metadata, sync, unrecorded });
    this.stored = new Extents({
      geometry,
      legs: devices,
      regions,
      knownZero: () => metadata.knownZero,
    });
    this.reads = new ReadPath({
      name,
      readOnly,
      regions,
      metadata,
      failures,
      geometry,
      level,
      writes,
      logger,
    });
  }

  private storeOf(bitmap: ArrayDescription["bitmap"]): MemberBitmapStore | null {
    if (bitmap === "none") return null;
    const { devices, failures, metadata } = this;
    const offset = metadata.statesOffset(bitmap);
    return new MemberBitmapStore(devices, failures, STATE_FORMATS[bitmap], offset);
  }

  get name(): string {
    return this.about.name;
  }

  get hasRegions(): boolean {
    return this.about.bitmap !== "none";
  }

  get sizeBytes(): number {
    return this.about.geometry.sizeBytes;
  }

  get stripeWrites(): ArrayStatus["stripeWrites"] {
    const { stripeWrites } = this.level;
    return stripeWrites === undefined ? null : { ...stripeWrites };
  }

  /** One line for people who list exports. */
  get description(): string {
    const { level, raidDisks } = this.about.shape;
    const name = levelName(level);
    return `${name === "linear" ? name : `raid${name}`} of ${raidDisks} members`;
  }

  /** Before the first request: marks are on every member, and the syncs that load calls for run. */
  async start(): Promise<void> {
    if (this.readOnly) return;
    this.started = true;
    await this.bitmap.flush();
    this.syncs.request();
    this.membership.fillSlots();
    if (this.isActive) this.daemon.wake();
  }

  // ---- requests

  tryRead(into: Uint8Array, offset: number): boolean {
    return this.reads.tryRead(into, offset);
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.reads.read(into, offset);
  }

  cache(offset: number, length: number): Promise<void> {
    return this.reads.prefetch(offset, length);
  }

  tryWrite(from: Uint8Array, offset: number, fua: boolean): boolean {
    return this.writes.tryWrite(from, offset, fua);
  }

  write(from: Uint8Array, offset: number, fua: boolean): Promise<void> {
    return this.writes.write(from, offset, fua);
  }

  trim(offset: number, length: number, fua: boolean): Promise<void> {
    return this.writes.trim(offset, length, fua);
  }

  zero(offset: number, length: number, allocate: boolean, fua: boolean): Promise<void> {
    return this.writes.zero(offset, length, allocate, fua);
  }

  flush(): Promise<void> {
    return this.writes.flush();
  }

  // ---- what is known of the storage

  zeroesFast(_offset: number, length: number, allocate: boolean): boolean {
    return this.stored.zeroesFast(length, allocate);
  }

  zeroesAt(offset: number, length: number): number {
    return this.stored.zeroesAt(offset, length);
  }

  async extents(offset: number, length: number, max: number): Promise<Extent[]> {
    this.writes.refuseIfStopping();
    return this.stored.extents(offset, length, max);
  }

  regionStates(offset: number, length: number, max: number): RegionExtent[] {
    return this.stored.regionStates(offset, length, max);
  }

  // ---- syncs

  private conditions(): Conditions {
    return {
      absent: this.devices.absent > 0,
      degraded: this.devices.degraded > 0,
      lazyParity: this.about.geometry.kind === "parity" && !this.metadata.knownZero,
    };
  }

  /** A rebuild may have passed the region, for nothing was written there: it has to return. */
  private parityWanted(): void {
    if (this.devices.rebuilding().length > 0) this.rebuilds.turned();
    else if (this.devices.degraded === 0) this.syncs.renew();
  }

  private async syncForDaemon(): Promise<boolean> {
    await this.writes.sync();
    return this.devices.degraded === 0;
  }

  private async checkpoint(
    action: SyncJob["action"],
    targets: readonly Device[],
    end: number,
  ): Promise<void> {
    if (action === "resync") {
      // Also where nothing turns Clean: what the sync has written counts as no client's change,
      // so no FLUSH and no stop makes it durable; and what clients have read outlasts the source.
      if (!(await this.daemon.checkpoint(end))) await this.writes.sync();
      this.daemon.poke();
      return;
    }
    const done = Math.min(end * this.regions.regionBytes, this.regions.trackedBytes);
    await this.rebuilds.checkpoint(targets, done);
  }

  private async recovered(targets: readonly Device[]): Promise<void> {
    if (await this.rebuilds.finish(targets)) this.daemon.poke();
  }

  // ---- members that fail

  private ejected(device: Device): void {
    this.syncs.lost(device);
    this.failures.settled().then(
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
      await this.failures.settled();
    } catch (error) {
      if (!(error instanceof NbdRaidError)) throw error;
      // What cannot be recorded now is tried again before any request is answered.
      this.logger.error({ array: this.name, err: error }, "not recorded: the sync stops");
      this.syncs.interrupt();
    }
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

  sync(verb: SyncVerb): Promise<void> {
    return this.controlled(async () => {
      if (verb === "idle") await this.syncs.idle();
      else if (verb === "frozen") await this.syncs.freeze();
      else this.syncs.ask(verb);
    });
  }

  wait(): Promise<void> {
    return this.syncs.wait();
  }

  private async controlled(verb: () => Promise<void>): Promise<void> {
    this.writes.refuse();
    if (!this.started) throw new NbdRaidError("member-busy", `${this.name} is starting`);
    await verb();
  }

  /** True while superblocks on disk say that writes may be under way. */
  get isActive(): boolean {
    return this.writes.isActive;
  }

  /**
   * Takes no more requests, finishes those under way, and leaves the array clean where it is:
   * members synced, then bitmap, bitmap superblock, superblocks, each durable before the next.
   * Rejects if it could not be left clean; members are closed all the same.
   */
  async stop(): Promise<void> {
    try {
      await this.writes.stop();
      await this.reads.stop();
      await this.membership.stop();
      await this.syncs.pause();
      await this.daemon.stop();
      if (this.started) await this.leaveClean();
    } finally {
      // A failure that is being recorded would take members that are closed for broken.
      await this.failures.recorded();
      await Promise.all(this.devices.all().map((device) => device.member.close()));
    }
  }

  /** Superblocks say clean, nothing was written since, and no sync left anything to record. */
  private isLeftClean(): boolean {
    if (!this.about.geometry.redundant) return false;
    if (this.isActive || this.metadata.resyncOffset !== "clean") return false;
    return this.regions.counts().dirty === 0 && !this.regions.anySuspect();
  }

  private async leaveClean(): Promise<void> {
    if (this.failures.failed !== null) throw this.failures.failed;
    if (this.isLeftClean()) return;
    await this.writes.sync();
    await this.failures.settled();
    if (!this.about.geometry.redundant) return;
    if (await this.mayCleanAll()) {
      for (let region = 0; region < this.regions.count; region++) this.bitmap.clean(region);
    }
    await this.bitmap.flush();
    await this.metadata.update(this.regions.anySuspect() ? 0 : "clean");
    await this.failures.settled();
  }

  /** True if every member is in sync and `events_cleared` is current, as cleaning asks for. */
  private async mayCleanAll(): Promise<boolean> {
    if (this.devices.degraded > 0) return false;
    try {
      await this.metadata.recordEventsCleared();
    } catch (error) {
      // A member that failed is recorded with the rest; what it may lack stays marked.
      if (this.devices.degraded === 0) throw error;
    }
    await this.failures.settled();
    return this.devices.degraded === 0;
  }
}
