import { viewOf } from "../metadata/fields.ts";
import {
  encodeSuperblock,
  knownLayout,
  ROLE_SPARE,
  type Superblock,
} from "../metadata/superblock.ts";
import { layoutName, layoutNames } from "../raid/geometry/layouts.ts";
import { geometryOf } from "../raid/geometry/of.ts";
import { shapeRefusal } from "../raid/geometry/refusals.ts";

/** A superblock by md's own names and in md's own units (md_p.h: sectors of 512 bytes). */
export type MdSuperblock = ReturnType<typeof mdSuperblock>;

/**
 * Times are Unix seconds. Null is md's all-ones: `resync_offset` clean, `recovery_offset` done,
 * `reshape_position` none. `dev_roles` ends where only spares follow.
 */
export function mdSuperblock(superblock: Superblock) {
  // A superblock that was decoded encodes to the bytes it came from.
  const view = viewOf(encodeSuperblock(superblock));
  const { roles, resyncOffsetSectors, recoveryOffsetSectors, reshapePositionSectors } = superblock;
  return {
    magic: view.getUint32(0, true),
    major_version: view.getUint32(4, true),
    feature_map: superblock.featureMap,
    set_uuid: superblock.setUuid,
    set_name: superblock.setName,
    ctime: superblock.ctime.seconds,
    level: superblock.level,
    layout: superblock.layout,
    size: superblock.sizeSectors,
    chunksize: superblock.chunksizeSectors,
    raid_disks: superblock.raidDisks,
    bitmap_offset: superblock.bitmapOffsetSectors,
    new_level: superblock.newLevel,
    reshape_position: reshapePositionSectors === "none" ? null : reshapePositionSectors,
    delta_disks: superblock.deltaDisks,
    new_layout: superblock.newLayout,
    new_chunk: superblock.newChunkSectors,
    new_offset: superblock.newOffsetSectors,
    data_offset: superblock.dataOffsetSectors,
    data_size: superblock.dataSizeSectors,
    super_offset: Number(view.getBigUint64(144, true)),
    recovery_offset: recoveryOffsetSectors === "done" ? null : recoveryOffsetSectors,
    dev_number: superblock.devNumber,
    cnt_corrected_read: superblock.cntCorrectedRead,
    device_uuid: superblock.deviceUuid,
    devflags: superblock.devflags,
    bblog_shift: superblock.bblogShift,
    bblog_size: superblock.bblogSizeSectors,
    bblog_offset: superblock.bblogOffsetSectors,
    utime: superblock.utime.seconds,
    events: superblock.events,
    resync_offset: resyncOffsetSectors === "clean" ? null : resyncOffsetSectors,
    sb_csum: view.getUint32(216, true),
    max_dev: roles.length,
    logical_block_size: superblock.logicalBlockSizeBytes,
    dev_roles: roles.slice(0, roles.findLastIndex((role) => role !== ROLE_SPARE) + 1),
  };
}

/** mdadm's name of the layout, its number if it has none; null: the array has no layout. */
export function layoutInWords({ level, layout, feature_map }: MdSuperblock): string | null {
  if (layoutNames(level) === null) return null;
  const known = knownLayout({ level, layout, featureMap: feature_map });
  if (level === 0 && known === 0) return "unknown";
  return layoutName(level, known) ?? String(known);
}

/** Bytes. Null: one member does not know (levels 0 and linear), or there can be no such array. */
export function arraySizeBytes(superblock: MdSuperblock): number | null {
  const shape = {
    level: superblock.level,
    layout: superblock.layout,
    chunkBytes: superblock.chunksize * SECTOR_BYTES,
    raidDisks: superblock.raid_disks,
    componentBytes: superblock.size * SECTOR_BYTES,
    dataBytes: [],
  };
  const known = superblock.level > 0 && shapeRefusal(shape) === null;
  return known ? geometryOf(shape).sizeBytes : null;
}

const SECTOR_BYTES = 512;
