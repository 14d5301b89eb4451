/**
 * Everything without native calls: koffi is not installed here, as far as these modules know. A
 * member must work the same, only slower and less thrifty.
 */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it, vi } from "vitest";
import type * as Libc from "../../src/platform/libc.ts";

vi.mock("../../src/platform/libc.ts", async (importOriginal) => ({
  ...(await importOriginal<typeof Libc>()),
  bind: () => null,
}));

const { FileMember } = await import("../../src/member/file.ts");
const { createImageFile } = await import("../../src/member/create-file.ts");
const { cachedRead, cachedReadv, UNSUPPORTED } = await import("../../src/platform/cached-read.ts");
const { isUnsupported, punchHole } = await import("../../src/platform/fallocate.ts");
const { lockImage } = await import("../../src/platform/lock.ts");
const { seekData, seekHole } = await import("../../src/platform/seek.ts");
const { setSendBuffer } = await import("../../src/platform/socket.ts");
const { temporaryFolder } = await import("../member/temporary.ts");

const folder = temporaryFolder();
afterAll(folder.dispose);
const path = join(folder.path, "image");

describe("without native calls", () => {
  beforeEach(() => {
    writeFileSync(path, new Uint8Array(3 * 1024 * 1024).fill(7));
  });

  it("nothing is cached, everything is data, and holes cannot be made", async () => {
    expect(cachedRead(0, new Uint8Array(1), 0)).toBe(UNSUPPORTED);
    expect(cachedReadv(0, [new Uint8Array(1)], 0)).toBe(UNSUPPORTED);
    expect(await seekData(0, 12_345)).toBe(12_345);
    expect(await seekHole(0, 12_345)).toBeNull();
    const error: unknown = await punchHole(0, 0, 1).catch((thrown: unknown) => thrown);
    expect(isUnsupported(error)).toBe(true);
    expect(() => setSendBuffer(0, 1)).not.toThrow();
  });

  it("a member punches by writing zeroes, and is locked by a file beside it", async () => {
    const member = await FileMember.open(path, { readOnly: false });
    expect(existsSync(`${path}.lock`)).toBe(true);
    expect(member.punchesFast).toBe(false);
    await expect(FileMember.open(path, { readOnly: false })).rejects.toMatchObject({
      code: "member-in-use",
    });
    await member.punch(100, 2_500_000);
    await member.prefetch(0, 4096);
    await member.close();
    const expected = new Uint8Array(3 * 1024 * 1024).fill(7).fill(0, 100, 2_500_100);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
    expect(readdirSync(folder.path)).toEqual(["image"]);
  });

  // Sixteen writes one after the other: a close that did not wait would come between them.
  it("a member closes after the last of an operation's steps", async () => {
    truncateSync(path, 0);
    truncateSync(path, 16 * 1024 * 1024);
    const member = await FileMember.open(path, { readOnly: false });
    const punched = member.punch(0, member.sizeBytes);
    await member.close();
    await expect(punched).resolves.toBeUndefined();
  });

  it("an image file is made all the same", async () => {
    const made = join(folder.path, "made");
    await createImageFile(made, { sizeBytes: 2 ** 21, allocatedBytes: 2 ** 20 });
    expect(Buffer.compare(readFileSync(made), new Uint8Array(2 ** 21))).toBe(0);
    rmSync(made);
  });
});

describe("a lock file", () => {
  const lockPath = `${path}.lock`;
  /** The id of a process that has lived and is no more. */
  const deadPid = spawnSync(process.execPath, ["-e", ""]).pid;

  beforeEach(() => rmSync(lockPath, { force: true }));

  it("holds the owner's process id and goes with it", () => {
    const unlock = lockImage(0, path, false);
    expect(readFileSync(lockPath, "utf8")).toBe(String(process.pid));
    expect(lockImage(0, path, true)).toBeNull();
    unlock?.();
    expect(existsSync(lockPath)).toBe(false);
  });

  it("of a living process is respected", () => {
    writeFileSync(lockPath, String(process.ppid));
    expect(lockImage(0, path, false)).toBeNull();
    expect(readFileSync(lockPath, "utf8")).toBe(String(process.ppid));
  });

  it.each([
    ["a process that died", String(deadPid)],
    ["a predecessor that had our process id", String(process.pid)],
    ["nobody, torn by a power cut", ""],
  ])("of %s is taken over", (_whose, content) => {
    writeFileSync(lockPath, content);
    const unlock = lockImage(0, path, false);
    expect(unlock).not.toBeNull();
    expect(readFileSync(lockPath, "utf8")).toBe(String(process.pid));
    unlock?.();
    truncateSync(path, 0);
    expect(readdirSync(folder.path)).toEqual(["image"]);
  });
});
