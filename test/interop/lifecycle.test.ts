import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { dataDigest, mdadmExamine } from "./images.ts";
import type { Server } from "./server.ts";

const test = testWith("nbdcopy", "nbdsh", "mdadm");

async function fill(server: Server): Promise<void> {
  const source = join(server.folder, "source.img");
  await writeFile(source, randomBytes(64 * 1024 * 1024));
  await server.run("nbdcopy", source, server.uri);
}

test("SIGTERM marks the array clean, and the next start needs no sync", async ({ serve }) => {
  const server = await serve();
  await fill(server);
  await server.stop();
  for (const image of server.images) {
    expect((await mdadmExamine(image)).get("State")).toBe("clean");
  }
  await server.start();
  const status = await server.status();
  expect(status).toMatchObject({ degraded: 0, sync: null, lastSync: null });
  expect(status.bitmap).toMatchObject({ dirty: 0, needSync: 0, syncing: 0 });
});

/** Of a process; Z: it has exited, and its parent has yet to hear of it. Empty: it is gone. */
function stateOf(pid: number): string {
  try {
    return /\) (\w) [^)]*$/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1] ?? "?";
  } catch {
    return "";
  }
}

test("`nbd-raid stop` returns when the server has exited, clean", async ({ serve }) => {
  const server = await serve();
  await fill(server);
  const { pid } = server;
  await server.ok("stop");
  expect(stateOf(pid)).toMatch(/^[ZX]?$/);
  expect((await mdadmExamine(server.images[0] ?? "")).get("State")).toBe("clean");
});

test("after kill -9 the dirty regions alone are synced, and the members are equal", async ({
  serve,
}) => {
  const server = await serve();
  await server.run("nbdsh", "--uri", server.uri, "-c", 'h.pwrite(b"x" * 100000, 20 << 20)');
  await server.kill9();
  await server.start();
  await server.ok("wait", "data");
  const { lastSync, sync } = await server.status();
  expect(sync).toBeNull();
  expect(lastSync).toMatchObject({ action: "resync", result: "done" });
  expect(lastSync?.skippedBytes).toBeGreaterThan(0);
  await server.stop();
  const [first, second] = await Promise.all(server.images.map((image) => dataDigest(image)));
  expect(second).toBe(first);
});

test("sockets left by a killed server are in nobody's way", async ({ serve }) => {
  const server = await serve();
  await server.kill9();
  await server.start();
  expect((await server.cli("status", "--quiet")).code).toBe(0);
});

test("a client's data outlives the loss of either member", async ({ serve }) => {
  const server = await serve();
  const write = 'h.pwrite(b"still here", 12345)';
  const read = 'assert h.pread(10, 12345) == b"still here"';
  await server.run("nbdsh", "--uri", server.uri, "-c", write);
  await server.stop();
  for (const image of server.images) {
    await server.start([image], ["--read-only", "--run"]);
    await server.run("nbdsh", "--uri", server.uri, "-c", read);
    await server.stop();
  }
});

test("`status` exits 0 when healthy, 1 when degraded, 3 without a server", async ({ serve }) => {
  const server = await serve();
  expect((await server.cli("status", "--quiet")).code).toBe(0);
  await server.ok("fail", "data", "1");
  expect((await server.cli("status", "--quiet")).code).toBe(1);
  await server.stop();
  expect((await server.cli("status", "--quiet")).code).toBe(3);
});

test("a failed member comes back by bitmap with only what it missed", async ({ serve }) => {
  const server = await serve();
  await fill(server);
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  await server.run("nbdsh", "--uri", server.uri, "-c", 'h.pwrite(b"missed", 30 << 20)');
  await server.ok("re-add", "data", server.images[1] ?? "");
  await server.ok("wait", "data");
  const { lastSync, degraded } = await server.status();
  expect(degraded).toBe(0);
  expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
  await server.stop();
  const [first, second] = await Promise.all(server.images.map((image) => dataDigest(image)));
  expect(second).toBe(first);
});
