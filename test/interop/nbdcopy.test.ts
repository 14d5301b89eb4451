import { randomBytes } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { allocatedBytes, dataDigest, digest } from "./images.ts";

const test = testWith("nbdcopy", "cmp");

const MIB = 1024 * 1024;
const parallel = ["--connections=4", "--requests=64"];

/** A file of `SIZE` bytes that is all random, or holes with islands of random bytes at odd places. */
async function sourceFile(folder: string, kind: "random" | "sparse"): Promise<string> {
  const path = join(folder, `${kind}.img`);
  if (kind === "random") {
    await writeFile(path, randomBytes(64 * MIB));
    return path;
  }
  const file = await open(path, "wx");
  await file.truncate(64 * MIB);
  for (const offset of [0, 3 * MIB - 1, 17 * MIB + 513, 40 * MIB, 64 * MIB - 70_001]) {
    await file.write(randomBytes(70_001), 0, 70_001, offset);
  }
  await file.close();
  return path;
}

for (const kind of ["random", "sparse"] as const) {
  test(`${kind} data copied in over 4 connections comes back the same`, async ({ serve }) => {
    const server = await serve();
    const source = await sourceFile(server.folder, kind);
    await server.run("nbdcopy", ...parallel, "--flush", source, server.uri);
    await server.run("nbdcopy", ...parallel, server.uri, "back.img");
    await server.run("cmp", source, "back.img");
  });

  test(`after ${kind} data was copied in, each member holds it whole`, async ({ serve }) => {
    const server = await serve();
    const source = await sourceFile(server.folder, kind);
    await server.run("nbdcopy", ...parallel, source, server.uri);
    await server.stop();
    for (const image of server.images) {
      expect(await dataDigest(image, 64 * MIB)).toBe(await digest(source));
    }
  });
}

test("the holes of a sparse source stay holes in the members", async ({ serve }) => {
  const server = await serve();
  const source = await sourceFile(server.folder, "sparse");
  await server.run("nbdcopy", ...parallel, source, server.uri);
  await server.stop();
  for (const image of server.images) expect(await allocatedBytes(image)).toBeLessThan(8 * MIB);
});

test("data copied in survives a stop and a start", async ({ serve }) => {
  const server = await serve();
  const source = await sourceFile(server.folder, "random");
  await server.run("nbdcopy", ...parallel, source, server.uri);
  await server.restart();
  await server.run("nbdcopy", "--synchronous", server.uri, "back.img");
  await server.run("cmp", source, "back.img");
});
