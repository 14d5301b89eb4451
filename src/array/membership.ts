import { resolve } from "node:path";
import type { Logger } from "pino";
import type { WriteBitmap } from "../bitmap/bitmap.ts";
import type { Clock } from "../clock.ts";
import { type ErrorCode, NbdRaidError } from "../errors.ts";
import { type Member, MemberError } from "../member/member.ts";
import {
  DEVFLAG_WRITE_MOSTLY,
  emptySuperblock,
  roleOf,
  type Superblock,
} from "../metadata/superblock.ts";
import { planLayout } from "../metadata/layout.ts";
import { formatUuid } from "../metadata/uuid.ts";
import { levelName } from "../metadata/levels.ts";
import { superblockShape, whyInFull } from "./bitmap-return.ts";
import { findData } from "./blank.ts";
import type { ArrayDescription } from "./description.ts";
import type { Device, Devices, Recovery } from "./devices.ts";
import type { Failures } from "./failures.ts";
import { type MemberHeaders, readHeaders } from "./headers.ts";
import type { MetadataWriter } from "./metadata-writer.ts";
import type { Syncs } from "./syncs.ts";

/** What changes of members need of the array they change. */
export interface MembershipParts {
  readonly description: ArrayDescription;
  readonly devices: Devices;
  readonly bitmap: WriteBitmap;
  readonly metadata: MetadataWriter;
  readonly syncs: Syncs;
  readonly failures: Failures;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly openMember: (path: string) => Promise<Member>;
  /** What `Member.identity` would be, or null if there is nothing at the path. */
  readonly identify: (path: string) => string | null;
  /** 16 random bytes: the uuid of a new device. */
  readonly newUuid: () => Uint8Array;
}

/** A spare that could not take a slot for want of space tries again after this. */
const SPARE_RETRY_MS = 30_000;

/** What becomes of one that could not join. */
type Undone = "spare" | "faulty";

/**
 * Members that come and go while the array runs: fail, remove, re-add, add, and spares that take
 * a failed slot. One change at a time; each resolves once its effect is durable and the sync it
 * calls for is registered.
 */
export class Membership {
  private readonly parts: MembershipParts;
  private queue: Promise<unknown> = Promise.resolve();
  private stopped = false;
  private cancelRetry: (() => void) | null = null;

  constructor(parts: MembershipParts) {
    this.parts = parts;
  }

  fail(member: string): Promise<void> {
    return this.enqueue(async () => {
      const device = this.find(member);
      if (device.state === "faulty") return;
      if (!this.parts.description.geometry.redundant) {
        const what = `${device.member.path} holds what no other member does`;
        throw this.error("not-supported", what);
      }
      if (device.state === "in_sync" && !this.parts.failures.canLose(device)) {
        throw this.error("last-member", `the array cannot lose ${device.member.path}`);
      }
      this.parts.failures.eject(device, "asked to");
      await this.parts.failures.settled();
    });
  }

  remove(member: string): Promise<void> {
    return this.enqueue(async () => {
      const { devices, syncs } = this.parts;
      const device = this.find(member);
      if (device.state === "in_sync" || device.state === "rebuilding") {
        throw this.error("member-busy", `${device.member.path} is in use`);
      }
      const goOn = await syncs.pause();
      try {
        if (device.slot !== null && devices.slots[device.slot] === device) {
          devices.slots[device.slot] = null;
        } else {
          devices.others.splice(devices.others.indexOf(device), 1);
        }
        devices.changed();
        await device.member.close();
      } finally {
        goOn();
      }
      // What it held may be what a spare lacks; or it was the spare.
      this.fillSlots();
    });
  }

  /** Brings a member back that was away: copies only what the bitmap says it lacks. */
  async reAdd(path: string): Promise<void> {
    this.refuseWithoutRedundancy();
    return this.enqueue(() =>
      this.withMember(path, async (member) => {
        const own = await this.ownHeaders(member);
        const why =
          own === null ? "it has no superblock of this array" : whyInFull(own, this.parts);
        if (own === null || why !== null) {
          throw this.error("re-add-refused", `${member.path} cannot come back by bitmap: ${why}`);
        }
        await this.joinByBitmap(member, own.superblock);
      }),
    );
  }

