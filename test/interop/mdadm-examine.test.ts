/** mdadm reads every member's superblock, and agrees with `status`, at each stage of life. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { mdadmExamine, replaceByBlank } from "./images.ts";
import type { Server } from "./server.ts";

const test = testWith("mdadm", "nbdcopy");

const noCleaning = ["daemon-sleep", "3600"];

/** What must hold of every image at every stage; returns one image's fields. */
async function examine(server: Server, slot: number): Promise<ReadonlyMap<string, string>> {
  const fields = await mdadmExamine(server.images[slot] ?? "");
  expect(fields.get("Version")).toBe("1.2");
  expect(fields.get("Raid Level")).toBe("raid1");
  expect(fields.get("Raid Devices")).toBe("2");
  expect(fields.get("Checksum")).toMatch(/^[0-9a-f]+ - correct$/);
  return fields;
}

async function expectMember(
  server: Server,
  slot: number,
  expected: { state: string; arrayState: string; events: number },
): Promise<void> {
  const fields = await examine(server, slot);
  expect(fields.get("State")).toBe(expected.state);
  expect(fields.get("Array State")?.split(" ")[0]).toBe(expected.arrayState);
  expect(Number(fields.get("Events"))).toBe(expected.events);
}

async function fill(server: Server): Promise<void> {
  const source = join(server.folder, "source.img");
  await writeFile(source, randomBytes(64 * 1024 * 1024));
  await server.run("nbdcopy", source, server.uri);
}

test("created: both members are clean and active", async ({ create }) => {
  const server = await create();
  for (const slot of [0, 1]) {
    const fields = await examine(server, slot);
    expect(fields.get("State")).toBe("clean");
    expect(fields.get("Array State")).toMatch(/^AA /);
  }
});

test("the superblock carries the array's name and uuid", async ({ serve }) => {
  const server = await serve();
  const { uuid } = await server.status();
  for (const slot of [0, 1]) {
    const fields = await examine(server, slot);
    expect(fields.get("Array UUID")).toBe(uuid);
    expect(fields.get("Name")).toContain("data");
    expect(fields.get("Device Role")).toBe(`Active device ${slot}`);
  }
});

test("running dirty: both members say active, with status' events", async ({ serve }) => {
  const server = await serve();
  await server.ok("set", "data", ...noCleaning);
  await fill(server);
  const { events } = await server.status();
  const expected = { state: "active", arrayState: "AA", events };
  for (const slot of [0, 1]) await expectMember(server, slot, expected);
});

test("degraded: the survivor misses the other, which mdadm still reads", async ({ serve }) => {
  const server = await serve();
  await server.ok("set", "data", ...noCleaning);
  await fill(server);
  await server.ok("fail", "data", "1");
  const { events } = await server.status();
  await expectMember(server, 0, { state: "active", arrayState: "A.", events });
  const failed = await examine(server, 1);
  expect(Number(failed.get("Events"))).toBeLessThan(events - 1);
});

test("rebuilding: the new member has its slot and a recovery offset", async ({ serve }) => {
  const server = await serve();
  await server.ok("set", "data", ...noCleaning);
  await fill(server);
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  await replaceByBlank(server.images[1] ?? "");
  await server.ok("set", "data", "sync-speed-max", "1M");
  await server.ok("add", "data", server.images[1] ?? "");
  const { events } = await server.status();
  for (const slot of [0, 1]) {
    await expectMember(server, slot, { state: "active", arrayState: "AA", events });
  }
  expect((await examine(server, 0)).has("Recovery Offset")).toBe(false);
  expect((await examine(server, 1)).has("Recovery Offset")).toBe(true);
});

test("rebuilt: both members are whole again", async ({ serve }) => {
  const server = await serve();
  await fill(server);
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  await server.ok("add", "data", server.images[1] ?? "");
  await server.ok("wait", "data");
  const { events } = await server.status();
  for (const slot of [0, 1]) {
    const fields = await examine(server, slot);
    expect(fields.has("Recovery Offset")).toBe(false);
    expect(fields.get("Array State")).toMatch(/^AA /);
    expect(Number(fields.get("Events"))).toBe(events);
  }
});

test("stopped: both members are clean, with equal events", async ({ serve }) => {
  const server = await serve();
  await fill(server);
  await server.stop();
  const events = Number((await examine(server, 0)).get("Events"));
  const expected = { state: "clean", arrayState: "AA", events };
  for (const slot of [0, 1]) await expectMember(server, slot, expected);
});
