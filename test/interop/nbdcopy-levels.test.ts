/** Data copied in comes back whole, whichever members are lost that may be. */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { ALL, expectConsistentImages, optionsOf, readByOracle, redundancyOf } from "./levels.ts";
import type { Server } from "./server.ts";

const test = testWith("nbdcopy", "cmp");

const SIZE = "8M";
const parallel = ["--connections=4", "--requests=64"];
const titled = ALL.map((of) => [of.title, of] as const);

/** Random bytes as long as the array, and a hole in the middle. */
async function copyIn(server: Server): Promise<string> {
  const { size } = await server.status();
  const bytes = randomBytes(size);
  bytes.fill(0, size >> 2, size >> 1);
  const source = join(server.folder, "source.img");
  await writeFile(source, bytes);
  await server.run("nbdcopy", ...parallel, "--flush", source, server.uri);
  return source;
}

/** Slots to lose: each, and each pair where two may be lost. */
function lostSets(members: number, most: number): number[][] {
  const slots = Array.from({ length: members }, (_, slot) => slot);
  const pairs = slots.flatMap((one) => slots.slice(one + 1).map((other) => [one, other]));
  return [...(most > 0 ? slots.map((slot) => [slot]) : []), ...(most > 1 ? pairs : [])];
}

test.for(titled)(
  "%s: what was copied in comes back, and lies where md would put it",
  async ([, of], { serve }) => {
    const server = await serve(optionsOf(of, SIZE));
    const source = await copyIn(server);
    await server.run("nbdcopy", ...parallel, server.uri, "back.img");
    await server.run("cmp", source, "back.img");
    await server.stop();
    const bytes = await readFile(source);
    expect((await readByOracle(of, server.images)).equals(bytes)).toBe(true);
    await expectConsistentImages(of, server.images);
  },
);

test.for(titled.filter(([, of]) => redundancyOf(of) > 0))(
  "%s: it comes back without any members that may be lost",
  async ([, of], { serve }) => {
    const server = await serve(optionsOf(of, SIZE));
    const source = await copyIn(server);
    await server.stop();
    for (const lost of lostSets(of.members, redundancyOf(of))) {
      const left = server.images.filter((_, slot) => !lost.includes(slot));
      await server.start(left, ["--read-only", "--run"]);
      await server.run("nbdcopy", ...parallel, server.uri, "back.img");
      await server.run("cmp", source, "back.img");
      await server.stop();
    }
  },
);

test.for(titled)("%s: one member too few is refused", async ([, of], { create }) => {
  const server = await create(optionsOf(of, SIZE));
  // Of level 10 these hold both copies of some chunk.
  const left = server.images.slice(redundancyOf(of) + 1);
  await expect(server.start(left, ["--run", "--force"])).rejects.toThrow("in sync");
});
