/** What must be true of the disks themselves, looked at without the engine. */
import { expect } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import type { Device } from "../../src/array/devices.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { contents } from "./disks.ts";
import type { Machine } from "./machine.ts";

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

/** Members that hold what is unmarked up to `end`: in sync, or rebuilt that far. */
function holders(array: RaidArray, end: number): Device[] {
  const { inSync, writable } = array.devices;
  const rebuilt = writable.filter(({ recovery }) => recovery !== null && end <= recovery.offset);
  const byBitmap = writable.filter(({ recovery }) => recovery?.byBitmap === true);
  return [...inSync, ...new Set([...rebuilt, ...byBitmap])];
}

/** What is not marked is equal on every member that counts; what is Unwritten is zero there. */
export function expectUnmarkedEqual(machine: Machine, array: RaidArray): void {
  for (const { start, end } of unmarkedRanges(array)) {
    const devices = holders(array, end);
    const copies = devices.map(({ member, dataOffset }) => ({
      path: member.path,
      bytes: contents(machine.disk(member.path), dataOffset + start, end - start),
    }));
    const state = array.regions.state(array.regions.at(start));
    const zero = state === State.Unwritten && array.metadata.knownZero;
    const expected = zero ? Buffer.alloc(end - start) : copies[0]?.bytes;
    for (const { path, bytes } of copies) {
      const what = zero ? "zero" : `equal to ${copies[0]?.path}`;
      if (expected !== undefined) expectSame(bytes, expected, `${path}+${start} is not ${what}`);
    }
  }
}

/** After a sync: members in sync are equal, byte for byte. */
export function expectInSyncEqual(machine: Machine, array: RaidArray): void {
  const [first, ...others] = array.devices.inSync.map(({ member, dataOffset }) => ({
    path: member.path,
    bytes: contents(machine.disk(member.path), dataOffset, array.sizeBytes),
  }));
  for (const { path, bytes } of others) {
    expectSame(bytes, first?.bytes ?? bytes, `${path} and ${first?.path}`);
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
  array: RaidArray,
  allowed: ReadonlySet<number>,
  clientsRead: boolean,
): void {
  for (const { path, kind, offset, length } of machine.trace.operations) {
    if (kind === "sync" || (clientsRead && kind === "read") || offset < machine.dataOffset)
      continue;
    const first = array.regions.at(offset - machine.dataOffset);
    const last = array.regions.at(offset - machine.dataOffset + length - 1);
    for (let region = first; region <= last; region++) {
      if (!allowed.has(region)) expect.fail(`${kind} of ${path} in region ${region}: not marked`);
    }
  }
}
