/** mdadm reads images made by `createArray`, and agrees with what was asked for. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { createArray } from "../../src/array/create.ts";
import type { CreateRequest } from "../../src/array/create-request.ts";
import { testWith } from "./fixtures.ts";
import { mdadmExamine } from "./images.ts";

const test = testWith("mdadm");

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "nbd-raid-"));
});
afterEach(() => rm(folder, { recursive: true }));

const at = (name: string): string => (name === "missing" ? name : join(folder, name));

/** A mirror of 64 MiB. */
function create(names: string[], options: Partial<CreateRequest> = {}) {
  return createArray({
    name: "data",
    level: "1",
    members: names.map(at),
    sizeBytes: 64 * 1024 * 1024,
    bitmap: "lockless",
    assumeClean: false,
    preallocate: false,
    spares: 0,
    writeMostly: [],
    force: false,
    ...options,
  });
}

/** What must hold of every image; returns the fields. */
async function examine(name: string): Promise<ReadonlyMap<string, string>> {
  const fields = await mdadmExamine(at(name));
  expect(fields.get("Magic")).toBe("a92b4efc");
  expect(fields.get("Version")).toBe("1.2");
  expect(fields.get("Raid Level")).toBe("raid1");
  expect(fields.get("State")).toBe("clean");
  expect(fields.get("Events")).toBe("1");
  expect(fields.get("Checksum")).toMatch(/^[0-9a-f]+ - correct$/);
  return fields;
}

test("two members", async () => {
  const { uuid } = await create(["a", "b"]);
  for (const [slot, name] of ["a", "b"].entries()) {
    const fields = await examine(name);
    expect(fields.get("Array UUID")).toBe(uuid);
    expect(fields.get("Name")).toBe("data");
    expect(fields.get("Feature Map")).toBe("0x1");
    expect(fields.get("Internal Bitmap")).toBe("8 sectors from superblock");
    expect(fields.get("Raid Devices")).toBe("2");
    expect(fields.get("Array Size")).toMatch(/^65536 KiB /);
    expect(fields.get("Data Offset")).toBe("2048 sectors");
    expect(fields.get("Super Offset")).toBe("8 sectors");
    expect(fields.get("Device Role")).toBe(`Active device ${slot}`);
    expect(fields.get("Array State")).toMatch(/^AA /);
    const age = Date.now() - Date.parse(fields.get("Creation Time") ?? "");
    expect(Math.abs(age)).toBeLessThan(60_000);
  }
});

test("a missing member", async () => {
  await create(["missing", "b"]);
  const fields = await examine("b");
  expect(fields.get("Raid Devices")).toBe("2");
  expect(fields.get("Device Role")).toBe("Active device 1");
  expect(fields.get("Array State")).toMatch(/^\.A /);
});

test("a spare", async () => {
  await create(["a", "b", "c"], { spares: 1 });
  expect((await examine("a")).get("Array State")).toMatch(/^AA /);
  const spare = await examine("c");
  expect(spare.get("Device Role")).toBe("spare");
  expect(spare.get("Raid Devices")).toBe("2");
});

test("a write-mostly member", async () => {
  await create(["a", "b"], { writeMostly: [at("b")] });
  expect((await examine("a")).has("Flags")).toBe(false);
  expect((await examine("b")).get("Flags")).toBe("write-mostly");
});

test("no bitmap", async () => {
  await create(["a", "b"], { bitmap: "none" });
  const fields = await examine("a");
  expect(fields.get("Feature Map")).toBe("0x0");
  expect(fields.has("Internal Bitmap")).toBe(false);
});
