import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { attempt } from "./run.ts";

const test = testWith("nbdinfo");

const SIZE = 64 * 1024 * 1024;

test("nbdinfo --json shows the size, the abilities and the block sizes", async ({ serve }) => {
  const server = await serve({ size: "64M" });
  const info = JSON.parse(await server.run("nbdinfo", "--json", server.uri)) as {
    exports: Record<string, unknown>[];
  };
  expect(info.exports).toHaveLength(1);
  expect(info.exports[0]).toMatchObject({
    "export-size": SIZE,
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_multi_conn: true,
    can_trim: true,
    can_zero: true,
    can_cache: true,
    block_size_minimum: 1,
    block_size_preferred: 4096,
    block_size_maximum: 32 * 1024 * 1024,
  });
});

test("nbdinfo --size prints the array's size", async ({ serve }) => {
  const server = await serve({ size: "64M" });
  expect(await server.run("nbdinfo", "--size", server.uri)).toBe(`${SIZE}\n`);
});

test("nbdinfo --list names the export after the array", async ({ serve }) => {
  const server = await serve();
  const list = JSON.parse(await server.run("nbdinfo", "--json", "--list", server.uri)) as {
    exports: Record<string, unknown>[];
  };
  expect(list.exports).toMatchObject([{ "export-name": "data", "export-size": SIZE }]);
});

test("the export answers to its name as well as to the empty one", async ({ serve }) => {
  const server = await serve();
  const named = `nbd+unix:///data?socket=${server.socket}`;
  expect(await server.run("nbdinfo", "--size", named)).toBe(`${SIZE}\n`);
});

test("an unknown export name is refused", async ({ serve }) => {
  const server = await serve();
  const unknown = `nbd+unix:///other?socket=${server.socket}`;
  expect((await attempt("nbdinfo", ["--size", unknown])).code).toBe(1);
});

const abilities = ["flush", "fua", "multi-conn", "trim", "zero", "cache", "write"];

test.for(abilities)("nbdinfo --can %s says yes", async (ability, { serve }) => {
  const server = await serve();
  await server.run("nbdinfo", "--can", ability, server.uri);
});

test("nbdinfo --is read-only says no, and yes with --read-only", async ({ serve }) => {
  const server = await serve();
  expect((await attempt("nbdinfo", ["--is", "read-only", server.uri])).code).toBe(2);
  await server.stop();
  await server.start(server.images, ["--read-only"]);
  expect((await attempt("nbdinfo", ["--is", "read-only", server.uri])).code).toBe(0);
});

test("nbdinfo reaches the server over TCP, on the port it prints", async ({ serve }) => {
  const server = await serve({ listen: "nbd://127.0.0.1:0" });
  expect(server.uri).toMatch(/^nbd:\/\/127\.0\.0\.1:[1-9]\d*/);
  expect(await server.run("nbdinfo", "--size", server.uri)).toBe(`${SIZE}\n`);
});
