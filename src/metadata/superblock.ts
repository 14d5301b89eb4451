/**
 * md's version-1.2 superblock: bytes to values and back. No I/O. A superblock that decodes
 * encodes to the same bytes, so what other programs put there is kept.
 *
 * Layout, feature bits and refusals follow md_p.h and super_1_load in the kernel's md.c.
 */
import { assert, NbdRaidError } from "../errors.ts";
import { FEATURE_RAID0_LAYOUT, unsupportedFeatures } from "./features.ts";
import {
  type FieldTable,
  firstInvalid,
  readFields,
  s32,
  sectors,
  sectorsOr,
  text,
  timestamp,
  u16,
  u32,
  u64,
  u8,
  uuid,
  viewOf,
  writeFields,
} from "./fields.ts";
import { MAX_DEV, SUPERBLOCK_OFFSET_SECTORS, SUPERBLOCK_SECTORS } from "./layout.ts";
import { CLAIM_REFUSALS, refuse, type Refusal } from "./refusals.ts";
import type { Timestamp } from "./timestamp.ts";

/** Where a member holds its superblock, and how much of the member it takes. */
export const SUPERBLOCK_OFFSET_BYTES = SUPERBLOCK_OFFSET_SECTORS * 512;
export const SUPERBLOCK_BYTES = SUPERBLOCK_SECTORS * 512;
export const SET_NAME_BYTES = 32;

/** Roles that are not a slot. */
export const ROLE_SPARE = 0xffff;
export const ROLE_FAULTY = 0xfffe;
export const ROLE_JOURNAL = 0xfffd;

/** Bits of `devflags`. */
export const DEVFLAG_WRITE_MOSTLY = 0x1;

/** Names are md's, with the unit; what md leaves undocumented is in md_p.h. */
export interface Superblock {
  readonly featureMap: number;
  /** The array's uuid. */
  readonly setUuid: string;
  /** At most {@link SET_NAME_BYTES} of UTF-8. mdadm writes "host:name", or the name alone. */
  readonly setName: string;
  readonly ctime: Timestamp;
  readonly level: number;
  readonly layout: number;
  /** What the array uses of each member's data area. */
  readonly sizeSectors: number;
  readonly chunksizeSectors: number;
  readonly raidDisks: number;
  /** From the superblock to the bitmap superblock; counts with FEATURE_BITMAP_OFFSET. */
  readonly bitmapOffsetSectors: number;
  readonly newLevel: number;
  readonly reshapePositionSectors: number | "none";
  readonly deltaDisks: number;
  readonly newLayout: number;
  readonly newChunkSectors: number;
  readonly newOffsetSectors: number;
  /** Where the member's data area starts. */
  readonly dataOffsetSectors: number;
  readonly dataSizeSectors: number;
  /** From the start of the data area, recovered so far; counts with FEATURE_RECOVERY_OFFSET. */
  readonly recoveryOffsetSectors: number | "done";
  /** This member's index into `roles`. */
  readonly devNumber: number;
  readonly cntCorrectedRead: number;
  readonly deviceUuid: string;
  readonly devflags: number;
  readonly bblogShift: number;
  readonly bblogSizeSectors: number;
  readonly bblogOffsetSectors: number;
  readonly utime: Timestamp;
  readonly events: number;
  /** Where a resync would start. */
  readonly resyncOffsetSectors: number | "clean";
  /** Kept as found; 0 in arrays of ours: older kernels refuse anything else. */
  readonly logicalBlockSizeBytes: number;
  /** md's dev_roles: for each device number a slot or a ROLE_ constant. */
  readonly roles: readonly number[];
}

const MAGIC = 0xa92b4efc;
const MAJOR_VERSION = 1;
const FIXED_BYTES = 256;
const PADDING_START = 228;

/** Fields that hold no choice: what they must contain is checked, not kept. */
const magic = u32(0);
const majorVersion = u32(4);
const pad0 = u32(12);
const superOffset = u64(144);
const checksum = u32(216);
const maxDev = u32(220);

const FIELDS: FieldTable<Omit<Superblock, "roles">> = {
  featureMap: u32(8),
  setUuid: uuid(16),
  setName: text(32, SET_NAME_BYTES),
  ctime: timestamp(64),
  level: s32(72),
  layout: u32(76),
  sizeSectors: sectors(80),
  chunksizeSectors: u32(88),
  raidDisks: u32(92),
  bitmapOffsetSectors: s32(96),
  newLevel: s32(100),
  reshapePositionSectors: sectorsOr(104, "none"),
  deltaDisks: s32(112),
  newLayout: u32(116),
  newChunkSectors: u32(120),
  newOffsetSectors: s32(124),
  dataOffsetSectors: sectors(128),
  dataSizeSectors: sectors(136),
  recoveryOffsetSectors: sectorsOr(152, "done"),
  devNumber: u32(160),
  cntCorrectedRead: u32(164),
  deviceUuid: uuid(168),
  devflags: u8(184),
  bblogShift: u8(185),
  bblogSizeSectors: u16(186),
  bblogOffsetSectors: s32(188),
  utime: timestamp(192),
  events: u64(200),
  resyncOffsetSectors: sectorsOr(208, "clean"),
  logicalBlockSizeBytes: u32(224),
};

const role = (devNumber: number) => u16(FIXED_BYTES + 2 * devNumber);

/** A superblock of zeroes and spares, to be filled in by whoever makes an array. */
export function emptySuperblock(maxDevices: number): Superblock {
  const zeroes = readFields(FIELDS, new DataView(new ArrayBuffer(FIXED_BYTES)));
  return { ...zeroes, roles: new Array<number>(maxDevices).fill(ROLE_SPARE) };
}

