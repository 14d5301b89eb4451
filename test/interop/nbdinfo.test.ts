import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { attempt } from "./run.ts";

const test = testWith("nbdinfo");

const SIZE = 64 * 1024 * 1024;

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

test("nbdinfo --is read-only says no, and yes with --read-only", async ({ serve }) => {
  const server = await serve();
  expect((await attempt("nbdinfo", ["--is", "read-only", server.uri])).code).toBe(2);
  await server.stop();
  await server.start(server.images, ["--read-only"]);
  expect((await attempt("nbdinfo", ["--is", "read-only", server.uri])).code).toBe(0);
});
