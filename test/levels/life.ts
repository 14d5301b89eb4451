/**
 * One seeded life of an array beside a plain array of bytes: requests that meet in one stripe,
 * members that fail as far as the level bears it, returns, spares, rests and restarts.
 */
import { expect } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import type { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { anyLost, dataDisks, isParity, survives } from "../raid/oracle-placement.ts";
import { contradiction, writeImages } from "../raid/oracle.ts";
import { freshBytes } from "../sim/client.ts";
import { isRedundant, oracleShape, sizeOf } from "../sim/disks.ts";
import type { Bench } from "./bench.ts";

const isLong = process.env["NBD_RAID_LONG"] === "1";
const SMALL_BYTES = 3 * 1024 * 1024;
const LARGE_SETS = 2;
const BURSTS_MAX = 4;
const REQUESTS_MAX = 6;

/** Ranges of one burst never overlap, so that it does not matter which comes first. */
interface Range {
  readonly start: number;
  readonly end: number;
}

export class Life {
  /** What the array must hold. */
  readonly model: Buffer;
  /** By byte: 1 where it is known what is there; not where members came with something on them. */
  private readonly known: Buffer;
  private readonly bench: Bench;
  /** A member that may fail at any moment. */
  private broken: string | null = null;

  constructor(bench: Bench) {
    this.bench = bench;
    this.model = Buffer.alloc(sizeOf(bench.shape));
    this.known = Buffer.alloc(this.model.length, bench.shape.unknown === true ? 0 : 1);
  }

  async run(rounds: number): Promise<void> {
    expect(this.array.sizeBytes).toBe(this.model.length);
    for (let round = 0; round < rounds; round++) {
      await this.bench.until(this.round());
      if (this.chance(0.15)) await this.restart();
    }
    await this.mend();
    await this.expectReads();
  }

  private async round(): Promise<void> {
    const event = this.chooseEvent();
    if (this.bench.shape.unknown !== true) {
      await Promise.all([this.bursts(), event()]);
      return;
    }
    // Parity that is not made yet stands in for nobody.
    await this.array.wait();
    await event();
    await this.bursts();
  }

  private get array(): RaidArray {
    return this.bench.array;
  }

  // ---- requests

  private async bursts(): Promise<void> {
    const count = 1 + this.below(BURSTS_MAX);
    for (let burst = 0; burst < count; burst++) {
      await Promise.all(this.chooseRanges().map((range) => this.request(range)));
      if (this.chance(0.2)) await this.array.flush();
    }
  }

  /** Near to each other, cut anywhere or at the edges that matter. */
  private chooseRanges(): Range[] {
    const { chunkBytes, raidDisks } = this.bench.shape;
    const chunk = chunkBytes === 0 ? 64 * 1024 : chunkBytes;
    const unit = this.pick([1, 512, 4096, chunk]);
    const width = this.pick([600, chunk, 2 * chunk, raidDisks * chunk, 3 * raidDisks * chunk]);
    const window = Math.min(width, this.model.length);
    const base = this.below(this.model.length - window + 1);
    const edges = Array.from({ length: 2 * (1 + this.below(REQUESTS_MAX)) }, () => {
      const edge = base + this.below(window + 1);
      return edge - (edge % unit);
    }).sort((a, b) => a - b);
    const ranges: Range[] = [];
    for (let index = 0; index < edges.length; index += 2) {
      ranges.push({ start: edges[index]!, end: edges[index + 1]! });
    }
    return ranges.filter(({ start, end }) => start < end);
  }

  private async request({ start, end }: Range): Promise<void> {
    const { array, model } = this;
    const length = end - start;
    const fua = this.chance(0.15);
    const kind = this.pick(["write", "write", "write", "write", "read", "read", "trim", "zero"]);
    switch (kind) {
      case "read":
        return this.read({ start, end });
      case "trim":
        await array.trim(start, length, fua);
        model.fill(0, start, end);
        break;
      case "zero":
        await array.zero(start, length, this.chance(0.5), fua);
        model.fill(0, start, end);
        break;
      default: {
        const bytes = freshBytes(this.bench.random, length);
        if (!array.tryWrite(bytes, start, fua)) await array.write(bytes, start, fua);
        model.set(bytes, start);
      }
    }
    this.known.fill(1, start, end);
  }

  private async read({ start, end }: Range): Promise<void> {
    const into = Buffer.alloc(end - start, 0xaa);
    if (!this.array.tryRead(into, start)) await this.array.read(into, start);
    this.expectKnown(into, start, `read of ${start}+${end - start}`);
  }

  // ---- members

  private chooseEvent(): () => Promise<void> {
    const rest = (): Promise<void> => this.bench.sleep(this.pick([1, 20, 400, 5_000]));
    if (!isRedundant(this.bench.shape)) return rest;
    const losable = this.losable();
    const absent = this.absent();
    const events = [rest, () => this.array.wait()];
    if (losable.length > 0) {
      const path = this.pick(losable);
      events.push(
        () => this.array.fail(path),
        () => this.array.fail(path),
      );
      events.push(() => this.breakMember(path));
    }
    if (absent.length > 0) {
      const path = this.pick(absent);
      for (let weight = 0; weight < 3; weight++) events.push(() => this.bringBack(path));
    }
    return this.pick(events);
  }

  private breakMember(path: string): Promise<void> {
    const { bench } = this;
    if (bench.breakMember === undefined || bench.shape.unknown === true) return Promise.resolve();
    // One that fails reads alone stays for a while: with a second more could be lost than is borne.
    if (this.broken !== null) return Promise.resolve();
    this.broken = path;
    bench.breakMember(path);
    return Promise.resolve();
  }

  /** Members in sync that the array can do without now, and without the broken one. */
  private losable(): string[] {
    const { devices } = this.array;
    const shape = oracleShape(this.bench.shape);
    const sound = devices.inSync.filter(({ member }) => member.path !== this.broken);
    return sound
      .filter((lost) =>
        survives(shape, (slot) => sound.some((one) => one !== lost && one.slot === slot)),
      )
      .map(({ member }) => member.path);
  }

  /** Those that are not part of the array now: failed, or left out by a start. */
  private absent(): string[] {
    const { devices } = this.array;
    const part = devices.all().filter(({ state }) => state !== "faulty");
    const used = new Set(part.map(({ member }) => member.path));
    return this.bench.paths.filter((path) => !used.has(path));
  }

  private async bringBack(path: string): Promise<void> {
    const { array, bench } = this;
    if (this.broken === path) this.broken = null;
    if (array.devices.all().some(({ member }) => member.path === path)) await array.remove(path);
    if (this.chance(0.3)) return array.add(bench.replace(path), { writeMostly: false });
    try {
      await array.reAdd(path);
    } catch (error) {
      if (!(error instanceof NbdRaidError) || error.code !== "re-add-refused") throw error;
      await array.add(path, { writeMostly: false });
    }
  }

  private async restart(): Promise<void> {
    await this.bench.stop();
    this.broken = null;
    await this.bench.start();
  }

  // ---- the end

  /** Every member is back and in sync, and the array is stopped. */
  private async mend(): Promise<void> {
    const { bench } = this;
    const back = async (): Promise<void> => {
      while (this.array.devices.degraded > 0) {
        for (const path of this.absent()) await this.bringBack(path);
        await this.array.wait();
      }
    };
    await bench.until(back());
    if (bench.shape.unknown === true) await this.finishSyncs();
    const { regions, devices } = this.array;
    const written = Array.from({ length: regions.count }, (_, region) => region).filter(
      (region) => regions.state(region) !== State.Unwritten,
    );
    const paths = devices.slots.map((device) => device?.member.path ?? "");
    await bench.stop();
    const images = paths.map((path) => bench.image(path));
    if (bench.shape.unknown !== true) this.expectImages(images);
    else if (isParity(oracleShape(bench.shape))) this.expectConsistent(images, regions, written);
  }

  /** What the last requests wrote first has its parity made, also if a stop comes in between. */
  private async finishSyncs(): Promise<void> {
    if (this.chance(0.5)) await this.restart();
    await this.bench.until(this.array.wait());
    const { regions, devices } = this.array;
    expect(devices.degraded).toBe(0);
    expect(regions.counts()).toMatchObject({ needSync: 0, syncing: 0 });
  }

  private expectImages(images: readonly Buffer[]): void {
    const expected = writeImages(oracleShape(this.bench.shape), this.model);
    for (const [slot, image] of images.entries()) {
      expectBytes(image.subarray(0, expected[slot]!.length), expected[slot]!, `slot ${slot}`);
    }
  }

  /** Parity fits wherever anything was written; copies are equal only where it was. */
  private expectConsistent(
    images: readonly Buffer[],
    { regionBytes, trackedBytes }: Regions,
    written: readonly number[],
  ): void {
    for (const region of written) {
      const start = region * regionBytes;
      const end = Math.min(start + regionBytes, trackedBytes);
      const found = contradiction(oracleShape(this.bench.shape), images, start, end);
      expect(found, `region ${region}`).toBeNull();
    }
  }

  /** Whatever may be lost is lost, and what clients read is the same. */
  private async expectReads(): Promise<void> {
    const shape = oracleShape(this.bench.shape);
    const { bench } = this;
    const holders = (await bench.start([...bench.paths], true)).devices.slots;
    const paths = holders.map((device) => device?.member.path ?? "");
    await this.expectModel("with all members");
    for (const lost of this.lostSets(paths.length, Math.min(2, anyLost(shape)))) {
      await bench.stop();
      await bench.start(
        paths.filter((_, slot) => !lost.includes(slot)),
        true,
      );
      await this.expectModel(`without slots ${lost.join()}`);
    }
    await bench.stop();
  }

  /** Every slot, and every pair where two may be lost; of large arrays some, in the short form. */
  private lostSets(slots: number, most: number): number[][] {
    const counts = Array.from({ length: most }, (_, index) => index + 1);
    const all = counts.flatMap((count) => [...choices(slots, count)]);
    if (isLong || this.model.length < SMALL_BYTES || all.length <= LARGE_SETS) return all;
    const chosen = new Set(Array.from({ length: LARGE_SETS }, () => this.pick(all)));
    return [...chosen];
  }

  private async expectModel(what: string): Promise<void> {
    const { shape } = this.bench;
    const stripe = Math.max(1, dataDisks(oracleShape(shape))) * (shape.chunkBytes || 65536);
    const piece = Math.floor(1.7 * stripe) + 77;
    const bytes = Buffer.alloc(this.model.length, 0xaa);
    const readAll = async (): Promise<void> => {
      for (let at = 0; at < bytes.length; at += piece) {
        const into = bytes.subarray(at, at + piece);
        if (!this.array.tryRead(into, at)) await this.array.read(into, at);
      }
    };
    await this.bench.until(readAll());
    this.expectKnown(bytes, 0, what);
  }

  /** The bytes at `offset` of the array are the model's, where those are known. */
  private expectKnown(bytes: Buffer, offset: number, what: string): void {
    const end = offset + bytes.length;
    for (let at = 0; at < bytes.length; at++) {
      if (this.known[offset + at] === 0) bytes[at] = this.model[offset + at]!;
    }
    expectBytes(bytes, this.model.subarray(offset, end), what);
  }

  // ---- chance

  private below(end: number): number {
    return Math.floor(this.bench.random() * end);
  }

  private chance(probability: number): boolean {
    return this.bench.random() < probability;
  }

  private pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
}

function expectBytes(actual: Buffer, expected: Buffer, what: string): void {
  if (actual.equals(expected)) return;
  const differs = (byte: number, index: number): boolean => byte !== expected[index];
  const [first, last] = [actual.findIndex(differs), actual.findLastIndex(differs)];
  expect.fail(`${what}: bytes ${first} to ${last} of ${expected.length} differ`);
}

function* choices(n: number, count: number, from = 0): Iterable<number[]> {
  if (count === 0) return void (yield []);
  for (let slot = from; slot < n; slot++) {
    for (const rest of choices(n, count - 1, slot + 1)) yield [slot, ...rest];
  }
}
