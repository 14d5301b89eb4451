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
import type { ErrorCode } from "../../src/errors.ts";
import { testWith } from "./fixtures.ts";
import { digest } from "./images.ts";
import type { Server } from "./server.ts";

const test = testWith();

interface Refusal {
  readonly name: string;
  readonly code: ErrorCode;
  readonly exitCode: number;
  /** Prepares what is wrong and returns the arguments of `serve`. */
  readonly args: (server: Server, other: Server) => Promise<string[]> | string[];
}

const refusals: Refusal[] = [
  {
    name: "an image too short for a superblock",
    code: "member-too-small",
    exitCode: 4,
    args: async (server) => {
      const short = join(server.folder, "short.img");
      await writeFile(short, Buffer.alloc(4096));
      return [short];
    },
  },
  {
    name: "an image without a superblock",
    code: "member-foreign",
    exitCode: 4,
    args: async (server) => {
      const foreign = join(server.folder, "foreign.img");
      await writeFile(foreign, randomBytes(1024 * 1024));
      return [...server.images, foreign];
    },
  },
  {
    name: "one member each of two arrays of the same name",
    code: "array-name-clash",
    exitCode: 4,
    args: (server, other) => ["--run", server.images[0] ?? "", other.images[0] ?? ""],
  },
  {
    name: "half an array without --run",
    code: "member-missing",
    exitCode: 4,
    args: (server) => [server.images[0] ?? ""],
  },
  {
    name: "one image and a copy of it",
    code: "member-clash",
    exitCode: 4,
    args: async (server) => {
      const copy = join(server.folder, "copy.img");
      await copyFile(server.images[0] ?? "", copy);
      return [...server.images, copy];
    },
  },
  {
    name: "a member listed twice",
    code: "member-listed-twice",
    exitCode: 4,
    args: (server) => [...server.images, server.images[0] ?? ""],
  },
  {
    name: "a path that does not exist",
    code: "member-unreadable",
    exitCode: 4,
    args: (server) => [...server.images, join(server.folder, "absent.img")],
  },
  {
    name: "a folder",
    code: "member-not-file",
    exitCode: 4,
    args: async (server) => {
      const folder = join(server.folder, "folder");
      await mkdir(folder);
      return [...server.images, folder];
    },
  },
  {
    name: "an address that is none",
    code: "address-invalid",
    exitCode: 4,
    args: (server) => ["--listen", "ftp://127.0.0.1", ...server.images],
  },
  { name: "no members", code: "usage", exitCode: 64, args: () => [] },
  {
    name: "an unknown option",
    code: "usage",
    exitCode: 64,
    args: (server) => ["--frobnicate", ...server.images],
  },
];

const snapshot = (...servers: Server[]) =>
  Promise.all(servers.flatMap((server) => server.images.map(digest)));

/** Exit code and one line on stderr, which carries the remedy in brackets. */
async function expectRefusal(server: Server, exitCode: number, args: string[]): Promise<void> {
  const { code, stdout, stderr } = await server.cli("serve", ...args);
  expect(stderr).toMatch(/^nbd-raid: [^\n]+ \([^\n]+\)\n$/);
  expect(code).toBe(exitCode);
  expect(stdout).toBe("");
}

test.for(refusals)("refused: $name", async ({ exitCode, args }, { create }) => {
  const [server, other] = [await create(), await create()];
  const listen = ["--listen", `nbd+unix:///?socket=${server.socket}`];
  const all = [...listen, ...(await args(server, other))];
  const before = await snapshot(server, other);
  await expectRefusal(server, exitCode, all);
  expect(await snapshot(server, other)).toEqual(before);
});

test("refused: a second server on the same images", async ({ serve }) => {
  const server = await serve();
  const elsewhere = ["--listen", `nbd+unix:///?socket=${server.folder}/2`, "--control", "none"];
  await expectRefusal(server, 4, [...elsewhere, ...server.images]);
  expect((await server.cli("status", "--quiet")).code).toBe(0);
});

test("refused: a second server on the same control socket", async ({ serve, create }) => {
  const [server, other] = [await serve(), await create()];
  const before = await snapshot(other);
  const where = ["--listen", `nbd+unix:///?socket=${other.socket}`, "--control", server.control];
  await expectRefusal(server, 4, [...where, ...other.images]);
  expect(await snapshot(other)).toEqual(before);
});

test("refused: a Unix socket that another server listens on", async ({ serve, create }) => {
  const [server, other] = [await serve(), await create()];
  const before = await snapshot(other);
  await expectRefusal(other, 4, ["--listen", server.uri, ...other.images]);
  expect(await snapshot(other)).toEqual(before);
});

test("refused: a TCP port that is taken", async ({ create }) => {
  const server = await create();
  const before = await snapshot(server);
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  await expectRefusal(server, 4, ["--listen", `nbd://127.0.0.1:${port}`, ...server.images]);
  taken.close();
  expect(await snapshot(server)).toEqual(before);
});
