/** What members lie on runs full, or fails: clients hear of it, and what is left goes on. */
import { rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { Errno } from "../../src/errors.ts";
import { testWith } from "../interop/fixtures.ts";
import { run } from "../interop/run.ts";
import { MIB, seeded, sleep, Subject } from "./rounds.ts";
import { Storage } from "./storage.ts";

const test = testWith("mdadm", "mount");

test("no space: writes get ENOSPC, nobody is ejected, and a sync ends it", async ({
  serve,
  skip,
}) => {
  const storage = await Storage.mount("tmpfs", "tmpfs", "size=100m");
  if (storage === null) return skip("this process may not mount a tmpfs");
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

// The file system loses what it had not written yet: as much as a power cut would take.
test("a member whose storage fails is ejected, and comes back by bitmap", async ({
  serve,
  skip,
}) => {
  const server = await serve({ size: "64M" });
  const [first = "", second = ""] = server.images;
  const disk = join(server.folder, "disk.img");
  await writeFile(disk, "");
  await truncate(disk, 256 * MIB);
  await run("mkfs.ext4", ["-q", disk]);
  let storage = await Storage.mount("ext4", disk, "loop");
  if (storage === null) return skip("this process may not mount an image");
  try {
    await server.stop();
    const moved = join(storage.folder, "member-1.img");
    await run("cp", ["--sparse=always", second, moved]);
    await rename(second, `${second}.old`);
    await server.start([first, moved]);
    const subject = new Subject(server, 64 * MIB, seeded().random);
    const load = await subject.load(8 * MIB);
    await sleep(500);
    await storage.abort();
    await expect.poll(async () => (await server.status()).degraded).toBe(1);
    await load.stop();
    expect([...load.errors]).toEqual([]);
    await subject.expectIntact();
    const { stdout, code } = await server.cli("status");
    expect(code).toBe(1);
    expect(stdout).toContain("has failed");
    expect(stdout).toContain(`nbd-raid remove data ${moved}; nbd-raid re-add data ${moved}`);

    await server.ok("remove", "data", moved);
    await storage.dispose();
    storage = await Storage.mount("ext4", disk, "loop");
    expect(storage).not.toBeNull();
    const again = join(storage!.folder, "member-1.img");
    await server.ok("re-add", "data", again);
    await subject.expectSynced([first, again]);
    await subject.expectIntact();
    await server.kill9();
  } finally {
    await storage?.dispose();
  }
});
