import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { attempt } from "./run.ts";

const test = testWith("qemu-img", "qemu-io");

const SIZE = 64 * 1024 * 1024;

test("qemu-img info shows the size", async ({ serve }) => {
  const server = await serve();
  const info = await server.run("qemu-img", "info", "-f", "raw", "--output=json", server.uri);
  expect(JSON.parse(info)).toMatchObject({ "virtual-size": SIZE, format: "raw" });
});

test("qemu-img convert writes an image that qemu-img compare finds equal", async ({ serve }) => {
  const server = await serve();
  const source = join(server.folder, "source.img");
  await writeFile(source, Buffer.concat([randomBytes(SIZE / 2), Buffer.alloc(SIZE / 2)]));
  const raw = ["-f", "raw"];
  await server.run("qemu-img", "convert", "-n", ...raw, "-O", "raw", source, server.uri);
  await server.run("qemu-img", "compare", ...raw, "-F", "raw", source, server.uri);
  await server.run("qemu-img", "convert", ...raw, "-O", "raw", server.uri, "back.img");
  await server.run("cmp", source, "back.img");
});

test("qemu-img compare finds a difference of one byte", async ({ serve }) => {
  const server = await serve();
  const source = join(server.folder, "source.img");
  await writeFile(source, Buffer.alloc(SIZE));
  await server.run("qemu-io", "-f", "raw", "-c", "write -P 1 12345678 1", server.uri);
  const compare = ["compare", "-f", "raw", "-F", "raw", source, server.uri];
  const { code, stdout } = await attempt("qemu-img", compare);
  expect(code).toBe(1);
  expect(stdout).toContain("mismatch");
});

const benches: [name: string, flags: string[]][] = [
  ["reads", []],
  ["writes", ["-w"]],
  ["writes with flushes", ["-w", "--flush-interval=64"]],
];

test.for(benches)("qemu-img bench runs to its end: %s", async ([, flags], { serve }) => {
  const server = await serve();
  const bench = ["bench", "-f", "raw", "-c", "2000", "-d", "16", "-s", "64k", ...flags];
  await server.run("qemu-img", ...bench, server.uri);
});

const scripts: [name: string, commands: string[]][] = [
  ["patterns are read back", ["write -P 5 0 1M", "write -P 6 1000 3000", "read -P 6 1000 3000"]],
  ["what is beside a write stays", ["write -P 5 0 1M", "write -P 6 4096 512", "read -P 5 4608 4k"]],
  ["unaligned writes are exact", ["write -P 7 513 1025", "read -P 7 513 1025", "read -P 0 0 513"]],
  ["write -z makes zeroes", ["write -P 5 0 1M", "write -z 64k 128k", "read -P 0 64k 128k"]],
  ["write -z -u makes zeroes", ["write -P 5 0 1M", "write -z -u 1k 130k", "read -P 0 1k 130k"]],
  ["zeroes end where they should", ["write -P 5 0 1M", "write -z 0 64k", "read -P 5 64k 64k"]],
  ["a discard leaves its neighbours", ["write -P 5 0 1M", "discard 64k 64k", "read -P 5 0 64k"]],
  ["a flush succeeds", ["write -P 5 0 64k", "flush", "read -P 5 0 64k"]],
  ["FUA writes are read back", ["write -f -P 5 0 64k", "read -P 5 0 64k"]],
  [
    "asynchronous requests all finish",
    ["aio_write -P 5 0 4M", "aio_write -P 6 8M 4M", "aio_flush"],
  ],
];

test.for(scripts)("qemu-io: %s", async ([, commands], { serve }) => {
  const server = await serve();
  const args = commands.flatMap((command) => ["-c", command]);
  const output = await server.run("qemu-io", "-f", "raw", ...args, server.uri);
  expect(output).not.toMatch(/failed|error/i);
});
