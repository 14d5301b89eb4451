import type { Regions } from "../bitmap/regions.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import { hasAllData } from "../raid/parity-copy.ts";
import type { SyncJob } from "../sync/engine.ts";
import type { Device, Devices } from "./devices.ts";

/** A sync, and whom it rebuilds. */
export interface SyncPlan {
  readonly job: SyncJob;
  readonly targets: readonly Device[];
}

/**
 * The sync that is needed now: recovery before resync. Null: none is, or none could do anything,
 * for want of members.
 */
export function neededSync(
  geometry: AnyGeometry,
  devices: Devices,
  regions: Regions,
): SyncPlan | null {
  if (!geometry.redundant) return null;
  const job = { requested: false, markedOnlyBelow: regions.count, suspectOnly: false };
  const targets = devices.rebuilding();
  if (targets.length > 0) {
    const from = targets.map(({ recovery }) =>
      recovery === null || recovery.byBitmap
        ? regions.count
        : regions.at(geometry.trackedDone(recovery.offset)),
    );
    const markedOnlyBelow = Math.min(...from);
    return { job: { ...job, action: "recovery", markedOnlyBelow }, targets };
  }
  if (devices.inSync.length < 2) return null;
  // What an absent member lacks stays marked for it; what in-sync members may differ in does not.
  const suspectOnly = devices.absent > 0;
  const needed = suspectOnly
    ? anyToResync(geometry, devices, regions)
    : regions.counts().needSync > 0;
  return needed ? { job: { ...job, action: "resync", suspectOnly }, targets } : null;
}

/** True if members that are here may differ where they can be made consistent. */
function anyToResync(geometry: AnyGeometry, devices: Devices, regions: Regions): boolean {
  if (geometry.kind !== "parity") return regions.anySuspect();
  const has = (slot: number): boolean => devices.inSyncAt(slot) !== null;
  for (let region = 0; region < regions.count; region++) {
    if (!regions.isSuspect(region)) continue;
    const offset = region * regions.regionBytes;
    const length = Math.min(regions.regionBytes, regions.trackedBytes - offset);
    if (hasAllData(geometry, offset, length, has)) return true;
  }
  return false;
}
