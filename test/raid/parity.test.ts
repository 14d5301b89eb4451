/**
 * Levels 4, 5 and 6 by themselves: random writes, zeroes and reads that overlap in time, over
 * disks some of which are lost, held against a plain array of bytes and the independent writer.
 */
import { describe, expect, test } from "vitest";
import { RangeLocks } from "../../src/array/range-locks.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { SimulatedMember } from "../../src/member/simulated.ts";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { INLINE_READ_BYTES_MAX } from "../../src/raid/legs.ts";
import type { Leg, LevelHost, Legs } from "../../src/raid/level.ts";
import { Parity } from "../../src/raid/parity.ts";
import { seedsToRun } from "../sim/seeds.ts";
import { World } from "../sim/world.ts";
import type { OracleShape } from "./oracle-placement.ts";
import { check, readArray } from "./oracle.ts";

const CHUNK = 4096;
const STRIPES = 12;

interface TestLeg extends Leg {
  readonly slot: number;
  readonly member: SimulatedMember;
  readonly disk: SimulatedDisk;
}

interface Range {
  readonly offset: number;
  readonly end: number;
}

const overlap = (one: Range, other: Range): boolean =>
  one.offset < other.end && other.offset < one.end;

function expectEqual(actual: Buffer, expected: Buffer): void {
  if (actual.equals(expected)) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  expect.fail(`byte ${at} of ${actual.length} is ${actual[at]}, not ${expected[at]}`);
}

/** A parity level over simulated disks, and what its array around it would do. */
class Bench {
  readonly world: World;
  readonly shape: OracleShape;
  readonly geometry: ParityGeometry;
  readonly legs: TestLeg[];
  readonly level: Parity<TestLeg>;
  readonly model: Buffer;
  /** Slots that take no writes, and slots that take them but are not read. */
  readonly gone = new Set<number>();
  readonly rebuilding = new Set<number>();
  suspect = false;
  unbuilt = false;
  readonly readErrors: number[] = [];
  private readonly locks = new RangeLocks();
  private readonly changing = new Set<Range>();
  private readonly reading = new Set<Range & { changed: boolean }>();

  constructor(seed: number, level: number, layout: number, raidDisks: number, chunk = CHUNK) {
    this.world = new World(seed);
    const componentBytes = chunk * STRIPES;
    const dataBytes = new Array<number>(raidDisks).fill(componentBytes);
    this.shape = { level, layout, chunkBytes: chunk, raidDisks, componentBytes, dataBytes };
    this.geometry = geometryOf(this.shape) as ParityGeometry;
    this.legs = Array.from({ length: raidDisks }, (_, slot) => this.leg(slot, componentBytes));
    const unread = (slot: number) => this.gone.has(slot) || this.rebuilding.has(slot);
    const { gone, legs: present } = this;
    const legs: Legs<TestLeg> = {
      get inSync() {
        return present.filter(({ slot }) => !unread(slot));
      },
      get writable() {
        return present.filter(({ slot }) => !gone.has(slot));
      },
      inSyncAt: (slot) => (unread(slot) ? null : this.legs[slot]!),
      writableAt: (slot) => (gone.has(slot) ? null : this.legs[slot]!),
    };
    const host: LevelHost<TestLeg> = {
      clock: this.world.clock,
      isSuspect: () => this.suspect,
      isDoubtful: () => this.suspect || this.unbuilt,
      exclusively: (offset, length, work) => this.exclusively(offset, length, work),
      readFailed: ({ slot }) => this.readErrors.push(slot),
      writeFailed: () => expect.fail("no write fails here"),
    };
    this.level = new Parity(this.geometry, legs, host);
    this.model = Buffer.alloc(this.geometry.sizeBytes);
  }

  private leg(slot: number, bytes: number): TestLeg {
    const disk = new SimulatedDisk(bytes);
    const { random, schedule } = this.world;
    const inline = this.world.chance(0.5);
    const member = new SimulatedMember(disk, { path: `/${slot}`, random, schedule, inline });
    return { slot, member, disk, dataOffset: 0, writeMostly: false };
  }

