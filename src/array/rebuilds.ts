import type { WriteBitmap } from "../bitmap/bitmap.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import type { Device, Devices } from "./devices.ts";
import type { MetadataWriter } from "./metadata-writer.ts";

/** What rebuilds ask of the array around them. */
export interface RebuildHost {
  readonly geometry: AnyGeometry;
  readonly devices: Devices;
  readonly bitmap: WriteBitmap;
  readonly metadata: MetadataWriter;
  /** Resolves when everything written so far is durable on every member. */
  sync(): Promise<void>;
  /** An update could not be written; what it was to say stays in memory. */
  unrecorded(error: unknown): void;
}

/** How far members that are rebuilt have come: in memory, on disk, and when they are done. */
export class Rebuilds {
  private readonly host: RebuildHost;
  /** A target lacks something where the rebuild has been already. */
  private missed = false;

  constructor(host: RebuildHost) {
    this.host = host;
  }

  /** A first write turned a region that the rebuild may have passed, for nothing was written there. */
  turned(): void {
    this.missed = true;
  }

  /**
   * A target had no space for a write. What its superblock calls finished, md and, without a bitmap,
   * the next start would not look at again: from now on that is nothing. Updates are written one
   * after the other, so this one is there before any that says clean.
   */
  lacks(): void {
    const { devices, metadata } = this.host;
    this.missed = true;
    let isNew = false;
    for (const device of devices.rebuilding()) {
      if (device.recovery === null || device.recovery.lacks === true) continue;
      device.recovery = { ...device.recovery, offset: 0, lacks: true };
      isNew = true;
    }
    if (isNew) metadata.update().catch((error: unknown) => this.host.unrecorded(error));
  }

  /** Tracked bytes below `end` are copied: makes that durable, then records it. */
  async checkpoint(targets: readonly Device[], end: number): Promise<void> {
    const { geometry, metadata } = this.host;
    await this.host.sync();
    for (const device of targets) {
      if (device.recovery === null || device.recovery.lacks === true) continue;
      device.recovery = { ...device.recovery, offset: geometry.memberDone(end) };
    }
    await metadata.update();
  }

  /**
   * The targets hold everything: they are synced, hold the whole bitmap, and count from now on.
   * False if they lack something after all, and another run has to copy that.
   */
  async finish(targets: readonly Device[]): Promise<boolean> {
    const { bitmap, devices, metadata } = this.host;
    await this.host.sync();
    bitmap.touchAll();
    await bitmap.flush();
    const left = targets.filter((device) => device.state === "rebuilding");
    // Where a write found no space members may differ again.
    const again = this.missed || bitmap.regions.anySuspect();
    this.missed = false;
    for (const device of left) {
      device.state = again ? "rebuilding" : "in_sync";
      device.recovery = again ? { byBitmap: bitmap.persistent, offset: 0 } : null;
    }
    if (again) return false;
    devices.changed();
    await metadata.update();
    return true;
  }
}
