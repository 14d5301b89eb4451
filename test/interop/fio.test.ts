/** fio writes blocks that carry their own checksum and offset, and reads them all again. */
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { dataDigest, replaceByBlank } from "./images.ts";
import type { Server } from "./server.ts";

const test = testWith("fio");

const job = ["--name=job", "--ioengine=nbd", "--size=48M", "--iodepth=16", "--randseed=1"];
const verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];
const randomWrites = ["--rw=randwrite", "--bs=4k"];

const fio = (server: Server, ...args: string[]) =>
  server.run("fio", ...job, `--uri=${server.uri}`, ...args);

/** Both members hold the same, and a client still reads what fio wrote last. */
async function expectEqualMembers(server: Server): Promise<void> {
  await server.stop();
  const [first, second] = await Promise.all(server.images.map((image) => dataDigest(image)));
  expect(second).toBe(first);
}

const patterns: [name: string, args: string[]][] = [
  ["4 KiB random writes, 16 deep", randomWrites],
  ["mixed sizes", ["--rw=randwrite", "--bsrange=512-256k", "--blockalign=512"]],
  ["sequential 256 KiB writes", ["--rw=write", "--bs=256k"]],
  ["writes with a flush after every eighth", [...randomWrites, "--fsync=8"]],
  ["overwrites", [...randomWrites, "--loops=3"]],
];

test.for(patterns)("fio verifies %s", async ([, args], { serve }) => {
  const server = await serve();
  await fio(server, ...args, ...verify);
  await expectEqualMembers(server);
});

test("random trims before the writes leave the members equal", async ({ serve }) => {
  const server = await serve();
  await fio(server, "--rw=write", "--bs=256k");
  await fio(server, "--rw=randtrimwrite", "--bs=64k", "--io_size=96M");
  await expectEqualMembers(server);
});

test("four jobs at once on four connections leave the members equal", async ({ serve }) => {
  const server = await serve();
  const overlapping = ["--rw=randrw", "--bs=4k", "--numjobs=4", "--io_size=24M"];
  await fio(server, ...overlapping);
  await expectEqualMembers(server);
});

test("fio verifies writes to a degraded array", async ({ serve }) => {
  const server = await serve();
  await server.ok("fail", "data", "1");
  await fio(server, ...randomWrites, ...verify);
  expect((await server.status()).degraded).toBe(1);
});

test("fio verifies writes while a member is rebuilt, and the members end equal", async ({
  serve,
}) => {
  const server = await serve();
  await fio(server, "--rw=write", "--bs=256k");
  await server.ok("fail", "data", "1");
  await server.ok("remove", "data", "1");
  await replaceByBlank(server.images[1] ?? "");
  for (const speed of ["sync-speed-min", "sync-speed-max"]) {
    await server.ok("set", "data", speed, "4M"); // the minimum holds while clients are busy
  }
  await server.ok("add", "data", server.images[1] ?? "");
  await fio(server, ...randomWrites, ...verify);
  expect((await server.status()).sync).toMatchObject({ action: "recovery" });
  await server.ok("set", "data", "sync-speed-max", "0");
  await server.ok("wait", "data");
  expect(await server.status()).toMatchObject({ degraded: 0, sync: null });
  await expectEqualMembers(server);
});
