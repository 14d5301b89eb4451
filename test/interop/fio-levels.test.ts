/** fio verifies what it writes to arrays of every level: healthy, degraded, while one is rebuilt. */
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { replaceByBlank } from "./images.ts";
import { ALL, expectChecked, expectConsistentImages, optionsOf, REDUNDANT } from "./levels.ts";
import type { LevelCase } from "./levels.ts";
import type { Server } from "./server.ts";

const test = testWith("fio");

const job = ["--name=job", "--ioengine=nbd", "--size=24M", "--iodepth=16", "--randseed=1"];
const verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];
const mixed = ["--rw=randwrite", "--bsrange=512-192k", "--blockalign=512"];

const fio = (server: Server, ...args: string[]) =>
  server.run("fio", ...job, `--uri=${server.uri}`, ...args);

const titled = (cases: readonly LevelCase[]) => cases.map((of) => [of.title, of] as const);

test.for(titled(ALL))("%s: fio verifies writes of mixed sizes", async ([, of], { serve }) => {
  const server = await serve(optionsOf(of, "16M"));
  await fio(server, ...mixed, ...verify);
  await fio(server, "--rw=randwrite", "--bs=4k", "--io_size=6M", ...verify);
  await fio(server, "--rw=write", "--bs=256k", ...verify);
});

test.for(titled(REDUNDANT))(
  "%s: fio verifies while a member is missing, and while it is rebuilt",
  async ([, of], { serve }) => {
    const server = await serve(optionsOf(of, "16M"));
    await fio(server, "--rw=write", "--bs=256k");
    await server.ok("fail", "data", "1");
    await fio(server, ...mixed, ...verify);
    await server.ok("remove", "data", "1");
    await replaceByBlank(server.images[1]!);
    for (const speed of ["sync-speed-min", "sync-speed-max"]) {
      await server.ok("set", "data", speed, "2M");
    }
    await server.ok("add", "data", server.images[1]!);
    await fio(server, "--rw=randwrite", "--bs=4k", "--io_size=6M", ...verify);
    expect((await server.status()).sync).toMatchObject({ action: "recovery" });
    await server.ok("set", "data", "sync-speed-max", "0");
    await expectChecked(server);
    await fio(server, "--rw=randread", "--bs=64k");
    await server.stop();
    await expectConsistentImages(of, server.images);
  },
);

test.for(titled(REDUNDANT))(
  "%s: trims, zeroes and writes of four clients at once leave it consistent",
  async ([, of], { serve }) => {
    const server = await serve(optionsOf(of, "16M"));
    await fio(server, "--rw=randtrimwrite", "--bs=64k", "--io_size=48M");
    await fio(server, "--rw=randrw", "--bs=4k", "--numjobs=4", "--io_size=8M");
    await expectChecked(server);
    await server.stop();
    await expectConsistentImages(of, server.images);
  },
);
