/**
 * Fixed byte layouts as tables: a record is described by one {@link Field} a property, each a
 * byte offset and a kind. All integers are little-endian, as everywhere in md.
 */
import { assert } from "../errors.ts";
import { isTimestamp, packTimestamp, unpackTimestamp, type Timestamp } from "./timestamp.ts";
import { formatUuid, isUuid, parseUuid, UUID_BYTES } from "./uuid.ts";

export interface Field<T> {
  read(view: DataView): T;
  write(view: DataView, value: T): void;
  /** False for what this program cannot represent exactly, or may not write. */
  valid(value: T): boolean;
}

export type FieldTable<T> = { readonly [K in keyof T]-?: Field<T[K]> };

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads every property, valid or not: ask {@link firstInvalid} before using one. */
export function readFields<T extends object>(table: FieldTable<T>, view: DataView): T {
  const record: Partial<T> = {};
  for (const name of namesOf(table)) record[name] = table[name].read(view);
  return record as T;
}

export function writeFields<T extends object>(table: FieldTable<T>, view: DataView, record: T) {
  const invalid = firstInvalid(table, record);
  assert(invalid === null, `${invalid} fits its field`);
  for (const name of namesOf(table)) table[name].write(view, record[name]);
}

/** The first property, in the table's order, whose value its field does not allow. */
export function firstInvalid<T extends object>(table: FieldTable<T>, record: T): string | null {
  return namesOf(table).find((name) => !table[name].valid(record[name])) ?? null;
}

function namesOf<T extends object>(table: FieldTable<T>): (keyof T & string)[] {
  return Object.keys(table) as (keyof T & string)[];
}

/** Byte offsets inside a member are numbers (safe to 8 PiB), so sectors end here. */
const SECTORS_MAX = 2 ** 44;
const ALL_ONES = 2n ** 64n - 1n;

function integerIn(min: number, max: number): (value: number) => boolean {
  return (value) => Number.isInteger(value) && value >= min && value <= max;
}

export const u8 = (offset: number): Field<number> => ({
  read: (view) => view.getUint8(offset),
  write: (view, value) => view.setUint8(offset, value),
  valid: integerIn(0, 2 ** 8 - 1),
});

export const u16 = (offset: number): Field<number> => ({
  read: (view) => view.getUint16(offset, true),
  write: (view, value) => view.setUint16(offset, value, true),
  valid: integerIn(0, 2 ** 16 - 1),
});

export const u32 = (offset: number): Field<number> => ({
  read: (view) => view.getUint32(offset, true),
  write: (view, value) => view.setUint32(offset, value, true),
  valid: integerIn(0, 2 ** 32 - 1),
});

export const s32 = (offset: number): Field<number> => ({
  read: (view) => view.getInt32(offset, true),
  write: (view, value) => view.setInt32(offset, value, true),
  valid: integerIn(-(2 ** 31), 2 ** 31 - 1),
});

/** 64 bits that must be a safe integer, at most `max`. */
export const u64 = (offset: number, max: number = Number.MAX_SAFE_INTEGER): Field<number> => ({
  read: (view) => Number(view.getBigUint64(offset, true)),
  write: (view, value) => view.setBigUint64(offset, BigInt(value), true),
  valid: integerIn(0, max),
});

export const sectors = (offset: number): Field<number> => u64(offset, SECTORS_MAX);

/** Sectors of which all-ones (md's MaxSector) is no number: `word` says what it means here. */
export function sectorsOr<W extends string>(offset: number, word: W): Field<number | W> {
  const plain = sectors(offset);
  return {
    read: (view) => (view.getBigUint64(offset, true) === ALL_ONES ? word : plain.read(view)),
    write: (view, value) => {
      if (typeof value === "number") plain.write(view, value);
      else view.setBigUint64(offset, ALL_ONES, true);
    },
    valid: (value) => (typeof value === "number" ? plain.valid(value) : value === word),
  };
}

export const timestamp = (offset: number): Field<Timestamp> => ({
  read: (view) => unpackTimestamp(view.getBigUint64(offset, true)),
  write: (view, value) => view.setBigUint64(offset, packTimestamp(value), true),
  valid: isTimestamp,
});

export const uuid = (offset: number): Field<string> => ({
  read: (view) => formatUuid(bytesAt(view, offset, UUID_BYTES)),
  write: (view, value) => bytesAt(view, offset, UUID_BYTES).set(parseUuid(value)),
  valid: isUuid,
});

/** UTF-8 padded with NUL to `length` bytes. */
export const text = (offset: number, length: number): Field<string> => ({
  read: (view) => decodeText(bytesAt(view, offset, length)),
  write: (view, value) => bytesAt(view, offset, length).fill(0).set(encodeText(value)),
  valid: (value) => encodeText(value).length <= length,
});

function bytesAt(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length);
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * mdadm cuts names at the last byte, in the middle of a character if need be. Such bytes become
 * lone surrogates (U+DC80 to U+DCFF), shown as replacement characters, and come back unchanged.
 */
function decodeText(padded: Uint8Array): string {
  const bytes = padded.subarray(0, padded.findLastIndex((byte) => byte !== 0) + 1);
  try {
    return UTF8.decode(bytes);
  } catch {
    return String.fromCharCode(
      ...Array.from(bytes, (byte) => (byte < 0x80 ? byte : 0xdc00 + byte)),
    );
  }
}

function encodeText(value: string): Uint8Array {
  // "latin1" keeps the low byte of each unit: U+DC80 to U+DCFF give back the byte they stand for.
  return Buffer.from(value, LONE_SURROGATE.test(value) ? "latin1" : "utf-8");
}
