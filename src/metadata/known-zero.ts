/**
 * The record that an array is known-zero: its Unwritten regions read as zeroes on every member.
 * It lies in the padding of the bitmap superblock, where md keeps it but does not know it; so it
 * names the array update it belongs to, and is void once anything else has updated the array.
 */
import { crc32 } from "node:zlib";
import {
  type FieldTable,
  firstInvalid,
  readFields,
  text,
  timestamp,
  u32,
  u64,
  viewOf,
  writeFields,
} from "./fields.ts";
import { type Timestamp, timestampsEqual } from "./timestamp.ts";

/** What the superblocks say of one update of the array. */
export interface UpdateStamp {
  readonly events: number;
  readonly utime: Timestamp;
}

/** `newest` is the update the record was written for, `older` the one before it. */
export interface KnownZeroRecord {
  readonly newest: UpdateStamp;
  readonly older: UpdateStamp;
}

/** Beside a first record, where there was no update before. */
export const NO_UPDATE: UpdateStamp = { events: 0, utime: { seconds: 0, microseconds: 0 } };

const RECORD_START = 192;
const CRC_START = 232;
const MAGIC = "nbdraid1";

const magic = text(RECORD_START, MAGIC.length);
const newest: FieldTable<UpdateStamp> = { events: u64(200), utime: timestamp(208) };
const older: FieldTable<UpdateStamp> = { events: u64(216), utime: timestamp(224) };
const crc = u32(CRC_START);

/** Writes the record into the bitmap superblock `bytes`. */
export function writeKnownZeroRecord(bytes: Uint8Array, record: KnownZeroRecord): void {
  const view = viewOf(bytes);
  magic.write(view, MAGIC);
  writeFields(newest, view, record.newest);
  writeFields(older, view, record.older);
  crc.write(view, computeCrc(bytes));
}

/** The record in the bitmap superblock `bytes`, or null: none, or a damaged one. */
export function readKnownZeroRecord(bytes: Uint8Array): KnownZeroRecord | null {
  const view = viewOf(bytes);
  if (magic.read(view) !== MAGIC || crc.read(view) !== computeCrc(bytes)) return null;
  const record = { newest: readFields(newest, view), older: readFields(older, view) };
  const invalid = firstInvalid(newest, record.newest) ?? firstInvalid(older, record.older);
  return invalid === null ? record : null;
}

/**
 * True if the record speaks of the array as its superblocks, with `events` and `utime`, have it:
 * they are at the record's update, or at the one before it, because the bitmap superblock is
 * written first and the superblocks did not follow.
 */
export function knownZeroRecordValid(
  record: KnownZeroRecord,
  events: number,
  utime: Timestamp,
): boolean {
  const matches = (stamp: UpdateStamp) =>
    // md may bring events back to an old number, but writes whole seconds: see timestampAt.
    stamp.utime.microseconds !== 0 &&
    stamp.events === events &&
    timestampsEqual(stamp.utime, utime);
  return (
    matches(record.newest) || (record.newest.events > record.older.events && matches(record.older))
  );
}

function computeCrc(bytes: Uint8Array): number {
  return crc32(bytes.subarray(RECORD_START, CRC_START));
}
