/** Members that are to be members no more. */
import { NbdRaidError } from "../errors.ts";
import { FileMember } from "../member/file.ts";
import type { Member } from "../member/member.ts";
import { BITMAP_SUPERBLOCK_BYTES } from "../metadata/bitmap-superblock.ts";
import { FEATURE_BITMAP_OFFSET } from "../metadata/features.ts";
import { findSuperblocks, zeroSuperblocks } from "./blank.ts";
import { bitmapOffsetBytes, readHeaders } from "./headers.ts";
import { findPlace, refuseTwice } from "./places.ts";

/**
 * Makes members forget their arrays, durably; their data stays. Nothing is written before all of
 * them are open and were found to have something to forget: then an error is one of the storage,
 * and those before it are done.
 *
 * Throws an NbdRaidError: member-foreign (no md superblock), member-in-use, member-listed-twice,
 * member-not-file, member-unreadable; or a MemberError.
 */
export async function forgetArrays(paths: readonly string[]): Promise<void> {
  refuseTwice(await Promise.all(paths.map(findPlace)));
  const members: FileMember[] = [];
  try {
    for (const path of paths) members.push(await FileMember.open(path, { readOnly: false }));
    const forgets: (() => Promise<void>)[] = [];
    for (const member of members) forgets.push(await findMetadata(member));
    for (const forget of forgets) await forget();
  } finally {
    await Promise.all(members.map((member) => member.close()));
  }
}

/** What zeroes it. */
async function findMetadata(member: Member): Promise<() => Promise<void>> {
  const bitmapOffset = await findBitmap(member);
  const superblocks = await findSuperblocks(member);
  if (superblocks.length === 0)
    throw new NbdRaidError("member-foreign", `${member.path} has no md superblock`);
  return async () => {
    await zeroSuperblocks(member, superblocks);
    if (bitmapOffset === null) return;
    await member.writeDurable(new Uint8Array(BITMAP_SUPERBLOCK_BYTES), bitmapOffset);
  };
}

/** Null also where the superblock is damaged: then there is no telling. */
async function findBitmap(member: Member): Promise<number | null> {
  try {
    const { superblock } = await readHeaders(member);
    const hasBitmap = (superblock.featureMap & FEATURE_BITMAP_OFFSET) !== 0;
    return hasBitmap ? bitmapOffsetBytes(superblock) : null;
  } catch (error) {
    if (error instanceof NbdRaidError) return null;
    throw error;
  }
}
