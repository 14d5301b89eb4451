import { createHash } from "node:crypto";
import { chmod, copyFile, open, readFile, rename, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, onTestFinished, test } from "vitest";
import { openArrays } from "../../src/array/open.ts";
import type { MemberStatus } from "../../src/array/status.ts";
import { renderArray } from "../../src/cli/render/status.ts";
import { plain } from "../../src/cli/terminal.ts";
import { arrayStatus } from "../control/fake-array.ts";
import { temporaryFolder } from "../control/running.ts";
import { nbdRaid } from "./captured.ts";

/** An array of three images in a folder of its own. */
async function three(name = "data", level = "5"): Promise<string[]> {
  const folder = await temporaryFolder();
  const members = ["a.img", "b.img", "c.img"].map((image) => join(folder, image));
  const words = ["create", name, "--level", level, "--size", "4M", "--assume-clean", "--force"];
  expect(await nbdRaid([...words, ...members])).toMatchObject({ code: 0, stderr: "" });
  return members;
}

/** As `serve` does, and closed when the test has ended; with what was logged as a warning. */
async function opened(paths: string[], run: boolean) {
  const warnings: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line: string) => void warnings.push(line) });
  const arrays = await openArrays(paths, { readOnly: false, run, force: false, logger });
  onTestFinished(() => Promise.all(arrays.map((array) => array.stop())).then(() => undefined));
  return { arrays, warnings };
}

async function digest(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

async function damage(path: string): Promise<void> {
  const file = await open(path, "r+");
  await file.write(Buffer.from("damaged"), 0, 7, 4096 + 32);
  await file.close();
}

/** What may have become of a member that is listed, by what it is refused with. */
const UNUSABLE: readonly (readonly [string, string, (path: string) => Promise<void>])[] = [
  ["deleted", "member-unreadable", (path) => rm(path)],
  ["in a folder that is gone", "member-unreadable", (path) => rename(path, `${path}.away`)],
  ["blank", "member-foreign", (path) => truncate(path, 0).then(() => truncate(path, 8 << 20))],
  ["empty", "member-too-small", (path) => truncate(path, 0)],
  ["cut short", "superblock-corrupt", (path) => truncate(path, 1 << 20)],
  ["damaged", "superblock-corrupt", damage],
];

describe("a listed member that is", () => {
  test.each(UNUSABLE)("%s is refused, and --run starts without it", async (what, code, spoil) => {
    const members = await three();
    await spoil(members[1]!);
    const listed = what.includes("folder")
      ? [members[0]!, join(members[1]!, "b.img"), members[2]!]
      : members;
    const before = await digest(members[1]!).catch(() => null);
    await expect(opened(listed, false)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/b\.img.*; the others can start without it: --run$/) as string,
    });
    const { arrays, warnings } = await opened(listed, true);
    expect(arrays.map((array) => array.status())).toMatchObject([
      { name: "data", degraded: 1, members: [{ state: "in_sync" }, { path: null }, {}] },
    ]);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("b.img");
    for (const array of arrays) {
      await array.start();
      await array.write(new Uint8Array(4096).fill(7), 0, true);
    }
    expect(await digest(members[1]!).catch(() => null)).toBe(before);
  });

  test("deleted is refused by assemble --check in the same words", async () => {
    const members = await three();
    await rm(members[1]!);
    const { code, stderr } = await nbdRaid(["assemble", "--check", ...members]);
    expect(code).toBe(4);
    expect(stderr).toMatch(/b\.img.*the others can start without it: --run \(/);
  });
});