  /** Adds a member: by bitmap if it may, else in full; as a spare if no slot is free. */
  async add(path: string, writeMostly: boolean): Promise<void> {
    this.refuseWithoutRedundancy();
    return this.enqueue(() =>
      this.withMember(path, async (member) => {
        const own = await this.ownHeaders(member);
        if (own !== null && whyInFull(own, this.parts) === null) {
          await this.joinByBitmap(member, own.superblock);
          return;
        }
        if (own === null) await this.refuseData(member);
        // Until its failure is recorded, superblocks call an old member active whatever it holds.
        await this.parts.failures.settled();
        const device = this.newDevice(member, own?.superblock ?? null, writeMostly);
        this.parts.devices.others.push(device);
        try {
          // First a spare, durably: an old superblock must not speak for data that is punched.
          await this.parts.metadata.update();
          this.refuseFailed(device);
          if (this.freeSlot() !== null) await this.takeSlot(device, "faulty");
        } catch (error) {
          this.drop(device);
          throw error;
        }
      }),
    );
  }

  setWriteMostly(member: string, writeMostly: boolean): Promise<void> {
    return this.enqueue(async () => {
      const { bitmap, metadata } = this.parts;
      const device = this.find(member);
      // Reads of suspect regions must not change their source: what was read once stays.
      if (bitmap.regions.anySuspect()) {
        throw this.error("member-busy", "a resync has to finish first");
      }
      device.writeMostly = writeMostly;
      await metadata.update();
    });
  }

  /** Spares take the slots of members that failed or are missing. */
  fillSlots(): void {
    if (this.stopped || (this.cancelRetry === null && !this.spareIsDue())) return;
    void this.enqueue(() => this.seatSpare()).catch((error: unknown) => {
      this.parts.logger.error({ err: error }, "the spare could not take the slot");
    });
  }

  private spareIsDue(): boolean {
    return this.freeSlot() !== null && this.spares().length > 0;
  }

  private spares(): Device[] {
    return this.parts.devices.others.filter(({ state }) => state === "spare");
  }

  /** The first that can be had; for want of space they all stay spares, and are tried again. */
  private async seatSpare(): Promise<void> {
    let full: Error | null = null;
    try {
      for (const spare of this.spareIsDue() ? this.spares() : []) {
        full = await this.trySpare(spare);
        if (full === null) break;
      }
    } finally {
      this.waitForSpace(full);
    }
  }

  /** Null: it has taken the slot. An error: there was no space for it, and it stays a spare. */
  private async trySpare(spare: Device): Promise<Error | null> {
    try {
      await this.takeSlot(spare, "spare");
      return null;
    } catch (error) {
      if (spare.state === "spare" && isNoSpace(error)) return error;
      // One that cannot be blanked is not tried again.
      if (error instanceof MemberError) this.parts.failures.eject(spare, error.message);
      throw error;
    }
  }

  /** Says that spares wait, and tries again later; or, if none does, says so. */
  private waitForSpace(full: Error | null): void {
    const { clock, logger, syncs } = this.parts;
    this.cancelRetry?.();
    this.cancelRetry = null;
    if (full !== null && !this.stopped) {
      logger.warn({ reason: full.message }, "no space: the slot stays free, and the spare a spare");
      this.cancelRetry = clock.after(SPARE_RETRY_MS, () => this.fillSlots());
    }
    syncs.recoveryWaits(full && `free space, for a spare to take the slot (${full.message})`);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.queue;
    this.waitForSpace(null);
  }

  private enqueue(change: () => Promise<void>): Promise<void> {
    const result = this.queue.then(() => {
      if (this.stopped) throw this.error("shutting-down", "the array is shutting down");
      return change();
    });
    this.queue = result.catch(() => undefined);
    return result;
  }

  // ---- coming in