/**
 * The role of device `devNumber`: a slot below `raidDisks`, or a ROLE_ constant. A number
 * without a role and a slot the array does not have make a spare, as in md.
 */
export function roleOf(superblock: Superblock, devNumber: number): number {
  const found = superblock.roles[devNumber] ?? ROLE_SPARE;
  return found >= superblock.raidDisks && found < ROLE_JOURNAL ? ROLE_SPARE : found;
}

/** The array's layout. Level 0 has one only with its feature; else 0: it is not known which. */
export function knownLayout({
  level,
  featureMap,
  layout,
}: Pick<Superblock, "level" | "featureMap" | "layout">): number {
  return level === 0 && (featureMap & FEATURE_RAID0_LAYOUT) === 0 ? 0 : layout;
}

/** The 4096 bytes to write at {@link SUPERBLOCK_OFFSET_BYTES}. */
export function encodeSuperblock(superblock: Superblock): Uint8Array {
  assert(superblock.roles.length <= MAX_DEV, "the roles fit the superblock");
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const view = viewOf(bytes);
  magic.write(view, MAGIC);
  majorVersion.write(view, MAJOR_VERSION);
  superOffset.write(view, SUPERBLOCK_OFFSET_SECTORS);
  maxDev.write(view, superblock.roles.length);
  writeFields(FIELDS, view, superblock);
  superblock.roles.forEach((value, devNumber) => {
    const field = role(devNumber);
    assert(field.valid(value), "a role has 16 bits");
    field.write(view, value);
  });
  checksum.write(view, computeChecksum(view));
  return bytes;
}

/**
 * The sector where the superblock that `bytes` start with belongs (of any version 1), or null:
 * there is none. It may be damaged.
 */
export function superblockSector(bytes: Uint8Array): number | null {
  const view = viewOf(bytes);
  return magic.read(view) === MAGIC ? superOffset.read(view) : null;
}

/**
 * `bytes` are the {@link SUPERBLOCK_BYTES} at {@link SUPERBLOCK_OFFSET_BYTES} of the member at
 * `path`, which is `memberSectors` long.
 *
 * Throws member-foreign (no superblock there), superblock-corrupt (one that contradicts itself)
 * or superblock-unsupported (one of a kind or with features that this program lacks).
 */
export function decodeSuperblock(
  bytes: Uint8Array,
  path: string,
  memberSectors: number,
): Superblock {
  assert(bytes.byteLength === SUPERBLOCK_BYTES, "a superblock is decoded from 4096 bytes");
  const view = viewOf(bytes);
  refuse(path, HEADER_REFUSALS, view);
  const fields = readFields(FIELDS, view);
  const roles = Array.from({ length: maxDev.read(view) }, (_, index) => role(index).read(view));
  const invalid = firstInvalid(FIELDS, fields);
  if (invalid !== null)
    throw new NbdRaidError("superblock-corrupt", `${path}: superblock: ${invalid} is out of range`);
  refuse(path, CLAIM_REFUSALS, { ...fields, memberSectors });
  return { ...fields, roles };
}

/**
 * The 32-bit words are summed in 64 bits, with the checksum itself as 0, and the two halves of
 * the sum added (calc_sb_1_csum). The sum stays below 2^42.
 */
function computeChecksum(view: DataView): number {
  const end = FIXED_BYTES + 2 * maxDev.read(view);
  const wordsEnd = end - (end % 4);
  let sum = -checksum.read(view);
  for (let at = 0; at < wordsEnd; at += 4) sum += view.getUint32(at, true);
  if (wordsEnd < end) sum += view.getUint16(wordsEnd, true);
  return ((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) % 2 ** 32;
}

/** In this order: until the checksum is known to be right, nothing else in there counts. */
const HEADER_REFUSALS: readonly Refusal<DataView>[] = [
  {
    code: "member-foreign",
    finds: (view) =>
      magic.read(view) === MAGIC ? null : `no md superblock at byte ${SUPERBLOCK_OFFSET_BYTES}`,
  },
  {
    code: "superblock-corrupt",
    finds: (view) =>
      maxDev.read(view) <= MAX_DEV
        ? null
        : `superblock has ${maxDev.read(view)} device roles; ${MAX_DEV} are possible`,
  },
  {
    code: "superblock-corrupt",
    finds: (view) =>
      checksum.read(view) === computeChecksum(view) ? null : "superblock checksum is wrong",
  },
  {
    code: "superblock-unsupported",
    finds: (view) =>
      majorVersion.read(view) === MAJOR_VERSION
        ? null
        : `metadata version ${majorVersion.read(view)} is not supported, only 1.2`,
  },
  {
    // The minor version is nowhere but in the position: 1.0 lies near the end, 1.1 at sector 0.
    code: "superblock-unsupported",
    finds: (view) =>
      superOffset.read(view) === SUPERBLOCK_OFFSET_SECTORS
        ? null
        : `superblock belongs at sector ${superOffset.read(view)}; only metadata 1.2, ` +
          `at sector ${SUPERBLOCK_OFFSET_SECTORS}, is supported`,
  },
  {
    // md: "Some padding is non-zero": the mark of a feature from the future.
    code: "superblock-unsupported",
    finds: (view) => (paddingIsZero(view) ? null : "superblock uses fields unknown so far"),
  },
  {
    code: "superblock-unsupported",
    finds: (view) => {
      const names = unsupportedFeatures(FIELDS.featureMap.read(view));
      return names.length === 0 ? null : `not supported: ${names.join(", ")}`;
    },
  },
];

function paddingIsZero(view: DataView): boolean {
  const padding = new Uint8Array(view.buffer, view.byteOffset + PADDING_START, 28);
  return pad0.read(view) === 0 && padding.every((byte) => byte === 0);
}
