import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { readFully, readvFully, writeFully, writevFully } from "../../src/member/blocking.ts";
import { createImageFile } from "../../src/member/create-file.ts";
import { FileMember } from "../../src/member/file.ts";
import { MemberError } from "../../src/member/member.ts";
import { cachedRead, UNSUPPORTED } from "../../src/platform/cached-read.ts";
import { expectSame, isAll, memberConformance, pattern } from "./conformance.ts";
import { memoryFolder, temporaryFolder } from "./temporary.ts";

for (const [name, parent] of [
  ["a file", tmpdir()],
  ["a file in memory", memoryFolder()],
] as const) {
  if (parent === null) continue;
  const folder = temporaryFolder(parent);
  afterAll(folder.dispose);

  memberConformance(name, (sizeBytes) => {
    const path = join(folder.path, "image");
    writeFileSync(path, "");
    truncateSync(path, sizeBytes);
    return Promise.resolve({
      open: (options: { readOnly: boolean }) => FileMember.open(path, options),
      dispose: () => Promise.resolve(rmSync(path)),
    });
  });
}

describe("a member file", () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let path: string;
  const opened: FileMember[] = [];

  const open = async (at = path, readOnly = false): Promise<FileMember> => {
    const member = await FileMember.open(at, { readOnly });
    opened.push(member);
    return member;
  };
  const refusal = async (at = path, readOnly = false): Promise<string> => {
    const error: unknown = await open(at, readOnly).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NbdRaidError);
    expect((error as NbdRaidError).message).toContain(at);
    return (error as NbdRaidError).code;
  };

  beforeEach(() => {
    folder = temporaryFolder();
    path = join(folder.path, "image");
    writeFileSync(path, pattern(1024 * 1024, 1));
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((member) => member.close()));
    folder.dispose();
  });

  it("has an absolute path and the identity of its inode, by whatever path", async () => {
    const link = join(folder.path, "link");
    symlinkSync(path, link);
    const member = await open(relative(process.cwd(), path));
    expect(member.path).toBe(path);
    await member.close();
    const { dev, ino } = statSync(path);
    expect(member.identity).toBe(`${dev}:${ino}`);
    expect((await open(link)).identity).toBe(member.identity);
  });

  it("is locked against a second opening in this process", async () => {
    const member = await open();
    expect(await refusal()).toBe("member-in-use");
    expect(await refusal(path, true)).toBe("member-in-use");
    await member.close();
    await open();
  });

  it("may be read by several at once, and written by nobody meanwhile", async () => {
    const reader = await open(path, true);
    await open(path, true);
    expect(await refusal()).toBe("member-in-use");
    const bytes = new Uint8Array(100);
    await reader.read(bytes, 50);
    expectSame(bytes, pattern(1024 * 1024, 1).subarray(50, 150));
  });

  // flock(2) as any other program would call it; SIGKILL, so that only the kernel can let go.
  it("is locked against another process until that one dies", async () => {
    const script = `
      const koffi = require("koffi");
      const flock = koffi.load(null).func("int flock(int fd, int operation)");
      const fd = require("fs").openSync(${JSON.stringify(path)}, "r+");
      process.stdout.write(String(flock(fd, 6)));
      setInterval(() => {}, 1000);`;
    const other = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    const [answer] = (await once(other.stdout, "data")) as [Buffer];
    expect(answer.toString()).toBe("0");
    expect(await refusal()).toBe("member-in-use");
    other.kill("SIGKILL");
    await once(other, "exit");
    await open();
  });

  it("must exist, and be a file or a block device", async () => {
    mkdirSync(join(folder.path, "directory"));
    expect(await refusal(join(folder.path, "absent"))).toBe("member-unreadable");
    expect(await refusal(join(folder.path, "directory"))).toBe("member-not-file");
    expect(await refusal("/dev/null")).toBe("member-not-file");
  });

  it("reads inline what the page cache holds", async () => {
    const member = await open();
    const into = new Uint8Array(65_536);
    await member.read(into, 4096);
    const canTell = cachedRead(member.descriptor, into.subarray(0, 1), 4096) !== UNSUPPORTED;
    expect(member.tryRead(into, 4096)).toBe(canTell);
    expectSame(into, pattern(1024 * 1024, 1).subarray(4096, 4096 + 65_536));
  });

  it("gives the space of a punched range back, and keeps it under a zeroed one", async () => {
    const member = await open();
    await member.sync();
    const blocks = (): number => statSync(path).blocks;
    const before = blocks();
    await member.zero(0, 512 * 1024);
    expect(blocks()).toBe(before);
    await member.punch(0, 512 * 1024);
    expect(blocks()).toBeLessThanOrEqual(before - 1024 + 16);
    expect(statSync(path).size).toBe(1024 * 1024);
  });

  it("leaves out the holes before, between and after data", async () => {
    truncateSync(path, 0);
    truncateSync(path, 1024 * 1024 * 1024);
    const member = await open();
    await member.write(pattern(4096, 2), 300 * 1024 * 1024);
    expect(await member.nextData(0, member.sizeBytes)).toBe(300 * 1024 * 1024);
    expect(await member.nextData(301 * 1024 * 1024, member.sizeBytes)).toBeNull();
  });

  it("knows holes and data apart, and that it makes holes without growing", async () => {
    truncateSync(path, 0);
    truncateSync(path, 64 * 1024 * 1024 + 512);
    const member = await open();
    expect(member.punchesFast).toBe(true);
    expect(statSync(path).size).toBe(64 * 1024 * 1024 + 512);
    await member.write(pattern(1024 * 1024, 2), 32 * 1024 * 1024);
    expect(await member.nextHole(32 * 1024 * 1024, member.sizeBytes)).toBe(33 * 1024 * 1024);
  });

  it("has a descriptor that blocking threads may use", async () => {
    const member = await open();
    writeFully(member.descriptor, path, pattern(10_000, 7), 123);
    const into = new Uint8Array(10_000);
    readFully(member.descriptor, path, into, 123);
    expectSame(into, pattern(10_000, 7));
    const past = (): void => readFully(member.descriptor, path, into, member.sizeBytes - 5000);
    expect(past).toThrow(MemberError);
    into.fill(0);
    readvFully(member.descriptor, path, [into.subarray(0, 10), into.subarray(10)], 123);
    expectSame(into, pattern(10_000, 7));
    const halves = [into.subarray(5000), into.subarray(0, 5000)];
    writevFully(member.descriptor, path, halves, 20_000);
    readvFully(member.descriptor, path, halves, 20_000);
    expectSame(into, pattern(10_000, 7));
    const pastv = (): void => readvFully(member.descriptor, path, halves, member.sizeBytes - 5000);
    expect(pastv).toThrow(MemberError);
    const closed = openSync(path, "r");
    closeSync(closed);
    expect(() => writeFully(closed, path, into, 0)).toThrow(MemberError);
    expect(() => writevFully(closed, path, halves, 0)).toThrow(MemberError);
  });

  it("sees what was written through its descriptor and through others", async () => {
    const member = await open();
    const fd = openSync(path, "r+");
    writeSync(fd, pattern(512, 5), 0, 512, 8192);
    closeSync(fd);
    const into = new Uint8Array(512);
    await member.read(into, 8192);
    expectSame(into, pattern(512, 5));
  });

  it("reports a full file system as lack of space", () => {
    const full = openSync("/dev/full", "w");
    try {
      writeFully(full, "full", new Uint8Array(512), 0);
      expect.fail("it took the write");
    } catch (error) {
      expect(error).toBeInstanceOf(MemberError);
      expect((error as MemberError).noSpace).toBe(true);
      expect((error as MemberError).message).toMatch(/^full: write failed: ENOSPC/);
    } finally {
      closeSync(full);
    }
  });
});

