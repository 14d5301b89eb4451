/** A member on its own: what its metadata say, with no array running. */
import { State, STATE_COUNT, stateFromDisk } from "../bitmap/transitions.ts";
import { NbdRaidError } from "../errors.ts";
import { FileMember } from "../member/file.ts";
import type { Member } from "../member/member.ts";
import {
  type BitmapSuperblock,
  firstUseState,
  regionBytesOf,
} from "../metadata/bitmap-superblock.ts";
import { knownZeroRecordValid } from "../metadata/known-zero.ts";
import { type BitmapKind, regionCount } from "../metadata/layout.ts";
import type { Superblock } from "../metadata/superblock.ts";
import { readHeaders, readStates } from "./headers.ts";
import { hasSeenAll } from "./load.ts";
import { type MdSuperblock, mdSuperblock } from "./md-fields.ts";

export interface ExaminedMember {
  /** As it was given: absolute, or a URI, which nothing can be read of. */
  readonly path: string;
  /** What is wrong with the member, in words. The rest is what could be read nevertheless. */
  readonly error: string | null;
  readonly superblock: MdSuperblock | null;
  readonly bitmap: ExaminedBitmap | null;
}

/**
 * Counts are regions as this member has them; other members may know more. An internal bitmap tells
 * but two kinds apart: what is marked is counted as dirty, the rest as clean.
 */
export interface ExaminedBitmap {
  readonly type: BitmapKind;
  readonly events: number;
  readonly events_cleared: number;
  /** Bytes. */
  readonly regionSize: number;
  readonly regions: number;
  readonly unwritten: number;
  readonly clean: number;
  readonly dirty: number;
  readonly needSync: number;
  readonly syncing: number;
  /** This member says that Unwritten regions read as zeroes, and has missed no write since. */
  readonly knownZero: boolean;
}

/**
 * Reads what the member at an absolute path says of itself, changing nothing. A server may have it
 * meanwhile: then superblock and bitmap may be of different moments. Rejects only for bugs.
 */
export async function examineMember(path: string): Promise<ExaminedMember> {
  const nothing = { path, superblock: null, bitmap: null };
  try {
    const member = await FileMember.openUnlocked(path);
    try {
      return await examine(member);
    } finally {
      await member.close();
    }
  } catch (error) {
    if (error instanceof NbdRaidError) return { ...nothing, error: error.message };
    throw error;
  }
}

async function examine(member: Member): Promise<ExaminedMember> {
  const { superblock, bitmap } = await readHeaders(member);
  const examined = { path: member.path, superblock: mdSuperblock(superblock), bitmap: null };
  if (bitmap === null) return { ...examined, error: null };
  if (bitmap instanceof NbdRaidError) return { ...examined, error: bitmap.message };
  return { ...examined, error: null, bitmap: await examineBitmap(member, superblock, bitmap) };
}

async function examineBitmap(
  member: Member,
  superblock: Superblock,
  bitmap: BitmapSuperblock,
): Promise<ExaminedBitmap> {
  const regionSize = regionBytesOf(bitmap);
  const regions = regionCount(bitmap.syncSizeSectors * 512, regionSize);
  const firstUse = firstUseState(bitmap);
  const counts =
    firstUse === null
      ? countStates(await readStates(member, superblock, bitmap.kind, regions))
      : { ...NO_REGIONS, [firstUse]: regions };
  const record = hasSeenAll(bitmap, superblock.events) ? bitmap.knownZero : null;
  return {
    type: bitmap.kind,
    events: bitmap.events,
    events_cleared: bitmap.eventsCleared,
    regionSize,
    regions,
    ...counts,
    knownZero: record !== null && knownZeroRecordValid(record, superblock.events, superblock.utime),
  };
}

type Counts = Pick<ExaminedBitmap, "unwritten" | "clean" | "dirty" | "needSync" | "syncing">;

const NO_REGIONS: Counts = { unwritten: 0, clean: 0, dirty: 0, needSync: 0, syncing: 0 };

function countStates(bytes: Uint8Array): Counts {
  const counts = new Array<number>(STATE_COUNT).fill(0);
  for (const byte of bytes) counts[stateFromDisk(byte)]!++;
  return {
    unwritten: counts[State.Unwritten]!,
    clean: counts[State.Clean]!,
    dirty: counts[State.Dirty]!,
    needSync: counts[State.NeedSync]!,
    syncing: counts[State.Syncing]!,
  };
}
