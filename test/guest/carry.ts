/** An array of ours that md has for a while: made, filled and left in a state; then taken back. */
import { open } from "node:fs/promises";
import { expect, vi } from "vitest";
import { MIB, Subject } from "../crash/rounds.ts";
import { Server, type ServerOptions } from "../interop/server.ts";
import { seededRandom } from "../member/seeded.ts";
import { type Area, fill, readExport, sha256 } from "./filled.ts";
import { isRedundant, type OursToMd } from "./ours-to-md.cases.ts";

const KIB = 1024;
const BLOCK_BYTES = 4096;
const REGION = "64K";
/** What is written while a member is away, and the load that the kill ends: a small part. */
const AREA_BYTES = 2 * MIB;
const KILL_AFTER_REQUESTS = 200;
/** md writes these many blocks, each at a place of its own. */
const MORE_BLOCKS = [1, 16, 37, 64];
export const MORE_BYTES = MORE_BLOCKS.reduce((sum, blocks) => sum + blocks) * BLOCK_BYTES;

/** What `examine --json` says of the bitmap of one member: regions. */
export interface Counts {
  readonly type: string;
  readonly regionSize: number;
  readonly regions: number;
  readonly unwritten: number;
  readonly clean: number;
  readonly dirty: number;
  readonly needSync: number;
  readonly syncing: number;
}

/** Behind the bitmap's header on every member: a byte a region, 0 where nothing was ever written. */
const STATES_OFFSET = 8192 + 1024;
const PARITY: Readonly<Record<string, number>> = { "4": 1, "5": 1, "6": 2 };

/** Bytes of the bitmap's regions that a sync must look at. */
export const markedBytes = ({ regionSize, dirty, needSync, syncing }: Counts): number =>
  (dirty + needSync + syncing) * regionSize;

export class Carry {
  readonly of: OursToMd;
  readonly server: Server;
  /** The first member's bitmap as we left it; null without one. */
  readonly counts: Counts | null;
  readonly sizeBytes: number;
  /** Bytes that are used of each member; of levels without redundancy 0. */
  readonly componentBytes: number;
  /** Where md writes more, as the script takes it; empty: it must not. */
  readonly moreAt: string;
  private readonly content: Buffer;
  /** Where a member that md has rebuilt holds what it held before, as md takes it to be of no use. */
  private readonly neverWritten: readonly Area[];
  /** What knows what a load left that was killed. */
  private readonly subject: Subject;

  private constructor(made: Made, content: Buffer, subject: Subject) {
    this.of = made.of;
    this.server = made.server;
    this.counts = made.counts;
    this.sizeBytes = made.sizeBytes;
    this.componentBytes = made.componentBytes;
    this.moreAt = made.moreAt;
    this.neverWritten = made.neverWritten;
    this.content = content;
    this.subject = subject;
  }

  /** Makes the array, fills it, and leaves it in its state; nothing serves it then. */
  static async make(this: void, of: OursToMd, seed: number): Promise<Carry> {
    const server = await Server.start(serverOptions(of));
    try {
      const { size } = await server.status();
      const random = seededRandom(seed);
      const subject = new Subject(server, size, random);
      const content = Buffer.alloc(size);
      await leave(of, server, subject, content, seed);
      const { counts, componentBytes } = await examine(server);
      const moreAt = of.state === "killed" ? "" : placesOf(size, random);
      const isRebuilt = of.state === "degraded" && of.bitmap === "lockless";
      const neverWritten = isRebuilt ? await unwrittenAreas(of, server.images[0]!, counts!) : [];
      const made = { of, server, counts, sizeBytes: size, componentBytes, moreAt, neverWritten };
      return new Carry(made, content, subject);
    } catch (error) {
      await server.dispose();
      throw new Error(`${of.title}: seed ${seed}`, { cause: error });
    }
  }

  get images(): readonly string[] {
    return this.server.images;
  }

  /** What md's clients must read; not known before it is seen where a load was killed. */
  get digest(): string | null {
    return this.of.state === "killed" ? null : sha256(this.content);
  }

  /** What we read in the bitmap now. */
  async countsNow(): Promise<Counts | null> {
    return (await examine(this.server)).counts;
  }

  /** md has written `more`, and stopped: we serve the array again, and all is there. */
  async expectBack(more: Buffer, found: ReadonlyMap<string, string>): Promise<void> {
    const { server, content, sizeBytes } = this;
    const unknown = new Set(this.neverWritten.flatMap(blocksOf));
    let taken = 0;
    for (const { start, end } of areasOf(this.moreAt)) {
      content.set(more.subarray(taken, taken + end - start), start);
      taken += end - start;
      for (const block of blocksOf({ start, end })) unknown.delete(block);
    }
    await server.start();
    const { degraded, sync, lastSync } = await server.status();
    expect({ degraded, sync, lastSync }).toEqual({ degraded: 0, sync: null, lastSync: null });
    if (this.of.state === "killed") await this.subject.expectIntact();
    const bytes = await readExport(server.socket, sizeBytes);
    for (const block of unknown) {
      const [start, end] = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES];
      expect(content.subarray(start, end).every((byte) => byte === 0)).toBe(true);
      bytes.fill(0, start, end);
    }
    const expected = this.of.state === "killed" ? found.get("digest") : sha256(content);
    expect(sha256(bytes), "content").toBe(expected);
    if (isRedundant(this.of)) await this.expectCheckedAs(found.get("mismatches_at_stop") ?? "0");
    await server.stop();
  }

  /** Our check counts what md's did last, in sectors. */
  private async expectCheckedAs(mismatches: string): Promise<void> {
    await this.server.ok("check", "data", "--wait");
    const { degraded, mismatchCount, sync, lastSync } = await this.server.status();
    expect({ degraded, sync, mismatches: String(mismatchCount) }).toEqual({
      ...{ degraded: 0, sync: null, mismatches },
    });
    expect(lastSync).toMatchObject({ action: "check", result: "done" });
  }
}

