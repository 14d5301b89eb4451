import { openSync, closeSync, readSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import type { RaidArray } from "../../src/array/array.ts";
import { createArray } from "../../src/array/create.ts";
import { openArrays } from "../../src/array/open.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import { deviceBytesFor, roundUpToUnit } from "../../src/metadata/layout.ts";
import { layoutName } from "../../src/raid/geometry/layouts.ts";
import { makeImage } from "../array/images.ts";
import { seededRandom } from "../member/seeded.ts";
import { levelNumber } from "../raid/oracle-shapes.ts";
import type { Shape } from "../sim/disks.ts";
import type { Bench } from "./bench.ts";

const logger = pino({ level: "silent" });
/** md-superblock: data_offset, in sectors, is 128 bytes into it. */
const DATA_OFFSET_AT = 4096 + 128;

/** Image files made by `create`, the real clock, and syncs in a thread of their own. */
export class FileBench implements Bench {
  readonly shape: Shape;
  readonly random: Random;
  private readonly folder: string;
  private files: string[];
  private running: RaidArray | null = null;
  private spares = 0;

  private constructor(folder: string, seed: number, shape: Shape) {
    this.folder = folder;
    this.shape = shape;
    this.random = seededRandom(seed);
    this.files = Array.from({ length: shape.raidDisks }, (_, slot) => join(folder, `disk${slot}`));
  }

  static async create(folder: string, seed: number, shape: Shape): Promise<FileBench> {
    const bench = new FileBench(folder, seed, shape);
    if (shape.sizes !== undefined) {
      for (const slot of shape.sizes.keys()) bench.makeBlank(bench.files[slot]!, slot);
    }
    await createArray({
      name: "files",
      level: shape.level,
      members: bench.files,
      ...(shape.sizes === undefined ? { sizeBytes: shape.sizeBytes } : {}),
      ...(shape.chunkBytes === 0 ? {} : { chunkBytes: shape.chunkBytes }),
      ...layoutOf(shape),
      ...{ bitmap: shape.bitmap, spares: 0, writeMostly: [] },
      ...(shape.regionBytes === undefined ? {} : { regionBytes: shape.regionBytes }),
      ...{ assumeClean: false, preallocate: false, force: false },
    });
    return bench;
  }

  get array(): RaidArray {
    if (this.running === null) throw new Error("the array is stopped");
    return this.running;
  }

  get paths(): readonly string[] {
    return this.files;
  }

  until<T>(promise: Promise<T>): Promise<T> {
    return promise;
  }

  /** A hundredth of it, so that tests end. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms / 100));
  }

  replace(path: string): string {
    const replacement = join(this.folder, `spare${this.spares++}`);
    this.makeBlank(replacement, this.files.indexOf(path));
    this.files = this.files.map((file) => (file === path ? replacement : file));
    return replacement;
  }

  async start(paths = this.paths, readOnly = false): Promise<RaidArray> {
    const options = { readOnly, run: true, force: false, logger };
    const [array] = await openArrays(paths, options);
    if (array === undefined) throw new Error("no array");
    array.set({ daemonSleepMs: 60, barrierIdleMs: 20 });
    this.running = array;
    await array.start();
    return array;
  }

  async stop(): Promise<void> {
    await this.array.stop();
    this.running = null;
  }

  image(path: string): Buffer {
    const bytes = Buffer.alloc(statSync(path).size);
    const file = openSync(path, "r");
    readSync(file, bytes, 0, bytes.length, 0);
    closeSync(file);
    return bytes.subarray(Number(bytes.readBigUInt64LE(DATA_OFFSET_AT)) * 512);
  }

  /** Whatever runs ends, and all files go. */
  async dispose(): Promise<void> {
    await this.running?.stop();
    await rm(this.folder, { recursive: true });
  }

  private makeBlank(path: string, slot: number): void {
    const { sizes, sizeBytes, level, chunkBytes } = this.shape;
    const chunk = chunkBytes === 0 ? null : chunkBytes;
    const usable = roundUpToUnit(sizes?.[slot] ?? sizeBytes, level, chunk);
    makeImage(path, deviceBytesFor(usable, chunk));
  }
}

function layoutOf({ level, layout }: Shape): { layout?: string } {
  const name = layoutName(levelNumber(level), layout);
  return name === null ? {} : { layout: name };
}