  async exclusively<T>(offset: number, length: number, work: () => Promise<T>): Promise<T> {
    const release = await this.locks.acquire(offset, length);
    try {
      return await work();
    } finally {
      release();
    }
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return this.change(offset, bytes.length, async () => {
      expect(await this.level.write(bytes, offset)).toEqual([]);
      bytes.copy(this.model, offset);
    });
  }

  zero(offset: number, length: number): Promise<void> {
    return this.change(offset, length, async () => {
      const punches = this.world.chance(0.5);
      const failures = punches
        ? await this.level.punch(offset, length)
        : await this.level.zero(offset, length);
      expect(failures).toEqual([]);
      this.model.fill(0, offset, offset + length);
    });
  }

  private change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    return this.exclusively(offset, length, async () => {
      const changed = { offset, end: offset + length };
      this.changing.add(changed);
      for (const read of this.reading) read.changed ||= overlap(read, changed);
      await work();
      this.changing.delete(changed);
    });
  }

  /** What nobody wrote meanwhile must read as the model says. */
  async read(offset: number, length: number): Promise<void> {
    const into = Buffer.alloc(length, 0xee);
    const range = { offset, end: offset + length };
    const changed = [...this.changing].some((change) => overlap(change, range));
    const read = { ...range, changed };
    this.reading.add(read);
    if (!this.level.tryRead(into, offset)) await this.level.read(into, offset);
    this.reading.delete(read);
    if (!read.changed) expectEqual(into, this.model.subarray(offset, offset + length));
  }

  async readAll(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.geometry.sizeBytes, 0xee);
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + 1 + this.world.below(3 * this.geometry.stripeBytes));
      if (!this.level.tryRead(part, at)) await this.level.read(part, at);
      at += part.length;
    }
    return bytes;
  }

  randomBytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.world.below(256)));
  }

  images(): (Buffer | null)[] {
    return this.legs.map(({ slot, disk }) => {
      if (this.gone.has(slot) || this.rebuilding.has(slot)) return null;
      const bytes = Buffer.alloc(disk.sizeBytes);
      disk.read(bytes, 0);
      return bytes;
    });
  }
}

const LEVELS = [
  { name: "raid4", level: 4, layout: 0 },
  ...[0, 1, 2, 3, 4, 5].map((layout) => ({ name: `raid5 layout ${layout}`, level: 5, layout })),
  ...[0, 1, 2, 3, 4, 5, 8, 9, 10].map((layout) => {
    return { name: `raid6 layout ${layout}`, level: 6, layout };
  }),
];

describe.each(LEVELS)("$name", ({ level, layout }) => {
  const parityDisks = level === 6 ? 2 : 1;

  test.each(seedsToRun({ short: 4, long: 60 }))("reads what was written, seed %i", async (seed) => {
    const raidDisks = parityDisks + 2 + (seed % 5);
    const bench = new Bench(seed * 31 + layout, level, layout, raidDisks);
    const { world, geometry } = bench;
    const lost = world.below(parityDisks + 1);
    const steps = async (count: number): Promise<void> => {
      const work: Promise<void>[] = [];
      for (let step = 0; step < count; step++) {
        const length = 1 + world.below(world.pick([512, CHUNK, 3 * geometry.stripeBytes]));
        const offset = world.below(geometry.sizeBytes - length + 1);
        const kind = world.pick(["write", "write", "write", "zero", "read"] as const);
        if (kind === "write") work.push(bench.write(offset, bench.randomBytes(length)));
        else if (kind === "zero") work.push(bench.zero(offset, length));
        else work.push(bench.read(offset, length));
        if (world.chance(0.3)) await world.steps(Promise.all(work), world.below(10));
      }
      await world.until(Promise.all(work));
    };
    await steps(12);
    expect(check(bench.shape, bench.images())).toEqual([]);
    for (let count = 0; count < lost; count++) {
      const slot = world.below(bench.legs.length);
      if (world.chance(0.5)) bench.gone.add(slot);
      else if (!bench.gone.has(slot)) bench.rebuilding.add(slot);
      // What a slot that is rebuilt held before is garbage as far as reads are concerned.
      await steps(12);
    }
    expectEqual(readArray(bench.shape, bench.images()), bench.model);
    expectEqual(await world.until(bench.readAll()), bench.model);
    expect(bench.readErrors).toEqual([]);
  });
});