  private async joinByBitmap(member: Member, superblock: Superblock): Promise<void> {
    const device = this.deviceOf(member, superblock);
    const slot = roleOf(superblock, superblock.devNumber);
    try {
      await this.join(device, slot, { byBitmap: true, offset: 0 }, "faulty");
    } catch (error) {
      this.drop(device);
      throw error;
    }
  }

  /** A blank or an old member, or a spare, is rebuilt in full in the lowest free slot. */
  private async takeSlot(device: Device, ifFull: Undone): Promise<void> {
    const { description } = this.parts;
    // What is Unwritten is not copied: it must be zero on the new member too, and stay so if the
    // power fails before the recovery ends.
    await device.member.punch(device.dataOffset, description.shape.componentBytes);
    await this.syncBlanked(device);
    const slot = this.freeSlot();
    if (slot === null) return;
    await this.join(device, slot, { byBitmap: false, offset: 0 }, ifFull);
  }

  /** After a failed sync nobody knows what it holds, whatever the reason: it is not tried again. */
  private async syncBlanked(device: Device): Promise<void> {
    try {
      await device.member.sync();
    } catch (error) {
      if (error instanceof MemberError) this.parts.failures.eject(device, error.message);
      throw error;
    }
  }

  private async join(
    device: Device,
    slot: number,
    recovery: Recovery,
    ifFull: Undone,
  ): Promise<void> {
    const goOn = await this.parts.syncs.pause();
    try {
      // Spares are written, too: it may have failed while it was blanked, or waited for syncs.
      this.refuseFailed(device);
      await this.seat(device, slot, recovery, ifFull);
    } finally {
      goOn();
    }
    this.refuseFailed(device);
  }

  /**
   * From here on the device takes every write. It holds the whole bitmap before a superblock
   * gives it the slot; what is written meanwhile is marked, so the recovery copies it.
   */
  private async seat(
    device: Device,
    slot: number,
    recovery: Recovery,
    ifFull: Undone,
  ): Promise<void> {
    const { devices, bitmap, metadata, logger } = this.parts;
    const failed = devices.slots[slot] ?? null;
    try {
      if (failed !== null) {
        failed.slot = null;
        devices.others.push(failed);
      }
      this.drop(device);
      device.slot = slot;
      device.state = "rebuilding";
      device.recovery = recovery;
      devices.slots[slot] = device;
      devices.changed();
      bitmap.touchAll();
      await bitmap.flush();
      await metadata.update();
      logger.info(
        { member: device.member.path, slot, byBitmap: recovery.byBitmap },
        "member joins",
      );
    } catch (error) {
      const isFull = device.state === "rebuilding" && isNoSpace(error);
      this.undoJoin(device, slot, failed, isFull ? ifFull : "faulty");
      throw error;
    }
  }

  private undoJoin(device: Device, slot: number, before: Device | null, state: Undone): void {
    const { devices } = this.parts;
    device.state = state;
    device.recovery = null;
    device.slot = null;
    devices.others.push(device);
    devices.slots[slot] = before;
    if (before !== null) {
      this.drop(before);
      before.slot = slot;
    }
    devices.changed();
  }

  /** What failed is never asked again (durability: failed syncs and durable writes). */
  private refuseFailed(device: Device): void {
    if (device.state !== "faulty") return;
    throw this.error("io-error", `${device.member.path} failed while it was added`);
  }

  private refuseWithoutRedundancy(): void {
    const { geometry, shape } = this.parts.description;
    if (geometry.redundant) return;
    const what = `level ${levelName(shape.level)} keeps every byte on one member: none can join`;
    throw this.error("not-supported", what);
  }

  private freeSlot(): number | null {
    const { slots } = this.parts.devices;
    const free = slots.findIndex((device) => device === null || device.state === "faulty");
    return free < 0 ? null : free;
  }

  private async withMember(path: string, use: (member: Member) => Promise<void>): Promise<void> {
    const { devices } = this.parts;
    const absolute = resolve(path);
    const known = this.at(absolute);
    if (known?.state === "faulty") {
      throw this.error("member-busy", `${absolute} has failed: remove it first`);
    }
    if (known !== undefined) throw this.error("member-in-use", `${absolute} is a member already`);
    const member = await this.parts.openMember(absolute);
    try {
      await use(member);
    } catch (error) {
      if (!devices.all().some((device) => device.member === member)) await member.close();
      throw error;
    }
  }