describe("--run leaves nothing out", () => {
  test("where the others are too few, and it is not named as a way out then", async () => {
    const members = await three();
    await Promise.all([rm(members[0]!), damage(members[1]!)]);
    await expect(opened(members, true)).rejects.toMatchObject({ code: "array-incomplete" });
    await expect(opened(members, false)).rejects.toMatchObject({
      code: "member-unreadable",
      message: expect.not.stringContaining("--run") as string,
    });
    await damage(members[2]!);
    await expect(opened(members, true)).rejects.toMatchObject({ code: "member-unreadable" });
  });

  test("that has no redundancy", async () => {
    const members = await three("data", "0");
    await rm(members[1]!);
    await expect(opened(members, true)).rejects.toMatchObject({ code: "array-incomplete" });
  });

  test("that another server has, or that is listed twice, or that is a folder", async () => {
    const members = await three();
    const [first, second, third] = members as [string, string, string];
    await opened([first, third], true);
    await expect(opened(members, true)).rejects.toMatchObject({ code: "member-in-use" });
    const twice = [second, second];
    await expect(opened(twice, true)).rejects.toMatchObject({ code: "member-listed-twice" });
    const folder = [second, join(second, "..")];
    await expect(opened(folder, true)).rejects.toMatchObject({ code: "member-not-file" });
  });

  test.skipIf(process.getuid?.() === 0)("that it may not read", async () => {
    const members = await three();
    await chmod(members[1]!, 0o000);
    await expect(opened(members, true)).rejects.toMatchObject({ code: "member-unreadable" });
  });
});

describe("two arrays of one name", () => {
  test("are both refused by assemble --check, as by serve, and a third is not", async () => {
    const paths = [await three("twin"), await three("twin"), await three("other")].flat();
    const { code, stdout } = await nbdRaid(["assemble", "--check", "--json", ...paths]);
    const { arrays } = JSON.parse(stdout) as { arrays: { name: string; verdict: string }[] };
    expect(code).toBe(4);
    const reason = expect.stringContaining('two arrays have the name "twin"') as string;
    expect(arrays).toMatchObject([
      { name: "twin", verdict: "refused", reason },
      { name: "twin", verdict: "refused", reason },
      { name: "other", verdict: "start", reason: null },
    ]);
  });
});

describe("an image that is deleted while it is served", () => {
  test("is noted, in status and with what to do, and so is one that was replaced", async () => {
    const members = await three();
    const { arrays } = await opened(members, false);
    const unlinked = () => arrays[0]!.status().members.map((member) => member.unlinked);
    expect(unlinked()).toEqual([false, false, false]);
    await copyFile(members[0]!, `${members[0]!}.new`);
    await rename(`${members[0]!}.new`, members[0]!);
    await rm(members[2]!);
    expect(unlinked()).toEqual([true, false, true]);
    expect(arrays[0]!.status().members[2]).toMatchObject({ path: members[2], state: "in_sync" });
    await rename(members[1]!, `${members[1]!}.moved`);
    expect(unlinked()).toEqual([true, true, true]);
    await rename(`${members[1]!}.moved`, members[1]!);
    expect(unlinked()).toEqual([true, false, true]);
  });
});

describe("a member whose file was deleted", () => {
  const healthy = arrayStatus().members as [MemberStatus, MemberStatus];
  const lost = { ...healthy[1], unlinked: true };

  test("is named with what replaces it", () => {
    const text = renderArray(arrayStatus({ members: [healthy[0], lost] }), plain);
    expect(text).toContain("  status: /images/b.img in slot 1 was deleted or replaced: ");
    expect(text).toContain(
      "nbd-raid fail data 1; nbd-raid remove data 1; nbd-raid add data MEMBER",
    );
    expect(text).toContain("  /images/b.img (deleted)\n");
  });

  test("of an array without redundancy is not replaced", () => {
    const array = arrayStatus({ level: "0", members: [healthy[0], lost] });
    expect(renderArray(array, plain)).toContain("action: Copy the array's data elsewhere");
  });

  test("comes after what is wrong already", () => {
    const failed: MemberStatus = { ...lost, state: "faulty" };
    const text = renderArray(arrayStatus({ degraded: 1, members: [healthy[0], failed] }), plain);
    expect(text).toContain("has failed");
  });
});
