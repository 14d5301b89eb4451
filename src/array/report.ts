import type { WriteBitmap } from "../bitmap/bitmap.ts";
import type { Daemon } from "../bitmap/daemon.ts";
import type { Regions } from "../bitmap/regions.ts";
import type { BitmapKind } from "../metadata/layout.ts";
import { levelName } from "../metadata/levels.ts";
import { layoutName } from "../raid/geometry/layouts.ts";
import type { ArrayDescription } from "./description.ts";
import type { Device, Devices } from "./devices.ts";
import type { Failures } from "./failures.ts";
import type { MetadataWriter } from "./metadata-writer.ts";
import type { ArrayStatus, BitmapStatus, MemberStatus } from "./status.ts";
import type { Syncs } from "./syncs.ts";

/** What of a running array its status tells about. */
export interface ReportedArray {
  readonly about: ArrayDescription;
  readonly readOnly: boolean;
  readonly isActive: boolean;
  readonly devices: Devices;
  readonly regions: Regions;
  readonly bitmap: WriteBitmap;
  readonly daemon: Daemon;
  readonly syncs: Syncs;
  readonly failures: Failures;
  readonly metadata: MetadataWriter;
  readonly stripeWrites: ArrayStatus["stripeWrites"];
  /** What `Member.identity` would be of what a path leads to, or null: it leads to no member. */
  readonly identify: (path: string) => string | null;
}

/** The status of a running array, in the shape of `status --json`. */
export function describeArray(array: ReportedArray): ArrayStatus {
  const { about, devices, metadata, syncs } = array;
  return {
    name: about.name,
    uuid: about.uuid,
    level: levelName(about.shape.level) ?? "1",
    layout: layoutName(about.shape.level, about.shape.layout),
    chunkSize: about.shape.chunkBytes === 0 ? null : about.shape.chunkBytes,
    size: about.geometry.sizeBytes,
    raidDisks: about.shape.raidDisks,
    events: metadata.events,
    state: stateOf(array),
    degraded: devices.degraded,
    mismatchCount: syncs.mismatchSectors,
    knownZero: metadata.knownZero,
    suspectBytes: array.regions.suspectBytes(),
    stripeWrites: array.stripeWrites,
    members: [
      ...devices.slots.map((device, slot) => describeSlot(array, device, slot)),
      ...devices.others.map((device) => describeDevice(array, device)),
    ],
    bitmap: about.bitmap === "none" ? null : describeBitmap(about.bitmap, array),
    sync: syncs.status(),
    lastSync: syncs.lastSync,
  };
}

function stateOf(array: ReportedArray): ArrayStatus["state"] {
  if (array.failures.failed !== null) return "failed";
  if (array.readOnly) return "read-only";
  return array.isActive ? "active" : "clean";
}

function describeSlot(array: ReportedArray, device: Device | null, slot: number): MemberStatus {
  if (device !== null) return describeDevice(array, device);
  const counters = { writeMostly: false, readErrors: 0, writeErrors: 0 };
  return { slot, path: null, state: "missing", ...counters, unlinked: false };
}

function describeDevice(array: ReportedArray, device: Device): MemberStatus {
  const { slot, state, writeMostly, readErrors, writeErrors } = device;
  const { path, identity } = device.member;
  const unlinked = array.identify(path) !== identity;
  return { slot, path, state, writeMostly, readErrors, writeErrors, unlinked };
}

function describeBitmap(type: BitmapKind, array: ReportedArray): BitmapStatus {
  const { regions, bitmap, daemon } = array;
  const { oldestDirtyMs, lastRun } = daemon;
  const counts = regions.counts();
  const noneDirty = counts.dirty === 0 || oldestDirtyMs === null;
  return {
    type,
    regionSize: regions.regionBytes,
    regions: regions.count,
    ...counts,
    blocksWritten: bitmap.blocksWritten,
    infections: bitmap.infections,
    daemonLastRun: lastRun === null ? null : Math.floor(lastRun / 1000),
    oldestDirtySeconds: noneDirty ? null : Math.round(oldestDirtyMs / 1000),
  };
}
