/**
 * Arrays converted by the real program, in every direction: mdadm agrees with what it finds, what
 * clients wrote is there, and the new bitmap does its work after a kill.
 */
import { copyFile, readFile, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { dataDigest, digest, mdadmExamine } from "./images.ts";
import { expectChecked, expectConsistentImages, type LevelCase, optionsOf } from "./levels.ts";
import { attempt, run } from "./run.ts";
import type { Server } from "./server.ts";

const test = testWith("mdadm", "nbdcopy", "nbdsh");

const isLong = process.env["NBD_RAID_LONG"] === "1";
const MIB = 1024 * 1024;
const COMPONENT_BYTES = 16 * MIB;
const REGION_BYTES = 256 * 1024;

type Kind = "lockless" | "internal" | "none";
/** From lockless on: each of the three becomes each of the two others. */
const WALK: readonly Kind[] = ["internal", "none", "lockless", "none", "internal", "lockless"];

const LEVELS: readonly (LevelCase & { readonly sizeBytes: number })[] = [
  { title: "1", level: "1", layout: null, members: 2, chunkKib: 0, sizeBytes: 16 * MIB },
  {
    title: "5",
    ...{ level: "5", layout: "left-symmetric", members: 3, chunkKib: 64, sizeBytes: 32 * MIB },
  },
  { title: "10", level: "10", layout: "n2", members: 3, chunkKib: 64, sizeBytes: 24 * MIB },
];

/** The superblocks, and with md's own bitmap that one, as mdadm reads them. */
async function expectExamined(server: Server, kind: Kind, tracked: number): Promise<void> {
  for (const image of server.images) {
    const fields = await mdadmExamine(image);
    expect(fields.get("State")).toBe("clean");
    expect(fields.get("Checksum")).toMatch(/ - correct$/);
    expect(fields.get("Feature Map")).toBe(kind === "none" ? "0x0" : "0x1");
    expect(fields.get("Internal Bitmap")).toBe(
      kind === "none" ? undefined : "8 sectors from superblock",
    );
    if (kind !== "internal") continue;
    const bitmap = await examineBitmap(server, image);
    expect(bitmap.get("Version")).toBe("4");
    expect(bitmap.get("UUID")).toBe(fields.get("Array UUID"));
    expect(bitmap.get("Events")).toBe(fields.get("Events"));
    expect(bitmap.get("Events Cleared")).toBe(fields.get("Events"));
    expect(bitmap.get("State")).toBe("OK");
    expect(bitmap.get("Chunksize")).toBe("256 KB");
    expect(bitmap.get("Bitmap")).toBe(`${tracked / REGION_BYTES} bits (chunks), 0 dirty (0.0%)`);
  }
}

/** mdadm looks for one in a file at its start. */
async function examineBitmap(server: Server, image: string): Promise<ReadonlyMap<string, string>> {
  const file = join(server.folder, "bitmap");
  await writeFile(file, (await readFile(image)).subarray(8192, 8192 + 128 * 1024));
  const lines = (await run("mdadm", ["--examine-bitmap", file])).split("\n");
  return new Map(
    lines.map((line) => {
      const [key = "", ...value] = line.split(" : ");
      return [key.trim(), value.join(" : ").trim()];
    }),
  );
}

async function contents(server: Server): Promise<string> {
  const copy = join(server.folder, "copy.img");
  await server.run("nbdcopy", server.uri, copy);
  const found = await digest(copy);
  await rm(copy);
  return found;
}

/** The short form serves each direction at one of the levels. */
const isServed = (level: number, step: number): boolean => isLong || step % LEVELS.length === level;

for (const [level, of] of LEVELS.entries()) {
  test(`level ${of.title}: in every direction, mdadm agrees and nothing is lost`, async ({
    create,
  }) => {
    const server = await create(optionsOf(of, String(COMPONENT_BYTES)));
    const source = join(server.folder, "source.img");
    const bytes = randomBytes(of.sizeBytes);
    await writeFile(source, bytes);
    await server.start();
    await server.run("nbdcopy", source, server.uri);
    await server.stop();
    const tracked = of.level === "10" ? of.sizeBytes : COMPONENT_BYTES;

    let before: Kind = "lockless";
    for (const [step, kind] of WALK.entries()) {
      const data = await Promise.all(server.images.map((image) => dataDigest(image)));
      const size = kind === "none" ? [] : ["--region-size", String(REGION_BYTES)];
      const args = ["convert", ...server.images, "--bitmap", kind, ...size, "--json"];
      const { changed, ...found } = JSON.parse(await server.ok(...args)) as {
        changed: boolean;
        before: { type: string } | null;
        bitmap: { type: string } | null;
      };
      expect(changed).toBe(true);
      expect([found.before?.type ?? "none", found.bitmap?.type ?? "none"]).toEqual([before, kind]);
      expect(await Promise.all(server.images.map((image) => dataDigest(image)))).toEqual(data);
      await expectExamined(server, kind, tracked);
      before = kind;
      if (!isServed(level, step)) continue;

      await server.start();
      const { bitmap, sync } = await server.status();
      expect([bitmap?.type ?? "none", sync]).toEqual([kind, null]);
      expect(await contents(server)).toBe(await digest(source));
      const at = step * MIB + 4096;
      bytes.fill(step + 1, at, at + 100_000);
      await writeFile(source, bytes);
      const write = `h.pwrite(bytes([${step + 1}]) * 100000, ${at})`;
      await server.run("nbdsh", "--uri", server.uri, "-c", write);
      await server.kill9();

      await server.start();
      await server.ok("wait", "data");
      const { lastSync } = await server.status();
      expect(lastSync).toMatchObject({ action: "resync", result: "done" });
      if (kind === "none") expect(lastSync?.skippedBytes).toBe(0);
      else expect(lastSync?.skippedBytes).toBeGreaterThan(tracked / 2);
      expect(await contents(server)).toBe(await digest(source));
      await server.stop();
    }
    await server.start();
    expect(await contents(server)).toBe(await digest(source));
    await expectChecked(server);
    await server.stop();
    await expectConsistentImages(of, server.images);
  });
}

test("a server that has the members is in the way, and goes on undisturbed", async ({ serve }) => {
  const server = await serve({ size: "4M" });
  const { code, stderr } = await server.cli("convert", ...server.images, "--bitmap", "none");
  expect(code).toBe(4);
  expect(stderr).toBe(
    `nbd-raid: ${server.images[0]} is in use (stop the server that has it open)\n`,
  );
  expect((await server.status()).bitmap?.type).toBe("lockless");
});

test("what a kill left is refused until it was synced and stopped", async ({ serve }) => {
  const server = await serve({ size: "4M" });
  await server.run("nbdsh", "--uri", server.uri, "-c", 'h.pwrite(b"x" * 4096, 0)');
  await server.kill9();
  const before = await Promise.all(server.images.map(digest));
  const convert = ["convert", ...server.images, "--bitmap", "internal"];
  const { code, stderr } = await server.cli(...convert);
  expect(code).toBe(4);
  expect(stderr).toMatch(/^nbd-raid: data: it was not stopped clean \(.+\)\n$/);
  expect(await Promise.all(server.images.map(digest))).toEqual(before);
  await server.start();
  await server.ok("wait", "data");
  await server.stop();
  await server.ok(...convert);
});

test("one that another has replaced cannot come back by the new bitmap", async ({ serve }) => {
  const server = await serve({ size: "4M" });
  const [, second] = server.images;
  const old = join(server.folder, "old.img");
  await server.stop();
  await copyFile(second!, old);
  await server.ok("convert", ...server.images, "--bitmap", "internal");
  await server.start();
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  const { code, stderr } = await server.cli("re-add", "data", old);
  expect(code).toBe(4);
  expect(stderr).toMatch(/nbd-raid add copies it in full/);
  await server.ok("add", "data", old);
  await server.ok("wait", "data");
  expect((await attempt("mdadm", ["--examine", old])).code).toBe(0);
  expect((await server.status()).degraded).toBe(0);
});
