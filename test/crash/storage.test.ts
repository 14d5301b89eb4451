/** What members lie on runs full, or fails: clients hear of it, and what is left goes on. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { Errno } from "../../src/errors.ts";
import { testWith } from "../interop/fixtures.ts";
import { run } from "../interop/run.ts";
import type { Server } from "../interop/server.ts";
import { between, isLong, MIB, seeded, sleep, Subject } from "./rounds.ts";
import { Disk, Storage } from "./storage.ts";

const test = testWith("mdadm", "mount");

const mountRefused = "this process may not mount file systems";

test("no space: writes get ENOSPC, nobody is ejected, and a sync ends it", async ({
  serve,
  skip,
}) => {
  const storage = await Storage.mount("tmpfs", "tmpfs", "size=100m");
  if (storage === null) return skip(mountRefused);
  try {
    const ballast = join(storage.folder, "ballast");
    await run("fallocate", ["--length", "60M", ballast]);
    const server = await serve({ size: "32M", baseDir: storage.folder });
    const subject = new Subject(server, 32 * MIB, seeded().random);
    const load = await subject.load(32 * MIB);
    await expect.poll(() => load.errors.has(Errno.ENOSPC), { timeout: 20_000 }).toBe(true);
    await sleep(500);
    expect((await server.status()).degraded).toBe(0);
    await load.stop();
    expect([...load.errors.keys()]).toEqual([Errno.ENOSPC]);
    expect((await server.status()).sync).toMatchObject({ action: "resync" });

    await rm(ballast);
    await subject.expectSynced();
    await subject.expectIntact();
    await subject.loadFor(32 * MIB, 500);
    await subject.expectSynced();
  } finally {
    await storage.dispose();
  }
});

// Both members lie on the disk that fails: what it had not been told to keep is gone.
test("after a power cut, all that was flushed is there, and members end equal", async ({
  create,
  skip,
}) => {
  const { random } = seeded();
  const server = await create({ size: "64M" });
  const disk = await Disk.make(server.folder, "256M");
  if (disk === null) return skip(mountRefused);
  try {
    const images = await Promise.all(server.images.map((image) => disk.adopt(image)));
    await server.start(images);
    const subject = new Subject(server, 64 * MIB, random);
    for (let round = 0; round < (isLong ? 50 : 3); round++) {
      const load = await subject.load(8 * MIB);
      await sleep(between(random, 50, 500));
      subject.model.disksFail();
      await Promise.all([disk.fail(), sleep(between(random, 0, 30))]);
      await server.kill9();
      await load.stop();
      await disk.mend();
      await server.start(images);
      await subject.expectIntact("flushed");
      await subject.expectSynced(images);
      await subject.expectIntact();
    }
  } finally {
    await server.kill9();
    await disk.dispose();
  }
});

/** Slot 0, which reads are pinned to, lies on a disk of its own. */
async function moveFirst(server: Server, disk: Disk): Promise<string[]> {
  const [first = "", second = ""] = server.images;
  await server.stop();
  const moved = await disk.adopt(first);
  await server.start([moved, second]);
  return [moved, second];
}

// The file system loses what it had not written yet: as much as a power cut would take.
test("a member whose storage fails is ejected, and comes back by bitmap", async ({
  serve,
  skip,
}) => {
  const server = await serve({ size: "64M" });
  const disk = await Disk.make(server.folder, "256M");
  if (disk === null) return skip(mountRefused);
  try {
    const images = await moveFirst(server, disk);
    const [moved = ""] = images;
    const subject = new Subject(server, 64 * MIB, seeded().random);
    const load = await subject.load(8 * MIB);
    await sleep(500);
    await disk.fail();
    await expect.poll(async () => (await server.status()).degraded).toBe(1);
    await load.stop();
    expect([...load.errors]).toEqual([]);
    await subject.expectIntact();
    const { stdout, code } = await server.cli("status");
    expect(code).toBe(1);
    expect(stdout).toContain("has failed");
    expect(stdout).toContain(`nbd-raid remove data ${moved}; nbd-raid re-add data ${moved}`);

    await server.ok("remove", "data", moved);
    await disk.mend();
    await server.ok("re-add", "data", moved);
    await subject.expectSynced(images);
    await subject.expectIntact();
  } finally {
    await server.kill9();
    await disk.dispose();
  }
});

// What was answered after the failure is on the survivor alone: the failure must be known there.
test("killed just after a member's storage failed, nothing flushed is lost", async ({
  serve,
  skip,
}) => {
  const { random } = seeded();
  const server = await serve({ size: "64M" });
  const disk = await Disk.make(server.folder, "256M");
  if (disk === null) return skip(mountRefused);
  try {
    const images = await moveFirst(server, disk);
    const subject = new Subject(server, 64 * MIB, random);
    for (let round = 0; round < (isLong ? 50 : 3); round++) {
      const load = await subject.load(8 * MIB);
      await sleep(between(random, 50, 300));
      subject.model.disksFail();
      await disk.fail();
      subject.model.disksHaveFailed();
      await sleep(between(random, 0, 30));
      await server.kill9();
      await load.stop();
      expect([...load.errors]).toEqual([]);
      await disk.mend();
      await server.start(images);
      await subject.expectIntact("flushed");
      const { degraded } = await server.status();
      if (degraded === 1) await server.ok("re-add", "data", images[0]!);
      await subject.expectSynced(images);
      await subject.expectIntact();
    }
  } finally {
    await server.kill9();
    await disk.dispose();
  }
});
