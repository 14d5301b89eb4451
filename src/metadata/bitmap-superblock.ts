/**
 * The superblock of a lockless bitmap (version 6): bytes to values and back. No I/O. It takes
 * the first 256 of {@link BITMAP_HEADER_BYTES}; the states follow behind those, a byte a region.
 */
import { assert, NbdRaidError } from "../errors.ts";
import {
  type FieldTable,
  firstInvalid,
  readFields,
  sectors,
  u32,
  u64,
  uuid,
  viewOf,
  writeFields,
} from "./fields.ts";
import { readKnownZeroRecord, writeKnownZeroRecord, type KnownZeroRecord } from "./known-zero.ts";
import { BITMAP_HEADER_BYTES, regionBytesFor, regionCount } from "./layout.ts";

/** Bits of `state`. */
export const BITMAP_STALE = 0x2;
export const BITMAP_WRITE_ERROR = 0x4;
/** Nothing else in there counts: the bitmap is to be initialised. */
export const BITMAP_FIRST_USE = 0x8;
/** With FIRST_USE: initialise to Clean, not Unwritten. */
export const BITMAP_CLEAN = 0x10;

export interface BitmapSuperblock {
  /** The array's uuid. */
  readonly uuid: string;
  /** The array's events when this was written. */
  readonly events: number;
  /** The events up to which the bitmap has forgotten; 0 is unknown (the kernel's llbitmap). */
  readonly eventsCleared: number;
  /** What the bitmap covers: sectors of a member, at level 10 of the array. */
  readonly syncSizeSectors: number;
  readonly state: number;
  /** md's chunksize, which at version 6 alone is in sectors. */
  readonly regionSectors: number;
  readonly daemonSleepSeconds: number;
  readonly writeBehind: number;
  /** Space for header and states together. */
  readonly sectorsReserved: number;
  /** Null if there is no record, or a damaged one. See {@link knownZeroRecordValid}. */
  readonly knownZero: KnownZeroRecord | null;
}

const MAGIC = 0x6d746962;
const VERSION_LOCKLESS = 6;
const FIELDS_END = 256;
/** What the kernel takes for `sectors_reserved` 0: the rest of a 4096-byte block. */
const SECTORS_RESERVED_DEFAULT = 6;
const HEADER_SECTORS = BITMAP_HEADER_BYTES / 512;

const magic = u32(0);
const version = u32(4);

const FIELDS: FieldTable<Omit<BitmapSuperblock, "knownZero">> = {
  uuid: uuid(8),
  events: u64(24),
  eventsCleared: u64(32),
  syncSizeSectors: sectors(40),
  state: u32(48),
  regionSectors: u32(52),
  daemonSleepSeconds: u32(56),
  writeBehind: u32(60),
  sectorsReserved: u32(64),
};

const OTHER_VERSIONS = new Map([
  [3, "internal, of the byte order of its host"],
  [4, "internal"],
  [5, "clustered"],
]);

/** The header to write at the bitmap's offset; it ends where the states begin. */
export function encodeBitmapSuperblock(superblock: BitmapSuperblock): Uint8Array {
  const { knownZero, ...fields } = superblock;
  const bytes = new Uint8Array(BITMAP_HEADER_BYTES);
  const view = viewOf(bytes);
  magic.write(view, MAGIC);
  version.write(view, VERSION_LOCKLESS);
  writeFields(FIELDS, view, fields);
  if (knownZero !== null) writeKnownZeroRecord(bytes, knownZero);
  return bytes;
}

/**
 * `bytes` start with the bitmap superblock of the member at `path`.
 *
 * Throws bitmap-corrupt (none there, or one that contradicts itself) or superblock-unsupported
 * (a bitmap of another version).
 */
export function decodeBitmapSuperblock(bytes: Uint8Array, path: string): BitmapSuperblock {
  assert(bytes.byteLength >= FIELDS_END, "a bitmap superblock is decoded from 256 bytes");
  const view = viewOf(bytes);
  if (magic.read(view) !== MAGIC) throw corrupt(path, "no bitmap superblock");
  checkVersion(version.read(view), path);
  const fields = readFields(FIELDS, view);
  const invalid = firstInvalid(FIELDS, fields);
  if (invalid !== null) throw corrupt(path, `${invalid} is out of range`);
  // mdadm writes placeholders with FIRST_USE, among them a region size in bytes.
  if ((fields.state & BITMAP_FIRST_USE) === 0) checkGeometry(fields, path);
  return { ...fields, knownZero: readKnownZeroRecord(bytes) };
}

/** Null unless the bitmap is yet to be initialised: then the state of all regions. */
export function firstUseState({ state }: BitmapSuperblock): "unwritten" | "clean" | null {
  if ((state & BITMAP_FIRST_USE) === 0) return null;
  return (state & BITMAP_CLEAN) === 0 ? "unwritten" : "clean";
}

/** Bytes of a region, also where the bitmap leaves it to its first user. */
export function regionBytesOf(superblock: BitmapSuperblock): number {
  if (firstUseState(superblock) === null) return superblock.regionSectors * 512;
  const reserved = superblock.sectorsReserved || HEADER_SECTORS + SECTORS_RESERVED_DEFAULT;
  // One sector of states at least, or no region would be large enough.
  return regionBytesFor(superblock.syncSizeSectors * 512, Math.max(reserved, HEADER_SECTORS + 1));
}

function checkVersion(found: number, path: string): void {
  if (found === VERSION_LOCKLESS) return;
  const kind = OTHER_VERSIONS.get(found) ?? "unknown";
  throw new NbdRaidError(
    "superblock-unsupported",
    `${path}: bitmap version ${found} (${kind}) is not supported, only ${VERSION_LOCKLESS}`,
  );
}

/** As llbitmap_read_sb. The header is not counted in the space: nor does the kernel. */
function checkGeometry(fields: Omit<BitmapSuperblock, "knownZero">, path: string): void {
  const { regionSectors, syncSizeSectors, daemonSleepSeconds } = fields;
  if (regionSectors === 0 || (regionSectors & (regionSectors - 1)) !== 0)
    throw corrupt(path, `a region of ${regionSectors} sectors is no power of two`);
  const regions = regionCount(syncSizeSectors, regionSectors);
  const space = (fields.sectorsReserved || SECTORS_RESERVED_DEFAULT) * 512;
  if (regions > space) throw corrupt(path, `${regions} regions do not fit in ${space} bytes`);
  if (daemonSleepSeconds === 0) throw corrupt(path, "a daemon sleep of 0 seconds");
}

function corrupt(path: string, what: string): NbdRaidError {
  return new NbdRaidError("bitmap-corrupt", `${path}: bitmap superblock: ${what}`);
}
