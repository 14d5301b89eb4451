import type { Clock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import { encodeBitmapSuperblock } from "../metadata/bitmap-superblock.ts";
import {
  FEATURE_BITMAP_OFFSET,
  FEATURE_RECOVERY_BITMAP,
  FEATURE_RECOVERY_OFFSET,
} from "../metadata/features.ts";
import type { UpdateStamp } from "../metadata/known-zero.ts";
import { BITMAP_FORMATS, type BitmapKind } from "../metadata/layout.ts";
import {
  DEVFLAG_WRITE_MOSTLY,
  encodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
  type Superblock,
  SUPERBLOCK_OFFSET_BYTES,
} from "../metadata/superblock.ts";
import { timestampAt } from "../metadata/timestamp.ts";
import type { ArrayDescription } from "./description.ts";
import { type Device, type Devices, takesWrites } from "./devices.ts";

/** Members that never held a bitmap block fail it or hold it: both end well before this. */
const ATTEMPTS_MAX = 64;

/** What the writer asks of the array around it when a member cannot be written. */
export interface MetadataHost {
  /**
   * The device failed a metadata write. True: it is ejected and not counted on any more. False:
   * the level cannot lose it; the array has failed.
   */
  metadataFailed(device: Device, error: unknown): boolean;
}

/** The state of an array's superblocks, and the only one who writes them: one update at a time. */
export class MetadataWriter {
  events: number;
  /** What every superblock on disk says, or `null` for clean. Sectors. */
  resyncOffset: number | "clean";
  /** In the bitmap superblock: a member with older events may not come back by bitmap. */
  eventsCleared: number;
  /** As every member has it. */
  private eventsClearedDurable: number;
  knownZero: boolean;
  private stamp: UpdateStamp;
  private readonly description: ArrayDescription;
  private readonly devices: Devices;
  private readonly host: MetadataHost;
  private readonly clock: Clock;
  /** md's dev_roles as the superblocks on disk have them. */
  private roles: readonly number[];
  private queue: Promise<unknown> = Promise.resolve();

  constructor(
    description: ArrayDescription,
    devices: Devices,
    freshest: Superblock,
    bitmap: { readonly eventsCleared: number; readonly knownZero: boolean },
    host: MetadataHost,
    clock: Clock,
  ) {
    this.description = description;
    this.devices = devices;
    this.events = freshest.events;
    this.stamp = { events: freshest.events, utime: freshest.utime };
    this.resyncOffset = freshest.resyncOffsetSectors;
    this.eventsCleared = bitmap.eventsCleared;
    this.eventsClearedDurable = bitmap.eventsCleared;
    this.knownZero = bitmap.knownZero;
    this.host = host;
    this.clock = clock;
    this.roles = freshest.roles;
  }

  /** The first device number nobody here has; superblocks have room for it, or undefined. */
  freeDevNumber(): number | undefined {
    const taken = new Set(this.devices.all().map((device) => device.superblock.devNumber));
    const free = this.roles.findIndex((role, number) => role === ROLE_SPARE && !taken.has(number));
    if (free >= 0) return free;
    const failed = this.roles.findIndex((_, number) => !taken.has(number));
    return failed >= 0 ? failed : undefined;
  }

  get roleCount(): number {
    return this.roles.length;
  }

  /**
   * Writes the state of the devices as it is when the update's turn comes: bitmap superblocks
   * first, then superblocks, each durable on every device before the next. Devices that fail
   * meanwhile are ejected, and the update is written again so that it records them.
   *
   * Rejects with array-failed if the last member cannot be written, no-space if space is missing.
   */
  update(resyncOffset?: number | "clean"): Promise<void> {
    return this.enqueue(async () => {
      for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        // md accepts a member that is one behind, so a failure takes two updates; one at a time,
        // so that survivors are never two apart.
        const again = this.failureUnrecorded();
        const written = await this.writeOnce(resyncOffset ?? this.resyncOffset);
        if (written && !again) return;
      }
      throw new NbdRaidError("array-failed", `${this.description.name}: members keep failing`);
    });
  }

  /** A device that superblocks call active takes no writes any more: an update must say so. */
  failureUnrecorded(): boolean {
    return fails(this.roles, this.currentRoles());
  }

  /** Makes `events_cleared` current, durably, if it is not. */
  recordEventsCleared(): Promise<void> {
    const { bitmap } = this.description;
    if (bitmap === "none" || this.eventsClearedDurable === this.events) return Promise.resolve();
    return this.enqueue(async () => {
      // It does not go back, also if a member fails: none may hold more than the others will.
      this.eventsCleared = this.events;
      const done = await this.toEach(this.devices.writable, (device) =>
        this.writeBitmapSuperblock(bitmap, device, this.stamp, this.stamp),
      );
      // A member that failed is recorded by its own update; until then nothing is forgotten.
      if (!done) throw new NbdRaidError("io-error", `${this.description.name}: a member failed`);
      this.eventsClearedDurable = this.eventsCleared;
    });
  }

  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** True if every device that is still recorded now says the same. */
  private async writeOnce(resyncOffset: number | "clean"): Promise<boolean> {
    const roles = this.currentRoles();
    const next: UpdateStamp = {
      events: this.events + 1,
      utime: timestampAt(this.clock.wallTime()),
    };
    const { bitmap } = this.description;
    if (bitmap !== "none") {
      const written = await this.toEach(this.devices.writable, (device) =>
        this.writeBitmapSuperblock(bitmap, device, next, this.stamp),
      );
      if (!written) return false;
    }
    // Members may have it from here on, whether or not one fails: the next update follows this one.
    this.events = next.events;
    this.stamp = next;
    const recorded = this.devices.recorded();
    const write = async (device: Device): Promise<void> => {
      const superblock = this.superblockOf(device, roles, next, resyncOffset);
      await device.member.writeDurable(encodeSuperblock(superblock), SUPERBLOCK_OFFSET_BYTES);
      device.superblock = superblock;
    };
    // One that joins, or missed an update, goes first: nobody who counts is ever two behind.
    const isBehind = ({ superblock }: Device): boolean => superblock.events + 1 < next.events;
    const [behind, others] = [recorded.filter(isBehind), recorded.filter((one) => !isBehind(one))];
    if (!(await this.toEach(behind, write))) return false;
    const written = await this.toEach(others, write);
    this.roles = roles;
    this.resyncOffset = resyncOffset;
    return written;
  }

  /** Writes to each at once; false if a device failed and was ejected. */
  private async toEach(
    devices: readonly Device[],
    write: (device: Device) => Promise<void>,
  ): Promise<boolean> {
    const results = await Promise.allSettled(devices.map(write));
    let whole = true;
    let full: MemberError | null = null;
    for (const [index, result] of results.entries()) {
      if (result.status === "fulfilled") continue;
      const device = devices[index]!;
      const error: unknown = result.reason;
      if (!(error instanceof MemberError)) throw error;
      if (device.state === "faulty") continue;
      if (error.noSpace) {
        full ??= error;
        continue;
      }
      whole = false;
      if (!this.host.metadataFailed(device, error)) {
        throw new NbdRaidError("array-failed", error.message, { cause: error });
      }
    }
    if (full !== null) throw new NbdRaidError("no-space", full.message, { cause: full });
    return whole;
  }

  private writeBitmapSuperblock(
    kind: BitmapKind,
    device: Device,
    newest: UpdateStamp,
    older: UpdateStamp,
  ): Promise<void> {
    const { uuid, geometry, regionBytes, bitmapKept } = this.description;
    const bytes = encodeBitmapSuperblock({
      ...bitmapKept,
      kind,
      uuid,
      events: newest.events,
      eventsCleared: this.eventsCleared,
      syncSizeSectors: geometry.trackedBytes / 512,
      state: 0,
      regionSectors: regionBytes / 512,
      knownZero: this.knownZero ? { newest, older } : null,
    });
    return device.member.writeDurable(bytes, this.bitmapOffset());
  }

  /** Byte offset of the bitmap superblock: the same on every member. */
  bitmapOffset(): number {
    return SUPERBLOCK_OFFSET_BYTES + this.description.bitmapOffsetSectors * 512;
  }

  /** Byte offset of the first region's state in a bitmap of this kind. */
  statesOffset(kind: BitmapKind): number {
    return this.bitmapOffset() + BITMAP_FORMATS[kind].headerBytes;
  }

  /** md's dev_roles as they are now: a slot nobody here holds any more is faulty for all. */
  private currentRoles(): readonly number[] {
    const held = new Map<number, number>();
    for (const device of this.devices.all()) {
      held.set(device.superblock.devNumber, roleOf(device));
    }
    return this.roles.map(
      (role, number) => held.get(number) ?? (role === ROLE_SPARE ? ROLE_SPARE : ROLE_FAULTY),
    );
  }

  private superblockOf(
    device: Device,
    roles: readonly number[],
    next: UpdateStamp,
    resyncOffset: number | "clean",
  ): Superblock {
    const { recovery } = device;
    const feature =
      (this.description.bitmap !== "none" ? FEATURE_BITMAP_OFFSET : 0) |
      (recovery === null ? 0 : FEATURE_RECOVERY_OFFSET) |
      (recovery?.byBitmap === true ? FEATURE_RECOVERY_BITMAP : 0);
    const ours = FEATURE_BITMAP_OFFSET | FEATURE_RECOVERY_OFFSET | FEATURE_RECOVERY_BITMAP;
    const before = device.superblock;
    const writeMostly = device.writeMostly ? DEVFLAG_WRITE_MOSTLY : 0;
    return {
      ...before,
      featureMap: (before.featureMap & ~ours) | feature,
      bitmapOffsetSectors: this.description.bitmapOffsetSectors,
      recoveryOffsetSectors: recovery === null ? 0 : Math.floor(recovery.offset / 512),
      devflags: (before.devflags & ~DEVFLAG_WRITE_MOSTLY) | writeMostly,
      events: next.events,
      utime: next.utime,
      resyncOffsetSectors: resyncOffset,
      roles,
    };
  }
}

function roleOf(device: Device): number {
  if (device.state === "faulty") return ROLE_FAULTY;
  return takesWrites(device) && device.slot !== null ? device.slot : ROLE_SPARE;
}

/** True if a device that `before` gives a slot has none in `after`. */
function fails(before: readonly number[], after: readonly number[]): boolean {
  return before.some((role, number) => role < ROLE_FAULTY && after[number] === ROLE_FAULTY);
}