describe("createImageFile", () => {
  const folder = temporaryFolder();
  afterAll(folder.dispose);

  it("makes a sparse file of zeroes with space for the metadata", async () => {
    const path = join(folder.path, "made");
    await createImageFile(path, { sizeBytes: 64 * 1024 * 1024, allocatedBytes: 1024 * 1024 });
    const { size, blocks } = statSync(path);
    expect(size).toBe(64 * 1024 * 1024);
    expect(blocks * 512).toBeGreaterThanOrEqual(1024 * 1024);
    expect(blocks * 512).toBeLessThan(2 * 1024 * 1024);
    expect(isAll(readFileSync(path).subarray(0, 2 * 1024 * 1024), 0)).toBe(true);
  });

  it("leaves a file that exists alone", async () => {
    const path = join(folder.path, "existing");
    writeFileSync(path, "content");
    const made = createImageFile(path, { sizeBytes: 1024, allocatedBytes: 512 });
    await expect(made).rejects.toMatchObject({ code: "member-not-empty" });
    expect(readFileSync(path, "utf8")).toBe("content");
  });

  it("leaves nothing behind when it fails", async () => {
    const path = join(folder.path, "impossible");
    const made = createImageFile(path, { sizeBytes: 2 ** 62, allocatedBytes: 512 });
    await expect(made).rejects.toThrow(NbdRaidError);
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
  });

  it("does not ask for space where no file may be as long", async ({ skip }) => {
    const path = join(folder.path, "long");
    const sizeBytes = Number.MAX_SAFE_INTEGER;
    writeFileSync(path, "");
    skip(
      takes(() => truncateSync(path, sizeBytes)),
      "this file system has files of any length",
    );
    rmSync(path);
    await expect(createImageFile(path, { sizeBytes, allocatedBytes: 512 })).rejects.toMatchObject({
      code: "io-error",
      message: expect.stringContaining(
        `cannot make ${path} of ${sizeBytes} bytes: EFBIG`,
      ) as string,
    });
  });
});

function takes(act: () => void): boolean {
  try {
    act();
    return true;
  } catch {
    return false;
  }
}
