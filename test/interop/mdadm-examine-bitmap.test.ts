/** mdadm reads the internal bitmap, and agrees with `examine` and `status`, at each stage of life. */
import { randomBytes } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { ExaminedBitmap } from "../../src/array/examine.ts";
import { testWith } from "./fixtures.ts";
import { run } from "./run.ts";
import type { Server } from "./server.ts";

const test = testWith("mdadm", "nbdcopy");

const KIB = 1024;
const MIB = 1024 * KIB;
/** md-superblock: where the bitmap superblock of version 1.2 lies, and more than a bitmap takes. */
const BITMAP_AT = 8192;
const BITMAP_BYTES = 512 * KIB;

const internal = (...more: string[]): string[] => ["--bitmap", "internal", ...more];

/** `mdadm --examine-bitmap` takes a file that starts with the bitmap. */
async function mdadmBitmap(server: Server, slot: number): Promise<ReadonlyMap<string, string>> {
  const image = await open(server.images[slot]!);
  const copy = join(server.folder, "bitmap");
  try {
    const { buffer } = await image.read(Buffer.alloc(BITMAP_BYTES), 0, BITMAP_BYTES, BITMAP_AT);
    await writeFile(copy, buffer);
  } finally {
    await image.close();
  }
  const lines = (await run("mdadm", ["--examine-bitmap", copy])).split("\n");
  const pairs = lines.map((line) => line.split(" : ").map((part) => part.trim()));
  return new Map(pairs.map(([key, value]) => [key ?? "", value ?? ""]));
}

async function examined(server: Server, slot: number): Promise<ExaminedBitmap> {
  const { members } = JSON.parse(await server.ok("examine", "--json", server.images[slot]!)) as {
    members: { bitmap: ExaminedBitmap }[];
  };
  return members[0]!.bitmap;
}

function inMdadmsWords(bytes: number): string {
  const units = [
    ["GB", 1024 * MIB],
    ["MB", MIB],
  ] as const;
  const [name, unit] = units.find(([, size]) => bytes >= size) ?? ["KB", KIB];
  return `${bytes / unit} ${name}`;
}

/** What must hold at every stage; returns how many bits are set. */
async function expectAgreement(server: Server, slot: number, state = "OK"): Promise<number> {
  const theirs = await mdadmBitmap(server, slot);
  const ours = await examined(server, slot);
  expect(ours).toMatchObject({ type: "internal", unwritten: 0, needSync: 0, knownZero: false });
  const bits = /^(\d+) bits \(chunks\), (\d+) dirty/.exec(theirs.get("Bitmap") ?? "");
  expect(Object.fromEntries(theirs)).toMatchObject({
    Magic: "6d746962",
    Version: "4",
    Events: String(ours.events),
    "Events Cleared": String(ours.events_cleared),
    State: state,
    Daemon: "5s flush period",
    "Write Mode": "Normal",
  });
  expect(theirs.get("Chunksize")).toBe(inMdadmsWords(ours.regionSize));
  expect(bits?.slice(1)).toEqual([String(ours.regions), String(ours.dirty)]);
  return ours.dirty;
}

async function write(server: Server, bytes: number): Promise<void> {
  const source = join(server.folder, "source.img");
  await writeFile(source, randomBytes(bytes));
  await server.run("nbdcopy", source, server.uri);
}

const LEVELS = [
  { level: "1", members: 2, regionSize: null, syncSizeKib: 64 * KIB, chunk: "64 MB", bits: 1 },
  { level: "1", members: 2, regionSize: "4K", syncSizeKib: 64 * KIB, chunk: "4 KB", bits: 16_384 },
  { level: "5", members: 3, regionSize: "64K", syncSizeKib: 64 * KIB, chunk: "64 KB", bits: 1024 },
  { level: "6", members: 4, regionSize: "2G", syncSizeKib: 64 * KIB, chunk: "2 GB", bits: 1 },
  // The bitmap of level 10 covers the array, not a member.
  { level: "10", members: 3, regionSize: "1M", syncSizeKib: 96 * KIB, chunk: "1 MB", bits: 96 },
];

test.for(LEVELS)(
  "a new one of level $level with regions of $regionSize is clean",
  async ({ level, members, regionSize, syncSizeKib, chunk, bits }, { create }) => {
    const size = regionSize === null ? [] : ["--region-size", regionSize];
    const server = await create({ level, members, createArgs: internal(...size) });
    for (let slot = 0; slot < members; slot++) {
      expect(await expectAgreement(server, slot)).toBe(0);
      const fields = await mdadmBitmap(server, slot);
      expect(fields.get("Chunksize")).toBe(chunk);
      expect(fields.get("Sync Size")?.split(" ")[0]).toBe(String(syncSizeKib));
      expect(fields.get("Bitmap")).toBe(`${bits} bits (chunks), 0 dirty (0.0%)`);
    }
  },
);

test("running: what is being written is dirty on both, and clean again after a rest", async ({
  serve,
}) => {
  const server = await serve({ createArgs: internal("--region-size", "64K") });
  await server.ok("set", "data", "daemon-sleep", "3600");
  await write(server, 3 * 64 * KIB);
  expect((await server.status()).bitmap).toMatchObject({ type: "internal", dirty: 3 });
  for (const slot of [0, 1]) expect(await expectAgreement(server, slot)).toBe(3);
  await server.ok("set", "data", "barrier-idle", "0.1");
  await server.ok("set", "data", "daemon-sleep", "0.1");
  await expect.poll(async () => (await server.status()).bitmap?.dirty, { timeout: 20_000 }).toBe(0);
  for (const slot of [0, 1]) await expect.poll(() => expectAgreement(server, slot)).toBe(0);
});

test("degraded: what the absent member lacks stays dirty, over a stop, until it is back", async ({
  serve,
}) => {
  const server = await serve({ createArgs: internal("--region-size", "64K") });
  await write(server, 64 * KIB);
  await server.restart();
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  await write(server, 2 * 64 * KIB);
  await server.stop();
  expect(await expectAgreement(server, 0)).toBe(2);
  const { events, events_cleared } = await examined(server, 0);
  expect(events_cleared).toBeLessThan(events);
  await server.start([server.images[0]!]);
  await server.ok("re-add", "data", server.images[1]!);
  await server.ok("wait", "data");
  const { lastSync } = await server.status();
  expect(lastSync).toMatchObject({ action: "recovery", result: "done", readBytes: 2 * 64 * KIB });
  await server.stop();
  for (const slot of [0, 1]) expect(await expectAgreement(server, slot)).toBe(0);
});

test("killed: mdadm sees on both what has to be synced", async ({ serve }) => {
  const server = await serve({ createArgs: internal("--region-size", "64K") });
  await server.ok("set", "data", "daemon-sleep", "3600");
  await write(server, 5 * 64 * KIB);
  await server.kill9();
  for (const slot of [0, 1]) expect(await expectAgreement(server, slot)).toBe(5);
  await server.start();
  await server.ok("wait", "data");
  const { lastSync, bitmap } = await server.status();
  expect(lastSync).toMatchObject({ action: "resync", result: "done", readBytes: 5 * 64 * KIB });
  expect(bitmap?.needSync).toBe(0);
});
