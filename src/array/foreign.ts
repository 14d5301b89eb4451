/** Members without a superblock of ours to read: what else they are, by name. */
import { NbdRaidError } from "../errors.ts";
import type { Member } from "../member/member.ts";
import { FOREIGN_DATA, FOREIGN_RAID, type ForeignSign } from "../metadata/foreign.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../metadata/superblock.ts";

/**
 * Throws superblock-unsupported if the member has another RAID's metadata, or md's of another
 * version; member-foreign if it is known for something else; or as {@link readHeader}. Returns if
 * it cannot tell.
 */
export async function refuseForeign(member: Member): Promise<void> {
  const raid = await findSign(member, FOREIGN_RAID);
  if (raid !== null) {
    const message = `${member.path}: has ${raid}; only md metadata 1.2 is supported`;
    throw new NbdRaidError("superblock-unsupported", message);
  }
  const data = await findSign(member, FOREIGN_DATA);
  if (data !== null) {
    const message = `${member.path}: holds ${data}, no md superblock at byte ${SUPERBLOCK_OFFSET_BYTES}`;
    throw new NbdRaidError("member-foreign", message);
  }
}

async function findSign(member: Member, signs: readonly ForeignSign[]): Promise<string | null> {
  for (const { at, length, reads } of signs) {
    const offset = at(member.sizeBytes);
    if (offset < 0 || offset + length > member.sizeBytes) continue;
    const name = reads(await readHeader(member, offset, length), offset);
    if (name !== null) return name;
  }
  return null;
}

/** Throws member-too-small or member-unreadable. */
export async function readHeader(
  member: Member,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  if (offset < 0 || offset + length > member.sizeBytes) {
    const message = `${member.path}: ${member.sizeBytes} bytes are too few for an array's member`;
    throw new NbdRaidError("member-too-small", message);
  }
  const bytes = new Uint8Array(length);
  try {
    await member.read(bytes, offset);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NbdRaidError("member-unreadable", reason, { cause: error });
  }
  return bytes;
}
