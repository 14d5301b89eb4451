/** What storage holds before it becomes a member: superblocks of other arrays, other data. */
import type { Member } from "../member/member.ts";
import { SUPERBLOCK_BYTES, superblockSector } from "../metadata/superblock.ts";

const PIECE_BYTES = 1024 * 1024;
const SUPERBLOCK = new Uint8Array(SUPERBLOCK_BYTES);

/**
 * Byte offsets of md superblocks of any version 1, damaged ones too. One that does not say it
 * belongs where it was found is data: an image of a member inside the member.
 */
export async function findSuperblocks(member: Member): Promise<number[]> {
  const offsets: number[] = [];
  for (const sector of superblockSectors(Math.floor(member.sizeBytes / 512))) {
    const bytes = new Uint8Array(SUPERBLOCK_BYTES);
    await member.read(bytes, sector * 512);
    if (superblockSector(bytes) === sector) offsets.push(sector * 512);
  }
  return offsets;
}

/** The versions 1.1, 1.2 and 1.0 (super_1_load in md.c), as far as the member has room for them. */
function superblockSectors(memberSectors: number): number[] {
  const atEnd = memberSectors - 16;
  const sectors = [0, 8, atEnd - (atEnd % 8)];
  return sectors.filter((sector) => sector >= 0 && (sector + 8) * 512 <= memberSectors * 512);
}

/** Each on stable storage when it resolves. */
export async function zeroSuperblocks(member: Member, offsets: readonly number[]): Promise<void> {
  for (const offset of offsets) await member.writeDurable(SUPERBLOCK, offset);
}

/** The byte offset of the first byte that is not zero, or null: it is blank. Holes are not read. */
export async function findData(member: Member): Promise<number | null> {
  const end = member.sizeBytes;
  const buffer = new Uint8Array(PIECE_BYTES);
  let at = await member.nextData(0, end);
  while (at !== null) {
    const piece = buffer.subarray(0, end - at);
    await member.read(piece, at);
    const found = firstOtherThanZero(piece);
    if (found !== null) return at + found;
    at = await member.nextData(at + piece.length, end);
  }
  return null;
}

const ZEROES = Buffer.alloc(PIECE_BYTES);

function firstOtherThanZero(bytes: Uint8Array): number | null {
  if (ZEROES.compare(bytes, 0, bytes.length, 0, bytes.length) === 0) return null;
  return bytes.findIndex((byte) => byte !== 0);
}