  /** What a member of this array says, or null: it has no superblock. Another array's is refused. */
  private async ownHeaders(member: Member): Promise<MemberHeaders | null> {
    const { description } = this.parts;
    try {
      const headers = await readHeaders(member);
      if (headers.superblock.setUuid === description.uuid) return headers;
    } catch (error) {
      if (error instanceof NbdRaidError && error.code === "member-foreign") return null;
      throw error;
    }
    throw this.error("member-in-array", `${member.path} belongs to another array`);
  }

  private async refuseData(member: Member): Promise<void> {
    const data = await findData(member);
    if (data === null) return;
    const message = `${member.path} holds data at byte ${data}; a new member must be blank`;
    throw this.error("member-not-empty", message);
  }

  private newDevice(member: Member, old: Superblock | null, writeMostly: boolean): Device {
    const { description, devices, metadata } = this.parts;
    const devNumber = old?.devNumber ?? metadata.freeDevNumber();
    const clash = devices.all().some(({ superblock }) => superblock.devNumber === devNumber);
    const number = clash ? metadata.freeDevNumber() : devNumber;
    if (number === undefined) throw this.error("usage", "the superblock has no room for a member");
    const level = levelName(description.shape.level);
    if (level === null) throw new Error("a running array has a known level");
    const layout = planLayout({
      path: member.path,
      deviceBytes: member.sizeBytes,
      level,
      raidDisks: description.shape.raidDisks,
      spares: 0,
      chunkBytes: description.shape.chunkBytes === 0 ? null : description.shape.chunkBytes,
      bitmap: description.bitmap,
    });
    if (layout.usedSizeSectors * 512 < description.shape.componentBytes) {
      const needed = layout.dataOffsetSectors * 512 + description.shape.componentBytes;
      const message = `${member.path} has ${member.sizeBytes} bytes and needs ${needed}`;
      throw this.error("member-too-small", message);
    }
    const superblock: Superblock = {
      ...emptySuperblock(metadata.roleCount),
      setUuid: description.uuid,
      setName: description.name,
      ...superblockShape(description),
      dataOffsetSectors: layout.dataOffsetSectors,
      dataSizeSectors: layout.dataSizeSectors,
      devNumber: number,
      deviceUuid: formatUuid(this.parts.newUuid()),
    };
    return { ...this.deviceOf(member, superblock), state: "spare", writeMostly };
  }

  private deviceOf(member: Member, superblock: Superblock): Device {
    return {
      member,
      superblock,
      dataOffset: superblock.dataOffsetSectors * 512,
      state: "rebuilding",
      slot: null,
      writeMostly: (superblock.devflags & DEVFLAG_WRITE_MOSTLY) !== 0,
      readErrors: 0,
      writeErrors: 0,
      recovery: null,
    };
  }

  private drop(device: Device): void {
    const { others } = this.parts.devices;
    const index = others.indexOf(device);
    if (index >= 0) others.splice(index, 1);
  }

  /** `member` is a slot number or a path. */
  private find(member: string): Device {
    const { devices } = this.parts;
    const device = /^\d+$/.test(member) ? devices.slots[Number(member)] : this.at(resolve(member));
    if (device == null) throw this.error("unknown-member", `no member ${member}`);
    return device;
  }

  /** By device and inode; by path where nothing is there any more. */
  private at(path: string): Device | undefined {
    const identity = this.parts.identify(path);
    return this.parts.devices
      .all()
      .find(({ member }) =>
        identity === null ? member.path === path : member.identity === identity,
      );
  }

  private error(code: ErrorCode, message: string): NbdRaidError {
    return new NbdRaidError(code, `${this.parts.description.name}: ${message}`);
  }
}

function isNoSpace(error: unknown): error is Error {
  if (error instanceof MemberError) return error.noSpace;
  return error instanceof NbdRaidError && error.code === "no-space";
}