type Made = Pick<Carry, "of" | "server" | "counts" | "sizeBytes" | "componentBytes" | "moreAt"> & {
  readonly neverWritten: readonly Area[];
};

/** "OFFSET:LENGTH ..." in blocks, as bytes. */
const areasOf = (places: string): Area[] =>
  [...places.matchAll(/(\d+):(\d+)/g)].map(([, offset, blocks]) => ({
    start: Number(offset) * BLOCK_BYTES,
    end: (Number(offset) + Number(blocks)) * BLOCK_BYTES,
  }));

const blocksOf = ({ start, end }: Area): number[] =>
  Array.from({ length: (end - start) / BLOCK_BYTES }, (_, at) => start / BLOCK_BYTES + at);

/** Of arrays whose chunks are not longer than regions, levels 1, 4, 5 and 6. */
async function unwrittenAreas(of: OursToMd, image: string, counts: Counts): Promise<Area[]> {
  const parity = PARITY[of.level];
  const bytes = counts.regionSize * (parity === undefined ? 1 : of.members - parity);
  const file = await open(image);
  try {
    const { buffer } = await file.read(
      Buffer.alloc(counts.regions),
      0,
      counts.regions,
      STATES_OFFSET,
    );
    const regions = [...buffer.keys()].filter((region) => buffer[region] === 0);
    expect(regions).toHaveLength(counts.unwritten);
    return regions.map((region) => ({ start: region * bytes, end: (region + 1) * bytes }));
  } finally {
    await file.close();
  }
}

function serverOptions(of: OursToMd): ServerOptions {
  const chunk = of.chunkKib === 0 ? [] : ["--chunk", `${of.chunkKib}K`];
  const layout = of.layout === null ? [] : ["--layout", of.layout];
  const bitmap = of.madeWith ?? of.bitmap;
  const { level, members, imageKib } = of;
  return {
    ...{ level, members, size: `${of.memberMib}M` },
    ...(imageKib === undefined ? {} : { imageBytes: imageKib.map((kib) => kib * KIB) }),
    createArgs: ["--bitmap", bitmap, ...chunk, ...layout, ...regionOf(bitmap)],
  };
}

const regionOf = (bitmap: OursToMd["bitmap"]): readonly string[] =>
  bitmap === "none" ? [] : ["--region-size", REGION];

async function leave(
  of: OursToMd,
  server: Server,
  subject: Subject,
  content: Buffer,
  seed: number,
): Promise<void> {
  if (of.state === "killed") {
    await subject.fill();
    const load = await subject.load(AREA_BYTES);
    await vi.waitUntil(() => load.answered > KILL_AFTER_REQUESTS, { timeout: 60_000 });
    await server.kill9();
    return load.stop();
  }
  await fill(server.socket, content, seed);
  if (of.state === "degraded") {
    await server.restart(); // every region is Clean
    await server.ok("fail", "data", "1");
    const start = Math.floor(content.length / 3 / BLOCK_BYTES) * BLOCK_BYTES;
    await fill(server.socket, content, seed + 1, { start, end: start + AREA_BYTES });
  }
  await server.stop();
  if (of.madeWith === undefined) return;
  await server.ok("convert", ...server.images, "--bitmap", of.bitmap, ...regionOf(of.bitmap));
}

async function examine(server: Server): Promise<{ counts: Counts | null; componentBytes: number }> {
  const text = await server.ok("examine", "--json", server.images[0]!);
  const { members } = JSON.parse(text) as {
    members: { bitmap: Counts | null; superblock: { size: number } }[];
  };
  const { bitmap, superblock } = members[0]!;
  return { counts: bitmap, componentBytes: superblock.size * 512 };
}

/** "OFFSET:LENGTH ..." in blocks: apart from each other, the last one at the end of the array. */
function placesOf(sizeBytes: number, random: () => number): string {
  const all = Math.floor(sizeBytes / BLOCK_BYTES);
  const part = Math.floor(all / MORE_BLOCKS.length);
  const places = MORE_BLOCKS.map((blocks, index) => {
    const isLast = index === MORE_BLOCKS.length - 1;
    const within = isLast ? all - index * part - blocks : Math.floor(random() * (part - blocks));
    return `${index * part + within}:${blocks}`;
  });
  return places.join(" ");
}
