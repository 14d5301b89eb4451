import { STATE_FORMATS } from "../bitmap/on-disk.ts";
import { NbdRaidError } from "../errors.ts";
import type { Member } from "../member/member.ts";
import {
  BITMAP_SUPERBLOCK_BYTES,
  type BitmapSuperblock,
  decodeBitmapSuperblock,
} from "../metadata/bitmap-superblock.ts";
import { FEATURE_BITMAP_OFFSET } from "../metadata/features.ts";
import { BITMAP_FORMATS, bitmapBytes, type BitmapKind } from "../metadata/layout.ts";
import {
  decodeSuperblock,
  type Superblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  superblockSector,
} from "../metadata/superblock.ts";
import { readHeader, refuseForeign } from "./foreign.ts";

/** What a member says of itself. */
export interface MemberHeaders {
  readonly superblock: Superblock;
  /** Null: the array has none. An error: it should have one and it cannot be used. */
  readonly bitmap: BitmapSuperblock | NbdRaidError | null;
}

/** What the superblock says: the array has a bitmap, and this member a copy of it. */
export function hasBitmap({ featureMap }: Superblock): boolean {
  return (featureMap & FEATURE_BITMAP_OFFSET) !== 0;
}

/** Byte offset of the bitmap superblock on the member. */
export function bitmapOffsetBytes(superblock: Superblock): number {
  return SUPERBLOCK_OFFSET_BYTES + superblock.bitmapOffsetSectors * 512;
}

/**
 * Reads and checks superblock and bitmap superblock. Throws an NbdRaidError: member-too-small,
 * member-foreign, superblock-corrupt, superblock-unsupported, member-unreadable.
 */
export async function readHeaders(member: Member): Promise<MemberHeaders> {
  const bytes = await readHeader(member, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
  if (superblockSector(bytes) === null) await refuseForeign(member);
  const superblock = decodeSuperblock(bytes, member.path, Math.floor(member.sizeBytes / 512));
  if (!hasBitmap(superblock)) return { superblock, bitmap: null };
  const header = await readHeader(member, bitmapOffsetBytes(superblock), BITMAP_SUPERBLOCK_BYTES);
  return { superblock, bitmap: decodeBitmap(header, superblock, member.path) };
}

function decodeBitmap(
  bytes: Uint8Array,
  superblock: Superblock,
  path: string,
): BitmapSuperblock | NbdRaidError {
  try {
    const bitmap = decodeBitmapSuperblock(bytes, path);
    if (bitmap.uuid === superblock.setUuid) return bitmap;
    return new NbdRaidError("bitmap-corrupt", `${path}: the bitmap is another array's`);
  } catch (error) {
    if (error instanceof NbdRaidError) return error;
    throw error;
  }
}

/** The states on a member, one byte a region, whatever the kind of the bitmap. */
export async function readStates(
  member: Member,
  superblock: Superblock,
  kind: BitmapKind,
  regions: number,
): Promise<Uint8Array> {
  const { headerBytes } = BITMAP_FORMATS[kind];
  const offset = bitmapOffsetBytes(superblock) + headerBytes;
  const stored = await readHeader(member, offset, bitmapBytes(kind, regions) - headerBytes);
  return STATE_FORMATS[kind].unpack(stored, regions);
}
