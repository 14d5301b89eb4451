/**
 * The superblock of a bitmap: bytes to values and back. No I/O. Version 6 is the lockless bitmap,
 * version 4 md's classic one ("internal"). What follows behind its 256 bytes is said by
 * {@link BITMAP_FORMATS}.
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
import {
  BITMAP_FORMATS,
  BITMAP_KINDS,
  type BitmapKind,
  bitmapBytes,
  regionBytesFor,
  regionCount,
} from "./layout.ts";

/** Bits of `state`. */
export const BITMAP_STALE = 0x2;
export const BITMAP_WRITE_ERROR = 0x4;
/** Nothing else in there counts: the bitmap is to be initialised. Lockless bitmaps only. */
export const BITMAP_FIRST_USE = 0x8;
/** With FIRST_USE: initialise to Clean, not Unwritten. */
export const BITMAP_CLEAN = 0x10;

export interface BitmapSuperblock {
  readonly kind: BitmapKind;
  /** The array's uuid. */
  readonly uuid: string;
  /** The array's events when this was written. */
  readonly events: number;
  /** The events up to which the bitmap has forgotten; 0 is unknown (the kernel's llbitmap). */
  readonly eventsCleared: number;
  /** What the bitmap covers: sectors of a member, at level 10 of the array. */
  readonly syncSizeSectors: number;
  readonly state: number;
  /** md's chunksize: on disk it is in sectors at version 6 alone, in bytes otherwise. */
  readonly regionSectors: number;
  readonly daemonSleepSeconds: number;
  readonly writeBehind: number;
  /** Space for header and states together; 0 is unknown. */
  readonly sectorsReserved: number;
  /**
   * Null if there is no record, or a damaged one; always null for an internal bitmap, which has
   * no Unwritten regions. See {@link knownZeroRecordValid}.
   */
  readonly knownZero: KnownZeroRecord | null;
}

const MAGIC = 0x6d746962;
/** The superblock itself, of either kind. */
export const BITMAP_SUPERBLOCK_BYTES = 256;
/** What the kernel's llbitmap takes for `sectors_reserved` 0: the rest of a 4096-byte block. */
const SECTORS_RESERVED_DEFAULT = 6;
/** The kernel's COUNTER_MAX. */
const WRITE_BEHIND_MAX = 2 ** 14 - 1;
const LOCKLESS_HEADER_SECTORS = BITMAP_FORMATS.lockless.headerBytes / 512;

/** The fields as they lie on disk. */
type Fields = Omit<BitmapSuperblock, "kind" | "knownZero" | "regionSectors"> & {
  readonly chunksize: number;
};

const magic = u32(0);
const version = u32(4);

const FIELDS: FieldTable<Fields> = {
  uuid: uuid(8),
  events: u64(24),
  eventsCleared: u64(32),
  syncSizeSectors: sectors(40),
  state: u32(48),
  chunksize: u32(52),
  daemonSleepSeconds: u32(56),
  writeBehind: u32(60),
  sectorsReserved: u32(64),
};

interface Version {
  readonly number: number;
  /** Bytes that one of `chunksize` stands for. */
  readonly chunkUnitBytes: number;
}

const VERSIONS: Readonly<Record<BitmapKind, Version>> = {
  lockless: { number: 6, chunkUnitBytes: 512 },
  internal: { number: 4, chunkUnitBytes: 1 },
};

const OTHER_VERSIONS = new Map([
  [3, "internal, of the byte order of its host"],
  [5, "clustered"],
]);

