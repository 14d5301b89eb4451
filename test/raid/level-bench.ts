/** A level by itself over simulated disks, with legs that come and go as the test says. */
import { expect } from "vitest";
import { type Member, MemberError } from "../../src/member/member.ts";
import { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { totalLength } from "../../src/member/vectors.ts";
import type { ArrayShape } from "../../src/raid/geometry/geometry.ts";
import {
  FALLBACK_BLOCK_BYTES,
  type Leg,
  type LegFailure,
  type Legs,
  type Level,
} from "../../src/raid/level.ts";
import { type Operation, Trace, TracedMember } from "../sim/traced.ts";
import { World } from "../sim/world.ts";

export const BLOCK = FALLBACK_BLOCK_BYTES;
export const DATA_OFFSET = 4 * BLOCK;

/** A simulated member, some blocks of which cannot be read until they are written. */
export class FlawedMember extends TracedMember implements Member {
  /** Numbers of blocks of the data area. */
  readonly bad = new Set<number>();
  heals = true;

  override tryRead(into: Uint8Array, offset: number): boolean {
    return !this.isBad(offset, into.length) && super.tryRead(into, offset);
  }

  override tryReadv(into: readonly Uint8Array[], offset: number): boolean {
    return !this.isBad(offset, totalLength(into)) && super.tryReadv(into, offset);
  }

  override async read(into: Uint8Array, offset: number): Promise<void> {
    await super.read(into, offset);
    this.refuse(offset, into.length);
  }

  override async readv(into: readonly Uint8Array[], offset: number): Promise<void> {
    await super.readv(into, offset);
    this.refuse(offset, totalLength(into));
  }

  override async write(from: Uint8Array, offset: number): Promise<void> {
    await super.write(from, offset);
    if (!this.heals) return;
    for (const block of blocksOf(offset, from.length)) this.bad.delete(block);
  }

  private isBad(offset: number, length: number): boolean {
    return blocksOf(offset, length).some((block) => this.bad.has(block));
  }

  private refuse(offset: number, length: number): void {
    if (this.isBad(offset, length)) throw new MemberError(this.path, "read", new Error("flawed"));
  }
}

function blocksOf(offset: number, length: number): number[] {
  const first = Math.floor((offset - DATA_OFFSET) / BLOCK);
  const end = Math.ceil((offset - DATA_OFFSET + length) / BLOCK);
  return Array.from({ length: Math.max(0, end - first) }, (_, index) => first + index);
}

export interface BenchLeg extends Leg {
  readonly slot: number;
  readonly member: FlawedMember;
  readonly disk: SimulatedDisk;
  writeMostly: boolean;
}

export type LegState = "in_sync" | "rebuilding" | "gone";

/** As an array has them: other arrays whenever a state changes. */
class BenchLegs implements Legs<BenchLeg> {
  readonly all: readonly BenchLeg[];
  inSync: readonly BenchLeg[] = [];
  writable: readonly BenchLeg[] = [];
  readonly states: LegState[];

  constructor(all: readonly BenchLeg[]) {
    this.all = all;
    this.states = all.map(() => "in_sync");
    this.refresh();
  }

  set(slot: number, state: LegState): void {
    this.states[slot] = state;
    this.refresh();
  }

  inSyncAt(slot: number): BenchLeg | null {
    return this.inSync.find((leg) => leg.slot === slot) ?? null;
  }

  writableAt(slot: number): BenchLeg | null {
    return this.writable.find((leg) => leg.slot === slot) ?? null;
  }

  private refresh(): void {
    this.inSync = this.all.filter(({ slot }) => this.states[slot] === "in_sync");
    this.writable = this.all.filter(({ slot }) => this.states[slot] !== "gone");
  }
}

export class LevelBench {
  readonly world: World;
  readonly shape: ArrayShape;
  readonly legs: BenchLegs;
  readonly level: Level<BenchLeg>;
  readonly trace = new Trace();

  constructor(
    seed: number,
    shape: ArrayShape,
    make: (legs: Legs<BenchLeg>) => Level<BenchLeg>,
    inline: (world: World) => boolean = () => false,
  ) {
    this.world = new World(seed);
    this.shape = shape;
    this.legs = new BenchLegs(
      shape.dataBytes.map((bytes, slot) => {
        const disk = new SimulatedDisk(DATA_OFFSET + Math.ceil(bytes / 512) * 512);
        const { random, schedule } = this.world;
        const options = { path: `/${slot}`, random, schedule, inline: inline(this.world) };
        const member = new FlawedMember(disk, options, this.trace);
        return { slot, member, disk, dataOffset: DATA_OFFSET, writeMostly: false };
      }),
    );
    this.level = make(this.legs);
  }

  leg(slot: number): BenchLeg {
    return this.legs.all[slot]!;
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return this.world.until(promise);
  }

  /** As an array does it: at once if that is possible, else by promise. */
  async write(bytes: Uint8Array, offset: number): Promise<void> {
    const { level } = this;
    if (level.writesInline(offset, bytes.length) && level.tryWrite(bytes, offset)) return;
    expect(await level.write(bytes, offset)).toEqual([]);
  }

  async read(offset: number, length: number, pinned = false): Promise<Buffer> {
    const into = Buffer.alloc(length, 0xee);
    if (this.level.tryRead(into, offset, pinned)) return into;
    into.fill(0xee);
    expect(await this.level.read(into, offset, pinned)).toEqual([]);
    return into;
  }

  /** What the data area of a slot holds. */
  image(slot: number): Buffer {
    const { disk } = this.leg(slot);
    const bytes = Buffer.alloc(disk.sizeBytes);
    disk.read(bytes, 0);
    expect(bytes.subarray(0, DATA_OFFSET).equals(Buffer.alloc(DATA_OFFSET))).toBe(true);
    return bytes.subarray(DATA_OFFSET);
  }

  /** Puts bytes on the disk of a slot, by nobody's doing. */
  put(slot: number, bytes: Uint8Array, offset = 0): void {
    const { disk } = this.leg(slot);
    const write = disk.begin(bytes, DATA_OFFSET + offset);
    disk.takeEffect(write);
    disk.complete(write);
  }

  /** What members were asked since the last call: "slot kind offset+length", sorted. */
  calls(): string[] {
    const lines = this.trace.operations.map(lineOf).sort();
    this.trace.clear();
    return lines;
  }
}

function lineOf({ path, kind, offset, length }: Operation): string {
  const at = kind === "sync" ? "" : ` ${offset - DATA_OFFSET}+${length}`;
  return `${path.slice(1)} ${kind}${at}`;
}

/** Bytes that differ by place, and from one call to the next. */
export function noise(world: World, length: number): Buffer {
  const factor = world.below(2 ** 31) | 1;
  return Buffer.alloc(length).map((_, at) => Math.imul(at + 1, factor) >>> 13) as Buffer;
}

export function expectSame(actual: Buffer, expected: Buffer, what: string): void {
  if (actual.equals(expected)) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  expect.fail(`${what}: byte ${at} of ${actual.length} is ${actual[at]}, not ${expected[at]}`);
}

export const slotsOf = (failures: readonly LegFailure<BenchLeg>[]): number[] =>
  failures.map(({ leg }) => leg.slot);

/** Ranges of [0, end) that do not overlap, in any order. */
export function disjointRanges(world: World, end: number, lengthMax: number, count: number) {
  const ranges: { offset: number; length: number }[] = [];
  for (let tries = 0; tries < count; tries++) {
    const unit = world.pick([1, 1, 512, 4096]);
    const offset = Math.floor(world.below(end) / unit) * unit;
    const wanted = Math.ceil((1 + world.below(lengthMax)) / unit) * unit;
    const length = Math.min(wanted, end - offset);
    const meets = ranges.some(
      (other) => other.offset < offset + length && offset < other.offset + other.length,
    );
    if (!meets) ranges.push({ offset, length });
  }
  return ranges;
}

/** Does random things to disjoint ranges at once; what is read must be as the model says. */
export async function randomRound(bench: LevelBench, model: Buffer, lengthMax: number) {
  const { world, level } = bench;
  const ranges = disjointRanges(world, model.length, lengthMax, 1 + world.below(6));
  const steps = ranges.map(async ({ offset, length }) => {
    const step = world.pick(["write", "write", "read", "read", "punch", "zero"]);
    const end = offset + length;
    if (step === "read") {
      const found = await bench.read(offset, length, world.chance(0.5));
      expectSame(found, model.subarray(offset, end), `read ${offset}+${length}`);
    } else if (step === "write") {
      const bytes = noise(world, length);
      await bench.write(bytes, offset);
      bytes.copy(model, offset);
    } else {
      const punched = step === "punch";
      const failures = punched ? level.punch(offset, length) : level.zero(offset, length);
      expect(await failures).toEqual([]);
      model.fill(0, offset, end);
    }
  });
  await bench.run(Promise.all(steps));
}
