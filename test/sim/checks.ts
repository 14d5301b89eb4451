/** What must be true of the disks themselves, looked at without the engine. */
import { expect } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import type { Device } from "../../src/array/devices.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { contradiction } from "../raid/oracle.ts";
import { isParity, type OracleShape, placesOf } from "../raid/oracle-placement.ts";
import { contents } from "./disks.ts";
import type { Machine } from "./machine.ts";
import type { Range } from "./model.ts";

const PIECE_BYTES = 256 * 1024;

/** All bytes of the array, read as a client reads them. */
export async function readAll(array: RaidArray): Promise<Buffer> {
  const bytes = Buffer.alloc(array.sizeBytes);
  for (let offset = 0; offset < bytes.length; offset += PIECE_BYTES) {
    const into = bytes.subarray(offset, offset + PIECE_BYTES);
    if (!array.tryRead(into, offset)) await array.read(into, offset);
  }
  return bytes;
}

/** What clients read, and where they get an error instead. */
export interface Held {
  readonly bytes: Buffer;
  readonly unknown: readonly Range[];
}

/** Short enough that no more is given up than cannot be known. */
const BLOCK_BYTES = 4096;

/**
 * Reads all bytes of the array. A block may be refused where nobody can know it: on level 4, 5 or 6,
 * where parity may not fit the data and its own member is missing, or is `broken` and unreadable.
 */
export async function readKnown(machine: Machine, broken: string | null): Promise<Held> {
  const { array } = machine;
  const bytes = Buffer.alloc(array.sizeBytes);
  const unknown: Range[] = [];
  for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
    const piece = bytes.subarray(start, start + PIECE_BYTES);
    if (await isRead(array, piece, start)) continue;
    for (let at = start; at < start + piece.length; at += BLOCK_BYTES) {
      const end = Math.min(at + BLOCK_BYTES, start + piece.length);
      const excused = mayBeUnknown(machine, at, broken);
      if (await isRead(array, bytes.subarray(at, end), at)) continue;
      expect(excused, `byte ${at} can be known, and is refused`).toBe(true);
      bytes.fill(0, at, end);
      unknown.push({ start: at, end });
    }
  }
  return { bytes, unknown };
}

async function isRead(array: RaidArray, into: Buffer, offset: number): Promise<boolean> {
  try {
    if (!array.tryRead(into, offset)) await array.read(into, offset);
    return true;
  } catch (error) {
    if (!(error instanceof NbdRaidError) || !["unknown-data", "io-error"].includes(error.code))
      throw error;
    return false;
  }
}

/** `at` is a byte of the array. */
export function mayBeUnknown(machine: Machine, at: number, broken: string | null): boolean {
  const { array, oracle } = machine;
  if (!isParity(oracle)) return false;
  const { slot, offset } = placesOf(oracle, at)[0]!;
  const device = array.devices.inSyncAt(slot);
  const lost = device === null || device.member.path === broken;
  return lost && array.regions.isSuspect(array.regions.at(offset));
}

/** Equal wherever both are known. */
export function expectSameKnown(actual: Held, expected: Held, what: string): void {
  if (actual.unknown.length + expected.unknown.length === 0) {
    expectSame(actual.bytes, expected.bytes, what);
    return;
  }
  const [one, other] = [Buffer.from(actual.bytes), Buffer.from(expected.bytes)];
  for (const { start, end } of [...actual.unknown, ...expected.unknown]) {
    one.fill(0, start, end);
    other.fill(0, start, end);
  }
  expectSame(one, other, what);
}

export function expectSame(actual: Buffer, expected: Buffer, what: string): void {
  if (actual.equals(expected)) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  expect.fail(`${what}: byte ${at} differs`);
}

/** Regions of [first, end) that no sync will look at, as ranges of bytes. */
function* unmarkedRanges(array: RaidArray): Iterable<{ start: number; end: number }> {
  const { regions } = array;
  for (let region = 0; region < regions.count; region++) {
    const state = regions.state(region);
    if (state !== State.Clean && state !== State.Unwritten) continue;
    const start = region * regions.regionBytes;
    yield { start, end: Math.min(start + regions.regionBytes, regions.trackedBytes) };
  }
}

/** The data area of a member; null where nobody counts on it. */
type Image = Buffer | null;

function imageOf(machine: Machine, { member, dataOffset }: Device): Buffer {
  const { componentBytes } = machine.oracle;
  return contents(machine.disk(member.path), dataOffset, componentBytes);
}

/** By slot: members in sync. */
function imagesInSync(machine: Machine, { devices }: RaidArray): Image[] {
  return devices.slots.map((_, slot) => {
    const device = devices.inSyncAt(slot);
    return device === null ? null : imageOf(machine, device);
  });
}

