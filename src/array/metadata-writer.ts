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

/** What all superblocks say that are written at a time. */
interface Update {
  readonly stamp: UpdateStamp;
  /** md's dev_roles. */
  readonly roles: readonly number[];
  /** Sectors, or `clean`. */
  readonly resyncOffset: number | "clean";
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
  /** The newest update that any member may have. */
  private latest: Update;
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
    this.latest = {
      stamp: { events: freshest.events, utime: freshest.utime },
      roles: freshest.roles,
      resyncOffset: freshest.resyncOffsetSectors,
    };
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
        this.writeBitmapSuperblock(bitmap, device, this.latest.stamp, this.latest.stamp),
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
    const stamp = { events: this.events + 1, utime: timestampAt(this.clock.wallTime()) };
    // Whenever power fails, nobody who counts is two behind. So who missed an update gets that one
    // before the next; and one that joins goes first.
    const recorded = this.devices.recorded();
    const isBehind = ({ superblock }: Device): boolean => superblock.events < this.events;
    const missed = recorded.filter((device) => isBehind(device) && this.countsInLatest(device));
    if (!(await this.toEach(missed, this.writer(this.latest)))) return false;
    const { bitmap } = this.description;
    if (bitmap !== "none") {
      const written = await this.toEach(this.devices.writable, (device) =>
        this.writeBitmapSuperblock(bitmap, device, stamp, this.latest.stamp),
      );
      if (!written) return false;
    }
    const joining = recorded.filter(isBehind);
    const others = recorded.filter((device) => !isBehind(device));
    const next = { stamp, roles, resyncOffset };
    // Members may have it from here on, whether or not one fails: the next update follows this one.
    this.events = stamp.events;
    this.latest = next;
    if (!(await this.toEach(joining, this.writer(next)))) return false;
    const written = await this.toEach(others, this.writer(next));
    this.roles = roles;
    this.resyncOffset = resyncOffset;
    return written;
  }

  /** It held its slot when that update was made, and still does: what that says of it is so. */
  private countsInLatest(device: Device): boolean {
    const { devNumber } = device.superblock;
    return takesWrites(device) && this.latest.roles[devNumber] === device.slot;
  }

  /** What writes an update's superblock to a member. One that was ejected meanwhile gets no more. */
  private writer(update: Update): (device: Device) => Promise<void> {
    return async (device) => {
      if (device.state === "faulty") return;
      const superblock = this.superblockOf(device, update);
      await device.member.writeDurable(encodeSuperblock(superblock), SUPERBLOCK_OFFSET_BYTES);
      device.superblock = superblock;
    };
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

  private superblockOf(device: Device, { stamp, roles, resyncOffset }: Update): Superblock {
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
      events: stamp.events,
      utime: stamp.utime,
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