/** The first chunk of a disk is not what it was. */
function spoil({ disk }: TestLeg, byte: number): void {
  const write = disk.begin(Buffer.alloc(CHUNK, byte), 0);
  disk.takeEffect(write);
  disk.complete(write);
}

describe("a slot that cannot be read", () => {
  test.each([4, 5, 6])("at level %i is stood in for, and named", async (level) => {
    const bench = new Bench(level, level, level === 4 ? 0 : 2, 5);
    const { world, geometry } = bench;
    await world.until(bench.write(0, bench.randomBytes(geometry.sizeBytes)));
    const slot = geometry.stripe(0).data[1]!;
    bench.legs[slot]!.member.failOperation({ nth: 1, kind: "read", persistent: true });
    const into = Buffer.alloc(geometry.stripeBytes);
    expect(bench.level.tryRead(into, 0)).toBe(false);
    const unread = await world.until(bench.level.read(into, 0));
    expectEqual(into, bench.model.subarray(0, into.length));
    expect(unread.length).toBe(1);
    expect(unread[0]).toMatchObject({ offset: CHUNK, length: CHUNK });
    expect(unread[0]!.leg.slot).toBe(slot);
  });

  test("is written nevertheless, and parity fits", async () => {
    const bench = new Bench(1, 5, 2, 6);
    const { world, geometry } = bench;
    await world.until(bench.write(0, bench.randomBytes(geometry.sizeBytes)));
    const slot = geometry.stripe(0).data[0]!;
    bench.legs[slot]!.member.failOperation({ nth: 1, kind: "read" });
    await world.until(bench.write(100, bench.randomBytes(300)));
    expect(bench.readErrors).toEqual([slot]);
    expect(check(bench.shape, bench.images())).toEqual([]);
    expectEqual(readArray(bench.shape, bench.images()), bench.model);
  });

  test("is repaired from the others", async () => {
    const bench = new Bench(2, 6, 2, 6);
    const { world, geometry } = bench;
    await world.until(bench.write(0, bench.randomBytes(geometry.sizeBytes)));
    const leg = bench.legs[geometry.stripe(0).data[0]!]!;
    spoil(leg, 0x66);
    leg.member.failOperation({ nth: 1, kind: "read" });
    expect(await world.until(bench.level.repair(leg, 0, CHUNK))).toEqual([]);
    expectEqual(readArray(bench.shape, bench.images()), bench.model);
  });
});

