/**
 * Input that `serve` must refuse: one line on stderr with what and what next, exit code 4 (64
 * for usage), and every image as it was, to the byte.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { expect } from "vitest";
import { CATALOGUE, type ErrorCode } from "../../src/errors.ts";
import { testWith } from "./fixtures.ts";
import { digest } from "./images.ts";
import type { Server } from "./server.ts";

const test = testWith();

interface Refusal {
  readonly name: string;
  readonly code: ErrorCode;
  /** Prepares what is wrong and returns the arguments of `serve`. */
  readonly args: (server: Server, other: Server) => Promise<string[]> | string[];
}

const refusals: Refusal[] = [
  {
    name: "an image too short for a superblock",
    code: "member-too-small",
    args: async (server) => {
      const short = join(server.folder, "short.img");
      await writeFile(short, Buffer.alloc(4096));
      return [short];
    },
  },
  {
    name: "an image without a superblock",
    code: "member-foreign",
    args: async (server) => {
      const foreign = join(server.folder, "foreign.img");
      await writeFile(foreign, randomBytes(1024 * 1024));
      return [...server.images, foreign];
    },
  },
  {
    name: "one member each of two arrays of the same name",
    code: "array-name-clash",
    args: (server, other) => ["--run", server.images[0] ?? "", other.images[0] ?? ""],
  },
  {
    name: "half an array without --run",
    code: "member-missing",
    args: (server) => [server.images[0] ?? ""],
  },
  {
    name: "one image and a copy of it",
    code: "member-clash",
    args: async (server) => {
      const copy = join(server.folder, "copy.img");
      await copyFile(server.images[0] ?? "", copy);
      return [...server.images, copy];
    },
  },
  {
    name: "a member listed twice",
    code: "member-listed-twice",
    args: (server) => [...server.images, server.images[0] ?? ""],
  },
  {
    name: "a path that does not exist",
    code: "member-unreadable",
    args: (server) => [...server.images, join(server.folder, "absent.img")],
  },
  {
    name: "a folder",
    code: "member-not-file",
    args: async (server) => {
      const folder = join(server.folder, "folder");
      await mkdir(folder);
      return [...server.images, folder];
    },
  },
  { name: "no members", code: "usage", args: () => [] },
  {
    name: "an unknown option",
    code: "usage",
    args: (server) => ["--frobnicate", ...server.images],
  },
];

const byName = (some: readonly Refusal[]) =>
  some.map((refusal) => [refusal.name, refusal] as const);

const snapshot = (...servers: Server[]) =>
  Promise.all(servers.flatMap((server) => server.images.map(digest)));

/** One line on stderr that ends with the remedy of `code`, and the exit code that goes with it. */
async function expectRefusal(server: Server, code: ErrorCode, args: string[]): Promise<void> {
  const result = await server.cli("serve", "--log-level", "fatal", ...args);
  expect(result.stderr).toMatch(/^nbd-raid: [^\n]+\n$/);
  expect(result.stderr).toContain(`(${CATALOGUE[code].remedy})`);
  expect(result.code).toBe(code === "usage" ? 64 : 4);
  expect(result.stdout).toBe("");
}

test.for(byName(refusals))("refused: %s", async ([, { code, args }], { create }) => {
  const [server, other] = [await create(), await create()];
  const listen = ["--listen", `nbd+unix:///?socket=${server.socket}`];
  const all = [...listen, ...(await args(server, other))];
  const before = await snapshot(server, other);
  await expectRefusal(server, code, all);
  expect(await snapshot(server, other)).toEqual(before);
});

/** `assemble --check` calls these a verdict, or does not look for them. */
const beyondCheck: readonly ErrorCode[] = [
  "usage",
  "member-missing",
  "member-clash",
  "array-name-clash",
];
const checkable = refusals.filter(({ code }) => !beyondCheck.includes(code));

test.for(byName(checkable))("assemble --check says so too: %s", async ([, refusal], { create }) => {
  const [server, other] = [await create(), await create()];
  const members = await refusal.args(server, other);
  const { code, stdout } = await server.cli("assemble", "--check", "--json", ...members);
  expect(code).toBe(4);
  expect(JSON.parse(stdout)).toMatchObject({ version: 1, error: { code: refusal.code } });
});

test("create refuses images that are members, and leaves them alone", async ({ create }) => {
  const server = await create();
  const before = await snapshot(server);
  const again = await server.cli("create", "data", "--level", "1", "--json", ...server.images);
  expect(again.code).toBe(4);
  expect(JSON.parse(again.stdout)).toMatchObject({ error: { code: "member-in-array" } });
  expect(await snapshot(server)).toEqual(before);
});

test("refused: an address that is none", async ({ create }) => {
  const server = await create();
  const before = await snapshot(server);
  const args = ["--listen", "ftp://127.0.0.1", ...server.images];
  await expectRefusal(server, "address-invalid", args);
  expect(await snapshot(server)).toEqual(before);
});

test("refused: a second server on the same images", async ({ serve }) => {
  const server = await serve();
  const elsewhere = ["--listen", `nbd+unix:///?socket=${server.folder}/2`, "--control", "none"];
  await expectRefusal(server, "member-in-use", [...elsewhere, ...server.images]);
  expect((await server.cli("status", "--quiet")).code).toBe(0);
});

test("refused: a second server on the same control socket", async ({ serve, create }) => {
  const [server, other] = [await serve(), await create()];
  const before = await snapshot(other);
  const where = ["--listen", `nbd+unix:///?socket=${other.socket}`, "--control", server.control];
  await expectRefusal(server, "control-in-use", [...where, ...other.images]);
  expect(await snapshot(other)).toEqual(before);
});

test("refused: a Unix socket that another server listens on", async ({ serve, create }) => {
  const [server, other] = [await serve(), await create()];
  const before = await snapshot(other);
  await expectRefusal(other, "address-in-use", ["--listen", server.uri, ...other.images]);
  expect(await snapshot(other)).toEqual(before);
});

test("refused: a TCP port that is taken", async ({ create }) => {
  const server = await create();
  const before = await snapshot(server);
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  await expectRefusal(server, "address-in-use", [
    "--listen",
    `nbd://127.0.0.1:${port}`,
    ...server.images,
  ]);
  taken.close();
  expect(await snapshot(server)).toEqual(before);
});
