/** Members that fail, go and come back: only what they lack is copied, and only if that is known. */
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "../interop/fixtures.ts";
import { digest } from "../interop/images.ts";
import type { Server } from "../interop/server.ts";
import { expectEqualData } from "./images.ts";
import { isLong, MIB, seeded, sleep, Subject } from "./rounds.ts";

const test = testWith("mdadm");

/** Data in all of the array, every region Clean. */
async function filled(server: Server): Promise<Subject> {
  const subject = new Subject(server, 128 * MIB, seeded().random);
  await subject.fill();
  return subject;
}

test("a member that fails under load comes back by bitmap, with what it missed", async ({
  serve,
}) => {
  const server = await serve({ size: "256M" });
  const subject = new Subject(server, 256 * MIB, seeded().random);
  await subject.fill();
  for (let round = 0; round < (isLong ? 50 : 2); round++) {
    const load = await subject.load(64 * MIB);
    await sleep(100);
    await subject.control.fail("data", "1");
    await sleep(100);
    await subject.control.remove("data", "1");
    await subject.control.reAdd("data", server.images[1]!);
    await subject.control.wait("data");
    await load.stop();
    expect([...load.errors]).toEqual([]);
    await subject.expectSynced();
    await subject.expectIntact();
    const { lastSync } = await server.status();
    expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
    expect(lastSync?.readBytes).toBeGreaterThan(0);
    // The area, rounded out to whole blocks of the bitmap.
    expect(lastSync?.readBytes).toBeLessThanOrEqual(96 * MIB);
    await server.restart();
  }
});

test("a member that is too old is refused by re-add, and taken by add in full", async ({
  serve,
}) => {
  const server = await serve({ size: "128M" });
  const subject = await filled(server);
  const [, old = ""] = server.images;
  const other = join(server.folder, "other.img");
  await writeFile(other, "");
  await truncate(other, 160 * MIB);
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  await server.ok("add", "data", other);
  await subject.control.wait("data");
  await subject.loadFor(4 * MIB, 200);
  await subject.control.set("data", { daemonSleepMs: 50, barrierIdleMs: 20 });
  await expect.poll(async () => (await server.status()).bitmap?.dirty).toBe(0);
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");

  const refused = await server.cli("re-add", "data", old);
  expect(refused.code).toBe(4);
  expect(refused.stderr).toContain("nbd-raid add");
  expect((await server.status()).degraded).toBe(1);

  await server.ok("add", "data", old);
  await subject.expectSynced();
  await subject.expectIntact();
});

test("an array with a member missing starts with --run only", async ({ serve }) => {
  const server = await serve({ size: "128M" });
  const subject = await filled(server);
  const [first = "", second = ""] = server.images;
  await server.stop();
  const before = await digest(first);
  await expect(server.start([first])).rejects.toThrow("--run");
  expect(await digest(first)).toBe(before);

  await server.start([first], ["--run"]);
  await subject.loadFor(4 * MIB, 200);
  expect((await server.status()).degraded).toBe(1);
  await server.restart();
  await subject.expectIntact();
  await server.ok("re-add", "data", second);
  await subject.expectSynced();
  await subject.expectIntact();
  expect((await server.status()).lastSync?.readBytes).toBeLessThanOrEqual(64 * MIB);
});

test("members that each went on without the other are refused, untouched", async ({ serve }) => {
  const server = await serve({ size: "16M" });
  await server.stop();
  for (const image of server.images) {
    await server.start([image], ["--run"]);
    await new Subject(server, 16 * MIB, seeded().random).loadFor(MIB, 100);
    await server.kill9();
  }
  const before = await Promise.all(server.images.map(digest));
  for (const args of [[], ["--run"], ["--force"]]) {
    await expect(server.start(server.images, args)).rejects.toThrow("split brain");
  }
  expect(await Promise.all(server.images.map(digest))).toEqual(before);
});

test("writes that overlap, over two connections, leave equal members", async ({ serve }) => {
  const server = await serve({ size: "16M" });
  const subject = new Subject(server, 16 * MIB, seeded().random);
  // Short ones: where a later write repairs it, a difference is not seen.
  for (let load = 0; load < (isLong ? 1000 : 30); load++) await subject.loadFor(256 * 1024, 50);
  expect((await server.status()).lastSync).toBeNull();
  await expectEqualData(server.images, subject.sizeBytes);
  await subject.expectIntact();
});