describe("where parity is not trusted", () => {
  async function suspectBench(gone: boolean): Promise<Bench> {
    const bench = new Bench(3, 5, 2, 4);
    await bench.world.until(bench.write(0, bench.randomBytes(bench.geometry.sizeBytes)));
    bench.suspect = true;
    if (gone) bench.gone.add(bench.geometry.stripe(0).data[0]!);
    return bench;
  }

  test("what is lost is not made up, neither for reads nor behind writes", async () => {
    const { world, level } = await suspectBench(true);
    const buffer = Buffer.alloc(512);
    const unknown = { code: "unknown-data" };
    await expect(world.until(level.read(buffer, 0))).rejects.toMatchObject(unknown);
    await expect(world.until(level.write(buffer, 0))).rejects.toMatchObject(unknown);
    await expect(world.until(level.write(buffer, 0))).rejects.toBeInstanceOf(NbdRaidError);
  });

  test("what is there is read and written, and what parity says of the rest stays", async () => {
    const bench = await suspectBench(true);
    const { world, geometry, level } = bench;
    const { data } = geometry.stripe(0);
    const lost = [...bench.gone][0]!;
    const before = readArray(bench.shape, bench.images());
    await world.until(bench.write(CHUNK + 512, bench.randomBytes(512)));
    const into = Buffer.alloc(CHUNK);
    if (!level.tryRead(into, CHUNK)) await world.until(level.read(into, CHUNK));
    expectEqual(into, bench.model.subarray(CHUNK, 2 * CHUNK));
    expect(data[0]).toBe(lost);
    const after = readArray(bench.shape, bench.images());
    expectEqual(after.subarray(0, CHUNK), before.subarray(0, CHUNK));
  });

  test("writes make parity of data alone, so it is right afterwards", async () => {
    const bench = await suspectBench(false);
    const { world, geometry } = bench;
    const parity = bench.legs[geometry.stripe(0).p]!;
    spoil(parity, 0x5a);
    await world.until(bench.write(512, bench.randomBytes(512)));
    const columns = bench.images().map((image) => image!.subarray(512, 1024));
    const sum = columns.reduce((left, right) =>
      Buffer.from(left.map((byte, at) => byte ^ right[at]!)),
    );
    expect(sum.every((byte) => byte === 0)).toBe(true);
    expect(bench.level.stripeWrites.modify).toBe(0);
  });
});

describe("where parity was never made", () => {
  test("what is written is known without its member, and what is not stays what it was", async () => {
    const bench = new Bench(5, 5, 2, 4);
    const { world, geometry, level } = bench;
    for (const leg of bench.legs) spoil(leg, 0x11 * (leg.slot + 1));
    bench.unbuilt = true;
    const bytes = bench.randomBytes(CHUNK / 2);
    await world.until(bench.write(0, bytes));
    expect(level.stripeWrites).toEqual({ full: 0, reconstruct: 1, modify: 0 });
    bench.gone.add(geometry.stripe(0).data[0]!);
    const readChunk = async (): Promise<Buffer> => {
      const chunk = Buffer.alloc(CHUNK);
      await world.until(level.read(chunk, 0));
      return chunk;
    };
    const first = await readChunk();
    expectEqual(first.subarray(0, CHUNK / 2), bytes);
    await world.until(bench.write(CHUNK, bench.randomBytes(CHUNK)));
    expectEqual(await readChunk(), first);
    const last = bench.randomBytes(CHUNK / 2);
    await world.until(bench.write(CHUNK / 2, last));
    expectEqual(await readChunk(), Buffer.concat([bytes, last]));
  });
});

test("a long read of several chunks does not keep the event loop, though all of it is cached", () => {
  const bench = new Bench(1, 5, 2, 6, 256 * 1024);
  let reads = 0;
  for (const { member } of bench.legs) {
    member.tryReadv = () => {
      reads++;
      return true;
    };
  }
  expect(bench.level.tryRead(Buffer.alloc(INLINE_READ_BYTES_MAX), 0)).toBe(true);
  const before = reads;
  expect(bench.level.tryRead(Buffer.alloc(INLINE_READ_BYTES_MAX + 512), 0)).toBe(false);
  expect(reads).toBe(before);
});

test("a sequential stream is written in whole stripes", async () => {
  const KiB = 1024;
  const bench = new Bench(1, 5, 2, 4, 16 * KiB);
  const { world, geometry, level } = bench;
  const size = 64 * KiB;
  let next = 0;
  // Depth 8: the next write comes when one of the eight is answered.
  const writer = async (): Promise<void> => {
    while (next + size <= geometry.sizeBytes) {
      const offset = next;
      next += size;
      await bench.write(offset, bench.randomBytes(size));
    }
  };
  await world.until(Promise.all(Array.from({ length: 8 }, writer)));
  expectEqual(readArray(bench.shape, bench.images()), bench.model);
  const { full, reconstruct, modify } = level.stripeWrites;
  expect(full / (full + reconstruct + modify)).toBeGreaterThanOrEqual(0.9);
});
