import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { cachedRead, cachedReadv, UNSUPPORTED } from "../../src/platform/cached-read.ts";
import { allocate, isUnsupported, punchHole, zeroRange } from "../../src/platform/fallocate.ts";
import { isOnMemoryFileSystem } from "../../src/platform/file-system.ts";
import { willNeed } from "../../src/platform/prefetch.ts";
import { seekData, seekEnd } from "../../src/platform/seek.ts";
import { memoryFolder, temporaryFolder } from "../member/temporary.ts";

const MiB = 1024 * 1024;
const path = "file";

/** A call that this file system may lack: then it must say so, and have changed nothing. */
async function supported(change: Promise<void>): Promise<boolean> {
  try {
    await change;
    return true;
  } catch (error) {
    expect(isUnsupported(error)).toBe(true);
    return false;
  }
}

const parents = [tmpdir(), memoryFolder()].filter((parent) => parent !== null);
describe.each(parents)("on the file system of %s", (parent) => {
  const folder = temporaryFolder(parent);
  afterAll(folder.dispose);
  let fd: number;

  beforeEach(() => {
    writeFileSync(join(folder.path, path), new Uint8Array(4 * MiB).fill(7));
    fd = openSync(join(folder.path, path), "r+");
  });
  afterEach(() => closeSync(fd));

  const bytes = (): Uint8Array => readFileSync(join(folder.path, path));
  const allocated = (): number => fstatSync(fd).blocks * 512;

  it.each([
    ["punchHole", punchHole],
    ["zeroRange", zeroRange],
  ])("%s zeroes a range and nothing beside it, and keeps the size", async (_name, change) => {
    const zeroed = await supported(change(fd, 1000, MiB));
    const expected = new Uint8Array(4 * MiB).fill(7);
    if (zeroed) expected.fill(0, 1000, 1000 + MiB);
    expect(Buffer.compare(bytes(), expected)).toBe(0);
    if (zeroed) await change(fd, 4 * MiB - 100, MiB);
    expect(fstatSync(fd).size).toBe(4 * MiB);
  });

  it("a hole has no space, and allocate gives it some without touching data", async () => {
    if (!(await supported(punchHole(fd, 0, 2 * MiB)))) return;
    expect(allocated()).toBeLessThanOrEqual(2 * MiB + 65_536);
    await allocate(fd, 0, 3 * MiB);
    expect(allocated()).toBeGreaterThanOrEqual(4 * MiB);
    const expected = new Uint8Array(4 * MiB).fill(7).fill(0, 0, 2 * MiB);
    expect(Buffer.compare(bytes(), expected)).toBe(0);
  });

  it("errors carry the errno's name", async () => {
    await expect(punchHole(fd, -1, 10)).rejects.toMatchObject({
      code: "EINVAL",
      errno: -22,
      syscall: "fallocate",
    });
    await expect(punchHole(9999, 0, 10)).rejects.toMatchObject({ code: "EBADF" });
  });

  it("seekData skips holes, also beyond 4 GiB", async () => {
    const far = 5 * 1024 * MiB;
    if (!(await supported(allocate(fd, far, MiB)))) return;
    expect(await seekEnd(fd)).toBe(far + MiB);
    expect(await seekData(fd, 123)).toBe(123);
    writeFileSync(join(folder.path, path), new Uint8Array(512).fill(1), { flag: "a" });
    expect(await seekData(fd, far + MiB)).toBe(far + MiB);
    expect(await seekData(fd, 2 * far)).toBeNull();
  });

  it("cachedRead reads what is cached, into the middle of a buffer too", () => {
    const into = new Uint8Array(20_000);
    readSync(fd, into, 0, into.length, 3000);
    into.fill(0);
    const count = cachedRead(fd, into.subarray(100, 10_100), 3000);
    if (count === UNSUPPORTED) return; // tmpfs, for one
    expect(count).toBe(10_000);
    expect(into.subarray(0, 100).every((byte) => byte === 0)).toBe(true);
    expect(into.subarray(100, 10_100).every((byte) => byte === 7)).toBe(true);
    expect(into.subarray(10_100).every((byte) => byte === 0)).toBe(true);
    expect(cachedRead(fd, into.subarray(0, 0), 3000)).toBe(0);
    expect(cachedRead(fd, new Uint8Array(64), 4 * MiB - 10)).toBe(10);
    expect(cachedRead(9999, into, 0)).toBe(-9);
  });

  it("cachedReadv fills buffers one after the other, on the heap or off it", () => {
    const bytes = Uint8Array.from({ length: 8192 }, (_, i) => i * 7 + (i >> 8));
    writeSync(fd, bytes, 0, bytes.length, 4096);
    // V8 keeps typed arrays of up to 64 bytes in its own heap, where they move.
    const buffers = [1, 64, 0, 3000, 8, 65, 4000].map((length) => new Uint8Array(length));
    const count = cachedReadv(fd, buffers, 4096);
    if (count === UNSUPPORTED) return; // tmpfs, for one
    expect(count).toBe(1 + 64 + 3000 + 8 + 65 + 4000);
    expect(Buffer.compare(Buffer.concat(buffers), bytes.subarray(0, count))).toBe(0);
    expect(cachedReadv(fd, [], 4096)).toBe(0);
    const bounds = [new Uint8Array(6), new Uint8Array(6)];
    expect(cachedReadv(fd, bounds, 4 * MiB - 10)).toBe(10);
    const many = Array.from({ length: 1500 }, () => new Uint8Array(1));
    expect(cachedReadv(fd, many, 4096)).toBe(1024);
    expect(cachedReadv(9999, bounds, 0)).toBe(-9);
  });

  it("willNeed resolves, whatever it is asked", async () => {
    await willNeed(fd, 0, MiB);
    await willNeed(9999, 0, MiB);
  });
});

describe("isOnMemoryFileSystem", () => {
  it.skipIf(memoryFolder() === null)("knows a file system in memory from others", () => {
    expect(isOnMemoryFileSystem("/dev/shm")).toBe(true);
    expect(isOnMemoryFileSystem("/proc/self/status")).toBe(false);
  });
});
