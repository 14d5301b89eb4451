import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { testWith } from "./fixtures.ts";

const test = testWith("nbdcopy", "cmp");

const MIB = 1024 * 1024;
test("data copied in survives a stop and a start", async ({ serve }) => {
  const server = await serve();
  const source = join(server.folder, "source.img");
  await writeFile(source, randomBytes(64 * MIB));
  await server.run("nbdcopy", "--connections=4", source, server.uri);
  await server.restart();
  await server.run("nbdcopy", "--synchronous", server.uri, "back.img");
  await server.run("cmp", source, "back.img");
});
