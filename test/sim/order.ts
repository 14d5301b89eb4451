/** Rules about the order of member operations, checked on the trace of a whole run. */
import { expect } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import { STATE_FORMATS } from "../../src/bitmap/on-disk.ts";
import { State } from "../../src/bitmap/transitions.ts";
import type { BitmapKind } from "../../src/metadata/layout.ts";
import { decodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../src/metadata/superblock.ts";
import type { Machine } from "./machine.ts";
import type { Operation } from "./traced.ts";

/** Of an array that has a bitmap on its members. */
export function kindOf({ about }: RaidArray): BitmapKind {
  if (about.bitmap === "none") throw new Error("the array has no bitmap");
  return about.bitmap;
}

/** The region states that a member is sure to hold, after the durable writes that have ended. */
class DurableStates {
  private readonly states: Uint8Array;
  private readonly kind: BitmapKind;
  private readonly offset: number;

  constructor(array: RaidArray) {
    this.kind = kindOf(array);
    this.offset = array.metadata.statesOffset(this.kind);
    this.states = new Uint8Array(array.regions.count);
  }

  /** The states among what an operation writes: first region, and a byte for each. */
  part({ kind, offset, length, bytes }: Operation): { first: number; states: Uint8Array } | null {
    const { regionsPerByte, unpack } = STATE_FORMATS[this.kind];
    const first = (offset - this.offset) * regionsPerByte;
    const inside = first >= 0 && first < this.states.length;
    if (kind !== "writeDurable" || bytes === null || !inside) return null;
    const regions = Math.min(length * regionsPerByte, this.states.length - first);
    return { first, states: unpack(bytes, regions) };
  }

  apply(operation: Operation): void {
    const part = this.part(operation);
    if (part !== null) this.states.set(part.states, part.first);
  }

  at(region: number): number {
    return this.states[region] ?? State.NeedSync;
  }
}

/** Calls back for each begin and each end of an operation, in the order in which they happened. */
function replay(
  operations: readonly Operation[],
  on: { issued: (operation: Operation) => void; ended: (operation: Operation) => void },
): void {
  const moments = operations.flatMap((operation) => [
    { at: operation.issued, happen: () => on.issued(operation) },
    { at: operation.ended, happen: () => on.ended(operation) },
  ]);
  const past = moments.filter(({ at }) => at < Infinity).sort((a, b) => a.at - b.at);
  for (const { happen } of past) happen();
}

const CHANGES = new Set(["write", "punch", "zero"]);

export function changesData(machine: Machine, { kind, offset }: Operation): boolean {
  return CHANGES.has(kind) && offset >= machine.dataOffset;
}

function regionsOf(machine: Machine, operation: Operation): readonly number[] {
  return machine.regionsAt(operation.path, operation.offset, operation.length);
}

/** Rule 1: durable before data. The trace starts where every member is clean or new. */
export function expectMarkedBeforeData(machine: Machine): void {
  const { array } = machine;
  const durable = new Map(machine.paths.map((path) => [path, new DurableStates(array)]));
  replay(machine.trace.operations, {
    ended: (operation) => durable.get(operation.path)?.apply(operation),
    issued: (operation) => {
      if (!changesData(machine, operation)) return;
      for (const region of regionsOf(machine, operation)) {
        for (const [path, states] of durable) {
          const marked = states.at(region) >= State.Dirty;
          expect(marked, `region ${region} is marked on ${path} before its data`).toBe(true);
        }
      }
    },
  });
}

/** Rule 2: what says equal is written only after a sync of all that came before. */
export function expectSyncedBeforeEqual(machine: Machine): void {
  const { array } = machine;
  const durable = new Map(machine.paths.map((path) => [path, new DurableStates(array)]));
  const { operations } = machine.trace;
  const expectSynced = (now: number, region: number | null): void => {
    for (const change of operations) {
      if (change.issued > now || !changesData(machine, change)) continue;
      const concerned = region === null || regionsOf(machine, change).includes(region);
      if (!concerned) continue;
      const covers = operations.some(({ path, kind, issued, ended }) => {
        return kind === "sync" && path === change.path && issued > change.ended && ended < now;
      });
      const what = region === null ? "the superblock says clean" : `region ${region} is clean`;
      expect(covers, `a sync of ${change.path} before ${what}`).toBe(true);
    }
  };
  replay(operations, {
    ended: (operation) => durable.get(operation.path)?.apply(operation),
    issued: (operation) => {
      if (saysClean(operation, machine)) expectSynced(operation.issued, null);
      const states = durable.get(operation.path);
      const part = states?.part(operation) ?? null;
      if (part === null || states === undefined) return;
      for (const [index, state] of part.states.entries()) {
        const region = part.first + index;
        if (states.at(region) >= State.Dirty && state < State.Dirty) {
          expectSynced(operation.issued, region);
        }
      }
    },
  });
}

export function isSuperblock({ kind, offset }: Operation): boolean {
  return kind === "writeDurable" && offset === SUPERBLOCK_OFFSET_BYTES;
}

function saysClean(operation: Operation, machine: Machine): boolean {
  if (!isSuperblock(operation) || operation.bytes === null) return false;
  const sectors = machine.disk(operation.path).sizeBytes / 512;
  const superblock = decodeSuperblock(operation.bytes, operation.path, sectors);
  return superblock.resyncOffsetSectors === "clean";
}

/** Every operation of one step has ended before any of the next is issued. */
export function expectInSteps(
  operations: readonly Operation[],
  steps: readonly ((operation: Operation) => boolean)[],
): void {
  let ended = 0;
  for (const [index, belongs] of steps.entries()) {
    const step = operations.filter(belongs);
    expect(step.length, `step ${index} has operations`).toBeGreaterThan(0);
    expect(Math.min(...step.map(({ issued }) => issued)), `step ${index}`).toBeGreaterThan(ended);
    ended = Math.max(...step.map((operation) => operation.ended));
  }
}
