import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { Geometry } from "../raid/geometry/geometry.ts";
import type { LegFailure } from "../raid/level.ts";
import type { Device, Devices } from "./devices.ts";

/** What the failure policy asks of the array around it. */
export interface FailureHost {
  readonly name: string;
  readonly devices: Devices;
  readonly geometry: Geometry;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly readOnly: boolean;
  /** Writes the superblocks as the devices are now. */
  record(): Promise<void>;
  failureUnrecorded(): boolean;
  /** What a member holds may not be what the others say of it: reads cannot do without it. */
  inDoubt(): boolean;
  /** A device takes no part any more: syncs and sources look again. */
  ejected(device: Device): void;
}

/** md's max_read_errors: more of them, where each hour halves the count, and the device fails. */
const READ_ERRORS_MAX = 20;
const HOUR_MS = 3_600_000;

/** A count that halves each hour. */
interface RecentErrors {
  count: number;
  halvedAt: number;
}

/**
 * What becomes of members that fail.
 *
 * Invariant (failure before answer): a request that a member missed is answered only when
 * `settled` has resolved, so its failure is on the survivors by then.
 */
export class Failures {
  private readonly host: FailureHost;
  private recording: Promise<void> | null = null;
  /** The superblocks on disk call a device active that takes no writes any more. */
  private unrecorded: boolean;
  private readonly readErrors = new Map<Device, RecentErrors>();
  private readonly toldOf = new Set<Device>();
  /** Not null: no write, FLUSH or FUA succeeds until restart, and the superblock stays dirty. */
  failed: NbdRaidError | null = null;

  constructor(host: FailureHost) {
    this.host = host;
    this.unrecorded = host.failureUnrecorded();
  }

  /** False while a failure waits to be recorded, or the array has failed. */
  get clear(): boolean {
    return this.failed === null && !this.unrecorded;
  }

  /** Resolves when every failure so far is recorded; rejects if the array has failed. */
  async settled(): Promise<void> {
    while (this.unrecorded && this.failed === null) {
      this.recording ??= this.record();
      await this.recording;
    }
    if (this.failed !== null) throw this.failed;
  }

  /** Resolves when no record is under way; starts none, and does not say how it ended. */
  async recorded(): Promise<void> {
    while (this.recording !== null) await this.recording.catch(() => undefined);
  }

  private async record(): Promise<void> {
    try {
      await this.host.record();
      this.unrecorded = this.host.failureUnrecorded();
    } finally {
      this.recording = null;
    }
  }

  /**
   * Members failed a write (not for want of space). If the level can lose them they are ejected;
   * else all stay. False in that case.
   */
  writesFailed(failures: readonly LegFailure<Device>[]): boolean {
    const failing = new Set(failures.map(({ leg }) => leg));
    for (const { leg } of failures) leg.writeErrors++;
    if (!this.survivesWithout(failing)) {
      for (const { leg, error } of failures) this.tellOfLoss(leg, error.message);
      return false;
    }
    for (const { leg, error } of failures) this.eject(leg, error.message);
    return true;
  }

  /**
   * Members failed an fdatasync or a durable write: what they hold is unknown, so they are never
   * asked again. If the level cannot lose them the array has failed: nothing is recorded, for
   * none of them is better than the others.
   */
  syncsFailed(failures: readonly LegFailure<Device>[]): void {
    if (failures.length === 0 || this.writesFailed(failures)) return;
    const { error } = failures[0]!;
    this.failed ??= new NbdRaidError(
      "array-failed",
      `${this.host.name}: too few members are left that are sure to hold the data: ${error.message}`,
      { cause: error },
    );
    this.host.logger.fatal({ array: this.host.name, err: error }, "array failed");
  }

  /** A metadata write failed. True if the device is ejected, false if the array has failed. */
  metadataFailed(device: Device, error: unknown): boolean {
    if (!(error instanceof MemberError)) throw error;
    this.syncsFailed([{ leg: device, error }]);
    return this.failed === null;
  }

  /** A member could not be read, by a client or a sync. */
  readFailed(device: Device, message: string): void {
    device.readErrors++;
    const { array, member } = { array: this.host.name, member: device.member.path };
    this.host.logger.warn({ array, member, reason: message }, "read error");
    const recent = this.countRecent(device);
    if (recent <= READ_ERRORS_MAX || this.host.readOnly || device.state !== "in_sync") return;
    if (this.canLose(device) && !this.host.inDoubt())
      this.eject(device, `${recent} read errors in a short time`);
  }

  private countRecent(device: Device): number {
    const now = this.host.clock.now();
    const recent = this.readErrors.get(device) ?? { count: 0, halvedAt: now };
    const hours = Math.floor((now - recent.halvedAt) / HOUR_MS);
    recent.count = Math.floor(recent.count / 2 ** hours) + 1;
    recent.halvedAt += hours * HOUR_MS;
    this.readErrors.set(device, recent);
    return recent.count;
  }

  canLose(device: Device): boolean {
    return this.survivesWithout(new Set([device]));
  }

  private survivesWithout(lost: ReadonlySet<Device>): boolean {
    const { devices, geometry } = this.host;
    return geometry.survives((slot) => {
      const device = devices.inSyncAt(slot);
      return device !== null && !lost.has(device);
    });
  }

  /** Once a member: what fails there now is the clients' loss. */
  private tellOfLoss(device: Device, reason: string): void {
    if (this.toldOf.has(device)) return;
    this.toldOf.add(device);
    const member = { array: this.host.name, member: device.member.path, slot: device.slot };
    const message = "a member that the array cannot lose fails writes: clients get errors";
    this.host.logger.error({ ...member, reason }, message);
  }

  /** The device takes no part from here on; `settled` makes that durable. */
  eject(device: Device, reason: string): void {
    if (device.state === "faulty") return;
    device.state = "faulty";
    device.recovery = null;
    this.host.devices.changed();
    this.unrecorded = true;
    this.host.ejected(device);
    const { name, logger } = this.host;
    logger.error(
      { array: name, member: device.member.path, slot: device.slot, reason },
      "member failed",
    );
  }
}
