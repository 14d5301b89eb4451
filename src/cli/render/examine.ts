import type { ExaminedBitmap, ExaminedMember } from "../../array/examine.ts";
import { arraySizeBytes, layoutInWords, type MdSuperblock } from "../../array/md-fields.ts";
import { FEATURE_RECOVERY_OFFSET } from "../../metadata/features.ts";
import { formatBytes } from "../sizes.ts";
import { printable } from "./printable.ts";
import { renderTime } from "./sync.ts";

type Line = [label: string, value: string];

const SECTOR_BYTES = 512;
/** dev_roles from here on are no slots (md_p.h: spare, faulty, journal). */
const ROLES: Readonly<Record<number, string>> = { 0xffff: "spare", 0xfffe: "faulty" };
const SLOT_MAX = 0xff00;

/** One member as `mdadm --examine` shows it, and what its bitmap says. */
export function renderExamined(member: ExaminedMember): string {
  const { path, error, superblock, bitmap } = printable(member);
  const lines: Line[] = [];
  if (superblock !== null) lines.push(...superblockLines(superblock));
  if (bitmap !== null) lines.push(...bitmapLines(bitmap));
  if (error !== null) lines.push(["Error", error]);
  const width = Math.max(...lines.map(([label]) => label.length));
  return `${path}:\n${lines.map(([label, value]) => `  ${label.padStart(width)} : ${value}\n`).join("")}`;
}

function superblockLines(superblock: MdSuperblock): Line[] {
  return [
    ["Magic", superblock.magic.toString(16)],
    ["Version", `${superblock.major_version}.2`],
    ["Feature Map", `0x${superblock.feature_map.toString(16)}`],
    ["Array UUID", superblock.set_uuid],
    ["Name", superblock.set_name],
    ["Creation Time", renderTime(superblock.ctime)],
    ["Raid Level", superblock.level < 0 ? "linear" : `raid${superblock.level}`],
    ...layoutLines(superblock),
    ["Raid Devices", String(superblock.raid_disks)],
    ["Avail Dev Size", sectors(superblock.data_size)],
    ...sizeLines(superblock),
    ["Data Offset", `${superblock.data_offset} sectors`],
    ["Super Offset", `${superblock.super_offset} sectors`],
    ["State", superblock.resync_offset === null ? "clean" : "active"],
    ...recoveryLines(superblock),
    ["Device UUID", superblock.device_uuid],
    ["Update Time", renderTime(superblock.utime)],
    ["Checksum", `${superblock.sb_csum.toString(16)} - correct`],
    ["Events", String(superblock.events)],
    ["Device Role", deviceRole(superblock)],
    ["Array State", `${arrayState(superblock)} ('A' == active, '.' == missing)`],
  ];
}

/** mdadm's words: a linear array has no chunks, but may be rounded to some. */
function layoutLines(superblock: MdSuperblock): Line[] {
  const { level, chunksize } = superblock;
  const layout = layoutInWords(superblock);
  const lines: Line[] = layout === null ? [] : [["Layout", layout]];
  if (chunksize === 0) return lines;
  const size = formatBytes(chunksize * SECTOR_BYTES);
  return [...lines, [level < 0 ? "Rounding" : "Chunk Size", size]];
}

/** Levels 0 and linear use all of each member: the size of the array is in all superblocks. */
function sizeLines(superblock: MdSuperblock): Line[] {
  if (superblock.level <= 0) return [];
  const used: Line = ["Used Dev Size", sectors(superblock.size)];
  const size = arraySizeBytes(superblock);
  return size === null ? [used] : [["Array Size", sectors(size / SECTOR_BYTES)], used];
}

/** Only a member that is being rebuilt has one. */
function recoveryLines({ feature_map, recovery_offset }: MdSuperblock): Line[] {
  if ((feature_map & FEATURE_RECOVERY_OFFSET) === 0 || recovery_offset === null) return [];
  return [["Recovery Offset", `${recovery_offset} sectors`]];
}

function bitmapLines(bitmap: ExaminedBitmap): Line[] {
  return [
    ["Bitmap", `${bitmap.type}, ${bitmap.regions} regions of ${formatBytes(bitmap.regionSize)}`],
    ["Bitmap Events", `${bitmap.events}, cleared at ${bitmap.events_cleared}`],
    ...regionLines(bitmap),
  ];
}

/** An internal bitmap has a bit a region: that is all it can tell. */
function regionLines(bitmap: ExaminedBitmap): Line[] {
  const { unwritten, clean, dirty, needSync, syncing } = bitmap;
  if (bitmap.type === "internal") return [["Regions", `${clean} clean, ${dirty} dirty`]];
  return [
    ["Unwritten Regions", bitmap.knownZero ? "read as zeroes" : "may hold anything"],
    [
      "Regions",
      `${unwritten} unwritten, ${clean} clean, ${dirty} dirty, ` +
        `${needSync} need sync, ${syncing} syncing`,
    ],
  ];
}

function sectors(count: number): string {
  return `${count} sectors (${formatBytes(count * SECTOR_BYTES)})`;
}

function deviceRole({ dev_number, dev_roles }: MdSuperblock): string {
  const role = dev_roles[dev_number] ?? 0xffff;
  return ROLES[role] ?? `Active device ${role}`;
}

/** A letter a slot: does this member know an active one there? */
export function arrayState({ raid_disks, dev_roles }: MdSuperblock): string {
  const active = new Set(dev_roles.filter((role) => role < SLOT_MAX));
  return Array.from({ length: raid_disks }, (_, slot) => (active.has(slot) ? "A" : ".")).join("");
}
