/** What a prefetch brings into the page cache, as fincore(1) of util-linux sees it. */
import { execFileSync } from "node:child_process";
import { closeSync, fsyncSync, openSync, truncateSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished, type TestContext } from "vitest";
import { FileMember } from "../../src/member/file.ts";
import { isOnMemoryFileSystem } from "../../src/platform/file-system.ts";
import { bind } from "../../src/platform/libc.ts";
import { temporaryFolder } from "./temporary.ts";

const MIB = 2 ** 20;
const POSIX_FADV_DONTNEED = 4;
const fadvise = bind("int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)");

/** Bytes of the file that are in the page cache; null without fincore. */
function cachedBytes(path: string): number | null {
  try {
    const columns = ["--bytes", "--noheadings", "--output", "RES", path];
    return Number(execFileSync("fincore", columns, { encoding: "utf8" }));
  } catch {
    return null;
  }
}

/** A member of `sizeBytes` of which nothing is in the page cache; skips where that cannot be had. */
async function coldMember(context: TestContext, sizeBytes: number): Promise<FileMember> {
  const folder = temporaryFolder();
  onTestFinished(folder.dispose);
  const path = join(folder.path, "image");
  if (fadvise === null) context.skip("the cache cannot be emptied without libc");
  if (isOnMemoryFileSystem(tmpdir())) context.skip(`${tmpdir()} is in memory`);
  const fd = openSync(path, "wx");
  truncateSync(path, sizeBytes);
  const piece = Buffer.alloc(MIB, 7);
  for (let at = 0; at < sizeBytes; at += MIB) writeSync(fd, piece, 0, MIB, at);
  fsyncSync(fd);
  fadvise?.(fd, 0, 0, POSIX_FADV_DONTNEED);
  closeSync(fd);
  const left = cachedBytes(path);
  if (left === null) context.skip("there is no fincore");
  if (left !== 0) context.skip(`${left} bytes stay in the cache of ${tmpdir()}`);
  const member = await FileMember.open(path, { readOnly: false });
  onTestFinished(() => member.close());
  return member;
}

/** The most that is cached within the time that a slow disk takes for `wanted`. */
async function cachedInTime(path: string, wanted: number): Promise<number> {
  let cached = 0;
  for (let tries = 0; cached < wanted && tries < 100; tries++) {
    cached = cachedBytes(path) ?? 0;
    await sleep(50);
  }
  return cached;
}

it("a prefetch reads all of its range ahead, not only what one hint to the kernel does", async (context) => {
  const member = await coldMember(context, 48 * MIB);
  await member.prefetch(MIB, 32 * MIB);
  expect(await cachedInTime(member.path, 32 * MIB)).toBeGreaterThanOrEqual(0.9 * 32 * MIB);
  expect(cachedBytes(member.path)).toBeLessThanOrEqual(33 * MIB);
});

it("a prefetch reads no more than 64 MiB ahead, of whatever range", async (context) => {
  const member = await coldMember(context, 72 * MIB);
  await member.prefetch(0, 2 ** 40);
  expect(await cachedInTime(member.path, 64 * MIB)).toBeGreaterThanOrEqual(0.9 * 64 * MIB);
  expect(cachedBytes(member.path)).toBeLessThanOrEqual(65 * MIB);
});

it("prefetches without number do not keep a member from being closed", async (context) => {
  const member = await coldMember(context, 64 * MIB);
  const hints = Array.from({ length: 200 }, () => member.prefetch(0, 64 * MIB));
  await member.close();
  await Promise.all(hints);
  expect(cachedBytes(member.path)).toBeLessThan(32 * MIB);
});