/** The header to write at the bitmap's offset; it ends where the states begin. */
export function encodeBitmapSuperblock(superblock: BitmapSuperblock): Uint8Array {
  const { kind, knownZero, regionSectors, ...fields } = superblock;
  assert(kind === "lockless" || knownZero === null, "only a lockless bitmap is known-zero");
  const { number, chunkUnitBytes } = VERSIONS[kind];
  const bytes = new Uint8Array(BITMAP_FORMATS[kind].headerBytes);
  const view = viewOf(bytes);
  magic.write(view, MAGIC);
  version.write(view, number);
  writeFields(FIELDS, view, { ...fields, chunksize: (regionSectors * 512) / chunkUnitBytes });
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
  assert(
    bytes.byteLength >= BITMAP_SUPERBLOCK_BYTES,
    "a bitmap superblock is decoded from 256 bytes",
  );
  const view = viewOf(bytes);
  if (magic.read(view) !== MAGIC) throw corrupt(path, "no bitmap superblock");
  const kind = kindOf(version.read(view), path);
  const raw = readFields(FIELDS, view);
  const invalid = firstInvalid(FIELDS, raw);
  if (invalid !== null) throw corrupt(path, `${invalid} is out of range`);
  const { chunksize, ...fields } = raw;
  const regionSectors = (chunksize * VERSIONS[kind].chunkUnitBytes) / 512;
  const knownZero = kind === "lockless" ? readKnownZeroRecord(bytes) : null;
  const superblock = { kind, ...fields, regionSectors, knownZero };
  // mdadm writes placeholders with FIRST_USE, among them a region size in bytes.
  if (firstUseState(superblock) === null) check(superblock, path);
  return superblock;
}

/** Null unless the bitmap is yet to be initialised: then the state of all regions. */
export function firstUseState(
  superblock: Pick<BitmapSuperblock, "kind" | "state">,
): "unwritten" | "clean" | null {
  const { kind, state } = superblock;
  if (kind !== "lockless" || (state & BITMAP_FIRST_USE) === 0) return null;
  return (state & BITMAP_CLEAN) === 0 ? "unwritten" : "clean";
}

/** Bytes of a region, also where the bitmap leaves it to its first user. */
export function regionBytesOf(superblock: BitmapSuperblock): number {
  if (firstUseState(superblock) === null) return superblock.regionSectors * 512;
  const { kind, syncSizeSectors, sectorsReserved } = superblock;
  const reserved = sectorsReserved || LOCKLESS_HEADER_SECTORS + SECTORS_RESERVED_DEFAULT;
  // One sector of states at least, or no region would be large enough.
  return regionBytesFor(
    kind,
    syncSizeSectors * 512,
    Math.max(reserved, LOCKLESS_HEADER_SECTORS + 1),
  );
}

function kindOf(found: number, path: string): BitmapKind {
  for (const kind of BITMAP_KINDS) if (VERSIONS[kind].number === found) return kind;
  const other = OTHER_VERSIONS.get(found) ?? "unknown";
  throw new NbdRaidError(
    "superblock-unsupported",
    `${path}: bitmap version ${found} (${other}) is not supported, only 4 and 6`,
  );
}

/** As llbitmap_read_sb and md_bitmap_read_sb. */
function check(found: BitmapSuperblock, path: string): void {
  const { kind, regionSectors, syncSizeSectors } = found;
  if (!Number.isInteger(Math.log2(regionSectors)) || regionSectors < 1)
    throw corrupt(path, `a region of ${regionSectors} sectors is no power of two`);
  const regions = regionCount(syncSizeSectors, regionSectors);
  const { needed, space } = SPACE[kind](regions, found.sectorsReserved * 512);
  if (needed > space) throw corrupt(path, `${regions} regions do not fit in ${space} bytes`);
  if (found.daemonSleepSeconds === 0) throw corrupt(path, "a daemon sleep of 0 seconds");
  if (kind === "internal" && found.writeBehind > WRITE_BEHIND_MAX)
    throw corrupt(path, `a write-behind limit of ${found.writeBehind}`);
}

/** Bytes that so many regions need, and what they have of the `reserved` ones. */
const SPACE: Readonly<
  Record<BitmapKind, (regions: number, reserved: number) => { needed: number; space: number }>
> = {
  // The header is not counted in the space: nor does the kernel.
  lockless: (regions, reserved) => ({
    needed: regions,
    space: reserved || SECTORS_RESERVED_DEFAULT * 512,
  }),
  // 0 is from before mdadm 3.3: the space is known only to whoever knows the data offset.
  internal: (regions, reserved) => ({
    needed: bitmapBytes("internal", regions),
    space: reserved || Infinity,
  }),
};

function corrupt(path: string, what: string): NbdRaidError {
  return new NbdRaidError("bitmap-corrupt", `${path}: bitmap superblock: ${what}`);
}
