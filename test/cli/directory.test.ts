import { link, mkdir, open, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { lookInDirectory } from "../../src/cli/serve/directory.ts";
import { temporaryFolder } from "../control/running.ts";
import { nbdRaid } from "./captured.ts";

const CREATE = "data --level 1 --size 4M a.img b.img";

/** What `serve --directory` would serve; what it logs is in `logged`. */
async function membersOf(
  directory: string,
  {
    create,
    readOnly = false,
    logged = [],
  }: { create?: string; readOnly?: boolean; logged?: string[] } = {},
) {
  const terminal = {
    stdout: { writable: true, write: () => expect.unreachable() },
    stderr: { writable: true, write: () => expect.unreachable() },
    env: create === undefined ? {} : { NBD_RAID_CREATE: create },
  };
  const logger = pino({}, { write: (line: string) => void logged.push(line) });
  const members = await lookInDirectory(directory).members?.({ terminal, readOnly, logger });
  return members?.map((path) => basename(path));
}

async function mirror(directory: string, name = "data", images = ["a.img", "b.img"]) {
  const paths = images.map((image) => join(directory, image));
  const { code, stderr } = await nbdRaid([
    "create",
    name,
    "--level",
    "1",
    "--size",
    "4M",
    ...paths,
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
}

/** Names, and what is in the files. */
async function contents(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  return Promise.all(
    entries.map(async (entry) => {
      if (!entry.isFile()) return entry.name;
      const bytes = await readFile(join(directory, entry.name));
      return `${entry.name} ${createHash("sha256").update(bytes).digest("hex")}`;
    }),
  );
}

const noMembers = (message: RegExp) => ({
  code: "no-members",
  message: expect.stringMatching(message) as string,
});

describe("a directory to be served", () => {
  test("gives its members, in the order of their names, and nothing else", async () => {
    const directory = await temporaryFolder();
    await mirror(directory, "data", ["b.img", "a.img"]);
    await writeFile(join(directory, "notes.txt"), "mine");
    await writeFile(join(directory, "empty"), "");
    await mkdir(join(directory, "sub"));
    await mirror(join(directory, "sub"));
    await symlink("nowhere", join(directory, "stray"));
    const logged: string[] = [];
    expect(await membersOf(directory, { logged })).toEqual(["a.img", "b.img"]);
    expect(logged.join("")).toContain('"others":["empty","notes.txt","stray","sub"]');
  });

  test("gives the members of several arrays", async () => {
    const directory = await temporaryFolder();
    await mirror(directory, "one");
    await mirror(directory, "two", ["c.img", "d.img"]);
    expect(await membersOf(directory)).toEqual(["a.img", "b.img", "c.img", "d.img"]);
  });

  test("gives what has a damaged superblock too, so that nobody starts without it", async () => {
    const directory = await temporaryFolder();
    await mirror(directory);
    const file = await open(join(directory, "a.img"), "r+");
    await file.write(Buffer.from([1]), 0, 1, 4096 + 100); // below the checksum
    await file.close();
    expect(await membersOf(directory)).toEqual(["a.img", "b.img"]);
  });

  test("with an nbd-raid.yaml in it is served as that says", async () => {
    const directory = await temporaryFolder();
    await mirror(directory);
    expect(lookInDirectory(directory).config).toBeUndefined();
    await writeFile(join(directory, "nbd-raid.yaml"), "members: [a.img, b.img]\n");
    expect(lookInDirectory(directory)).toEqual({ config: join(directory, "nbd-raid.yaml") });
  });

  test("that is empty, or not there, is refused", async () => {
    const directory = await temporaryFolder();
    await expect(membersOf(directory)).rejects.toMatchObject(noMembers(/ is empty$/));
    await mkdir(join(directory, "lost+found"));
    await expect(membersOf(directory)).rejects.toMatchObject(noMembers(/ is empty$/));
    await expect(membersOf(join(directory, "none"))).rejects.toMatchObject({
      code: "member-unreadable",
    });
  });

  test("is one source of members among three: two are refused", async () => {
    const directory = await temporaryFolder();
    for (const other of [["a.img"], ["--config", "c.yaml"]]) {
      const { code, stderr } = await nbdRaid(["serve", "--directory", directory, ...other]);
      expect({ code, stderr }).toEqual({
        code: 64,
        stderr: expect.stringContaining("either members, --config or --directory") as string,
      });
    }
  });
});

describe("an array to be made in a directory", () => {
  test("is made in an empty one, and found there the next time", async () => {
    const directory = await temporaryFolder();
    await mkdir(join(directory, "lost+found"));
    const logged: string[] = [];
    expect(await membersOf(directory, { create: CREATE, logged })).toEqual(["a.img", "b.img"]);
    expect(logged.join("")).toContain("made data: 4 MiB");
    const before = await contents(directory);
    const again = await membersOf(directory, { create: CREATE });
    expect(again).toEqual(["a.img", "b.img"]);
    expect(await contents(directory)).toEqual(before);
  });

  test.each([
    [
      "a file of somebody",
      async (directory: string) => writeFile(join(directory, "notes.txt"), "mine"),
      /but notes\.txt$/,
    ],
    [
      "a file of nothing",
      async (directory: string) => writeFile(join(directory, ".keep"), ""),
      /but \.keep$/,
    ],
    ["a folder", async (directory: string) => mkdir(join(directory, "sub")), /but sub$/],
    [
      "images with data",
      async (directory: string) => {
        await writeFile(join(directory, "a.img"), "data");
        await writeFile(join(directory, "b.img"), "data");
      },
      /but a\.img and 1 more$/,
    ],
  ])("is not made beside %s", async (_what, put, message) => {
    const directory = await temporaryFolder();
    await put(directory);
    const before = await contents(directory);
    const tried = membersOf(directory, { create: CREATE });
    await expect(tried).rejects.toMatchObject(noMembers(message));
    expect(await contents(directory)).toEqual(before);
  });

  test("is not made where one member of another is", async () => {
    const directory = await temporaryFolder();
    const elsewhere = await temporaryFolder();
    await mirror(elsewhere, "other");
    await link(join(elsewhere, "b.img"), join(directory, "b.img"));
    const before = await contents(directory);
    // It is to be served, which is refused: its other half is missing.
    expect(await membersOf(directory, { create: CREATE })).toEqual(["b.img"]);
    expect(await contents(directory)).toEqual(before);
  });

  test.each([
    ["data --level 1 --size 4M /a.img b.img", "usage", /a name of a file in .*, not \/a\.img$/],
    ["data --level 1 --size 4M ../a.img b.img", "usage", /not \.\.\/a\.img$/],
    ["data --size 4M a.img b.img", "usage", /NBD_RAID_CREATE: required option '--level/],
    ["data --level 1 --size 4M --nope a.img b.img", "usage", /NBD_RAID_CREATE: unknown option/],
    ["data --level 1 a.img b.img", "member-unreadable", /NBD_RAID_CREATE: /],
    ["--help", "usage", /NBD_RAID_CREATE: --help is no array/],
    ["data --level 5 --size 4M a.img", "usage", /NBD_RAID_CREATE: /],
  ])("is not made of %j", async (create, code, message) => {
    const directory = await temporaryFolder();
    const refused = { code, message: expect.stringMatching(message) as string };
    await expect(membersOf(directory, { create })).rejects.toMatchObject(refused);
    expect(await readdir(directory)).toEqual([]);
  });
});
