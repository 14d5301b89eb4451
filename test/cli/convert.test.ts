import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { temporaryFolder } from "../member/temporary.ts";
import { nbdRaid } from "./captured.ts";

let folder: ReturnType<typeof temporaryFolder>;
let members: string[];
beforeEach(async () => {
  folder = temporaryFolder();
  members = ["a.img", "b.img"].map((name) => join(folder.path, name));
  const { code } = await nbdRaid(["create", "data", "--level", "1", "--size", "4M", ...members]);
  expect(code).toBe(0);
});
afterEach(() => folder.dispose());

test("convert says in a line what was and what is, and when there was nothing to do", async () => {
  const lines: string[] = [];
  for (const bitmap of ["internal", "internal", "none", "none", "lockless"]) {
    const { code, stdout, stderr } = await nbdRaid(["convert", ...members, "--bitmap", bitmap]);
    expect([code, stderr]).toEqual([0, ""]);
    lines.push(stdout);
  }
  const lockless = "lockless (64 regions of 64 KiB)";
  const internal = "internal (1 region of 64 MiB)";
  expect(lines).toEqual([
    `data: the bitmap was ${lockless}, it is ${internal} now\n`,
    `data: the bitmap is ${internal} already, nothing was changed\n`,
    `data: the bitmap was ${internal}, there is none now\n`,
    "data: there is no bitmap already, nothing was changed\n",
    `data: there was no bitmap, it is ${lockless} now\n`,
  ]);
});

test("convert --json prints both bitmaps", async () => {
  const args = ["convert", ...members, "--bitmap", "internal", "--region-size", "1M", "--json"];
  const { code, stdout } = await nbdRaid(args);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    version: 1,
    name: "data",
    uuid: expect.stringMatching(/^([0-9a-f]{8}(:|$)){4}/) as string,
    changed: true,
    before: { type: "lockless", regionSize: 65536, regions: 64 },
    bitmap: { type: "internal", regionSize: 1048576, regions: 4 },
    members,
  });
});

test.each([
  ["an array that is not whole", () => members.slice(1), "internal", 4, "array-not-ready"],
  ["no type", () => members, null, 64, "usage"],
  ["a type that there is not", () => members, "clustered", 64, "usage"],
  ["no members", () => [], "none", 64, "usage"],
] as const)("convert refuses %s in one line", async (_what, given, bitmap, exitCode, word) => {
  const type = bitmap === null ? [] : ["--bitmap", bitmap];
  const { code, stdout, stderr } = await nbdRaid(["convert", ...given(), ...type, "--json"]);
  expect(code).toBe(exitCode);
  expect(stderr).toMatch(/^nbd-raid: .+ \(.+\)\n$/);
  expect(JSON.parse(stdout)).toMatchObject({ version: 1, error: { code: word } });
});
