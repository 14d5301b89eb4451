import { expect } from "vitest";
import { ControlClient } from "../../src/control/client.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import type { Server } from "../interop/server.ts";
import { seededRandom } from "../member/seeded.ts";
import { BLOCK_BYTES, decodeBlock } from "./blocks.ts";
import {
  expectEqualData,
  expectExamined,
  type Marked,
  readBlock,
  markedRegions,
  tearBlocks,
} from "./images.ts";
import { Load } from "./load.ts";
import { Model, type Survival } from "./model.ts";
import { readAll } from "./session.ts";

/** NBD_RAID_LONG=1 takes more and longer rounds. */
export const isLong = process.env["NBD_RAID_LONG"] === "1";

export const MIB = 1024 * 1024;

/** The choices of one run: NBD_RAID_SEED makes them again. */
export function seeded(): { seed: number; random: Random } {
  const seed = Number(process.env["NBD_RAID_SEED"] ?? Date.now() % 1_000_000_000);
  console.info(`NBD_RAID_SEED=${seed}`);
  return { seed, random: seededRandom(seed) };
}

export const between = (random: Random, low: number, high: number): number =>
  low + Math.floor(random() * (high - low));

export const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));

/** A server under test and what its export must hold. */
export class Subject {
  readonly server: Server;
  readonly sizeBytes: number;
  readonly model = new Model();
  private readonly random: Random;

  constructor(server: Server, sizeBytes: number, random: Random) {
    this.server = server;
    this.sizeBytes = sizeBytes;
    this.random = random;
  }

  get control(): ControlClient {
    return new ControlClient(this.server.control);
  }

  /** A load on `areaBytes` at a random place, so that most of the array stays as it is. */
  load(areaBytes: number): Promise<Load> {
    const count = areaBytes / BLOCK_BYTES;
    const first = between(this.random, 0, this.sizeBytes / BLOCK_BYTES - count + 1);
    const seed = between(this.random, 0, 2 ** 31);
    return Load.start({
      socket: this.server.socket,
      model: this.model,
      seed,
      area: { first, count },
    });
  }

  async loadFor(areaBytes: number, ms: number): Promise<void> {
    const load = await this.load(areaBytes);
    await sleep(ms);
    await load.stop();
    expect([...load.errors]).toEqual([]);
  }

  /** Data everywhere, and every region Clean. */
  async fill(): Promise<void> {
    await this.loadFor(this.sizeBytes, 500);
    await this.server.restart();
  }

  /** Reads everything; what is found must be possible, and must stay. */
  async expectIntact(survival: Survival = "answered"): Promise<void> {
    await readAll(this.server.socket, this.sizeBytes, (first, data) =>
      this.model.settle(first, data, survival),
    );
  }

  async expectSynced(images: readonly string[] = this.server.images): Promise<void> {
    await this.control.wait("data");
    expect(await this.server.status()).toMatchObject({ degraded: 0, sync: null });
    await expectEqualData(images, this.sizeBytes);
  }

  /** kill -9 under load, after `ms`. */
  async killUnderLoad(areaBytes: number, ms: number): Promise<Load> {
    const load = await this.load(areaBytes);
    await sleep(ms);
    await this.server.kill9();
    await load.stop();
    expect([...load.errors]).toEqual([]);
    return load;
  }

  marked(): Promise<Marked> {
    return markedRegions(this.server.images, this.sizeBytes);
  }

  /**
   * No member holds data of a write whose region none of them calls marked. For a server that
   * has not turned regions Clean meanwhile.
   */
  async expectMarkedFirst(): Promise<void> {
    const { regionBytes, regions } = await this.marked();
    const unmarked = this.model
      .unanswered()
      .filter((block) => !regions.has(Math.floor((block * BLOCK_BYTES) / regionBytes)));
    for (const image of this.server.images) {
      for (const block of unmarked) {
        const content = decodeBlock(await readBlock(image, block), block);
        this.model.expectNotUnderWay(block, content);
      }
    }
  }

  /**
   * Tears what was under way on a member, as a power cut may leave it: where regions are marked,
   * and on a member that reads are not pinned to. No read may ever show it.
   */
  async tearUnanswered(image: string): Promise<Marked> {
    const marked = await this.marked();
    const regionOf = (block: number) => Math.floor((block * BLOCK_BYTES) / marked.regionBytes);
    const torn = this.model.unanswered().filter((block) => marked.regions.has(regionOf(block)));
    await tearBlocks(image, torn);
    return marked;
  }

  /** Starts again after a kill and checks all that is promised then. */
  async expectRecovered(): Promise<void> {
    const { server, sizeBytes } = this;
    await expectExamined(server.images);
    const { regionBytes, regions } = await this.tearUnanswered(server.images.at(-1)!);
    await server.start();
    await this.expectIntact();
    await expectExamined(server.images);
    await this.expectSynced();
    await this.expectIntact();
    await expectExamined(server.images);
    const readBytes = regions.size * regionBytes;
    const resync = { action: "resync", result: "done", readBytes };
    const { lastSync } = await server.status();
    if (readBytes === 0) expect(lastSync).toBeNull();
    else expect(lastSync).toMatchObject({ ...resync, skippedBytes: sizeBytes - readBytes });
  }
}