/**
 * By slot: members that hold what is unmarked in [start, end) of the tracked bytes: in sync, or
 * rebuilt that far. A rebuild says how far by bytes of the member.
 */
function imagesThatHold(machine: Machine, images: readonly Image[], start: number, end: number) {
  const { oracle, array } = machine;
  return images.map((image, slot) => {
    if (array.devices.inSyncAt(slot) !== null) return image;
    const recovery = array.devices.writableAt(slot)?.recovery;
    if (recovery == null) return null;
    return recovery.byBitmap || lastByteOn(oracle, slot, start, end) <= recovery.offset
      ? image
      : null;
  });
}

/** Where on a member the part of [start, end) of the tracked bytes ends that lies on it. */
function lastByteOn(oracle: OracleShape, slot: number, start: number, end: number): number {
  if (oracle.level !== 10) return end;
  return Math.max(0, ...[...partsOn(oracle, slot, start, end)].map((part) => part.end));
}

/**
 * What is not marked fits together on the members that count: copies are equal, parity is that of
 * the data. What is Unwritten is zero there, if the array says so.
 */
export function expectUnmarkedEqual(machine: Machine, array: RaidArray): void {
  const { oracle } = machine;
  const all = array.devices.slots.map((_, slot) => {
    const device = array.devices.writableAt(slot);
    return device === null ? null : imageOf(machine, device);
  });
  for (const { start, end } of unmarkedRanges(array)) {
    const images = imagesThatHold(machine, all, start, end);
    const what = `[${start}, ${end}) of the tracked bytes, not marked`;
    const unwritten = array.regions.state(array.regions.at(start)) === State.Unwritten;
    if (unwritten && array.metadata.knownZero) expectZero(oracle, images, start, end);
    // Nobody ever wrote there, and what disks held when they came may differ.
    else if (!unwritten || machine.shape.unknown !== true)
      expect(contradiction(oracle, images, start, end), what).toBeNull();
  }
}

function expectZero(oracle: OracleShape, images: readonly Image[], start: number, end: number) {
  for (const [slot, image] of images.entries()) {
    if (image === null) continue;
    const parts = oracle.level === 10 ? partsOn(oracle, slot, start, end) : [{ start, end }];
    for (const part of parts) {
      const bytes = image.subarray(part.start, part.end);
      expectSame(bytes, Buffer.alloc(bytes.length), `slot ${slot}+${part.start}, Unwritten`);
    }
  }
}

/** Where [start, end) of the array lies on a member of level 10. */
function* partsOn(oracle: OracleShape, slot: number, start: number, end: number) {
  for (let at = start; at < end;) {
    const next = Math.min(end, (Math.floor(at / oracle.chunkBytes) + 1) * oracle.chunkBytes);
    for (const place of placesOf(oracle, at)) {
      if (place.slot === slot) yield { start: place.offset, end: place.offset + next - at };
    }
    at = next;
  }
}

/**
 * After a sync: members in sync fit together, byte for byte. Not where parity can neither be
 * trusted nor made anew, for data is missing.
 */
export function expectInSyncEqual(machine: Machine, array: RaidArray): void {
  const images = imagesInSync(machine, array);
  const { regions } = array;
  const beyondRepair = isParity(machine.oracle) && images.includes(null);
  for (let region = 0; region < regions.count; region++) {
    if (beyondRepair && regions.isSuspect(region)) continue;
    const start = region * regions.regionBytes;
    const end = Math.min(start + regions.regionBytes, regions.trackedBytes);
    const what = `[${start}, ${end}) of the tracked bytes, in sync`;
    expect(contradiction(machine.oracle, images, start, end), what).toBeNull();
  }
}

/** Regions that a sync may look at now. */
export function markedRegions(array: RaidArray): Set<number> {
  const { regions } = array;
  const all = Array.from({ length: regions.count }, (_, region) => region);
  return new Set(all.filter((region) => regions.state(region) >= State.Dirty));
}

/** Since the trace was cleared nothing but these regions was written, or read but by clients. */
export function expectDataTouchedOnly(
  machine: Machine,
  allowed: ReadonlySet<number>,
  clientsRead: boolean,
): void {
  for (const { path, kind, offset, length } of machine.trace.operations) {
    if (kind === "sync" || (clientsRead && kind === "read") || offset < machine.dataOffset)
      continue;
    for (const region of machine.regionsAt(path, offset, length)) {
      if (!allowed.has(region)) expect.fail(`${kind} of ${path} in region ${region}: not marked`);
    }
  }
}
