import { randomBytes } from "node:crypto";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { executable } from "../../scripts/project-root.ts";
import { parseExposition, valueOf } from "../control/exposition.ts";
import { dataDigest, digest } from "../interop/images.ts";
import { attempt, run } from "../interop/run.ts";
import { textOf } from "../tidy/sources.ts";
import { container, docker, IMAGE, runOnce } from "./engine.ts";
import { handOver, test } from "./fixtures.ts";

const MIB = 2 ** 20;
const CREATE = ["-e", "NBD_RAID_CREATE=data --level 1 --size 64M a.img b.img"];
/** As little as a container can be given. */
const LEAST = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
const OFTEN = ["--health-interval", "1s"];

/** A command of the CLI on the host. */
const onHost = (...args: string[]) => run(process.execPath, [executable, ...args]);

/** Names and contents of a folder's files. */
async function contents(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).sort();
  return Promise.all(names.map(async (name) => `${name} ${await digest(join(folder, name))}`));
}

async function mirror(folder: string, name = "data"): Promise<string[]> {
  const images = ["a.img", "b.img"].map((image) => join(folder, image));
  await onHost("create", name, "--level", "1", "--size", "8M", ...images);
  await handOver(folder);
  return images;
}

describe("a server in a container", () => {
  test("makes its array once, keeps the data over SIGTERM and start, and leaves it clean", async ({
    folder,
    launch,
  }) => {
    const server = await launch({ data: folder, options: [...LEAST, ...OFTEN, ...CREATE] });
    const source = join(folder, "..", `${server.id}.raw`);
    const copy = `${source}.copy`;
    try {
      await writeFile(source, randomBytes(64 * MIB));
      await run("nbdcopy", ["--flush", source, await server.uri()]);
      expect(await server.health("healthy")).toBe("healthy");
      expect(await server.exec("id", "-u")).toBe("1000");
      expect(await server.exec("readlink", "/proc/1/exe")).toBe("/usr/local/bin/node");
      expect((await container("docker", "exec", server.id, "touch", "/etc/x")).code).not.toBe(0);

      expect(await server.stop()).toBe(0);
      for (const image of ["a.img", "b.img"])
        expect(await onHost("examine", join(folder, image))).toMatch(/^ *State : clean$/m);

      await server.start();
      await run("nbdcopy", [await server.uri(), copy]);
      expect(await digest(copy)).toBe(await digest(source));
      expect(await server.status()).toMatchObject({ degraded: 0, sync: null, lastSync: null });
      expect((await server.logs()).match(/made data/g)).toHaveLength(1);
      expect(await server.stop()).toBe(0);
    } finally {
      await rm(source, { force: true });
      await rm(copy, { force: true });
    }
  });

  test("killed in mid-write resyncs what was in use, and has what was flushed", async ({
    folder,
    launch,
  }) => {
    const server = await launch({ data: folder, options: CREATE });
    const flushed = 'h.pwrite(b"flushed" * 10000, 5 << 20); h.flush()';
    await run("nbdsh", ["--uri", await server.uri(), "-c", flushed]);
    const endless = [
      "import os, itertools",
      "for i in itertools.count(): h.pwrite(os.urandom(1 << 16), (20 << 20) + (i % 64 << 16))",
    ];
    const writing = attempt("nbdsh", [
      "--uri",
      await server.uri(),
      ...endless.flatMap((line) => ["-c", line]),
    ]);
    await expect
      .poll(async () => (await server.status()).bitmap?.dirty ?? 0, { timeout: 30_000 })
      .toBeGreaterThan(10);
    await server.kill9();
    expect((await writing).code).not.toBe(0);

    await server.start();
    await server.exec("nbd-raid", "wait", "data");
    const { lastSync, degraded } = await server.status();
    expect(degraded).toBe(0);
    expect(lastSync).toMatchObject({ action: "resync", result: "done" });
    expect(lastSync!.skippedBytes).toBeGreaterThan(30 * MIB);
    const read = 'assert h.pread(70000, 5 << 20) == b"flushed" * 10000';
    await run("nbdsh", ["--uri", await server.uri(), "-c", read]);
    expect(await server.stop()).toBe(0);
    const [a, b] = await Promise.all(
      ["a.img", "b.img"].map((image) => dataDigest(join(folder, image))),
    );
    expect(b).toBe(a);
  });

  test("is healthy while degraded, and not without its array", async ({ folder, launch }) => {
    const server = await launch({ data: folder, options: [...CREATE, ...OFTEN] });
    expect(await server.health("healthy")).toBe("healthy");
    await server.exec("nbd-raid", "fail", "data", "1");
    const checks = async () => Number(await server.inspect("{{len .State.Health.Log}}"));
    const last = "{{(index .State.Health.Log 0).Start}}";
    const first = await server.inspect(last);
    // The log holds five: when its first has gone, all of it is younger than the failure.
    await expect.poll(() => server.inspect(last), { timeout: 60_000 }).not.toBe(first);
    await expect.poll(checks, { timeout: 60_000 }).toBe(5);
    expect(await server.health("healthy")).toBe("healthy");
    const without = ["-e", "NBD_RAID_CONTROL=/dev/shm/none", server.id];
    const check = "nbd-raid status --quiet || [ $? -eq 1 ]";
    const { code } = await container("docker", "exec", ...without, "sh", "-c", check);
    expect(code).toBe(1);
  });

  test("keeps a volume that is nobody's folder, and tells metrics", async ({ launch, task }) => {
    const volume = `nbd-raid-test-${process.pid}-${task.id}`;
    try {
      const args = ["serve", "--directory", "/data", "--metrics", "0.0.0.0:10810"];
      const server = await launch({ data: volume, options: [...LEAST, ...CREATE], args });
      await run("nbdsh", ["--uri", await server.uri(), "-c", 'h.pwrite(b"x" * 4096, 0)']);
      const families = parseExposition(await (await fetch(await server.metricsUrl())).text());
      const written = valueOf(families, "nbd_raid_written_bytes_total", { export: "data" });
      expect(written).toBe(4096);
      expect(valueOf(families, "nbd_raid_array_slots", { array: "data" })).toBe(2);
      await server.dispose();
    } finally {
      await container("docker", "volume", "rm", volume);
    }
  });

  test("serves as the nbd-raid.yaml in its volume says", async ({ folder, launch }) => {
    await mirror(folder, "configured");
    await writeFile(join(folder, "nbd-raid.yaml"), "members: [b.img, a.img]\nreadOnly: true\n");
    const server = await launch({ data: folder });
    expect(await server.status()).toMatchObject({ name: "configured", state: "read-only" });
  });
});

describe("a container that is given", () => {
  test("a command runs it in /data", async ({ folder }) => {
    const create = ["create", "data", "--level", "1", "--size", "4M", "a.img", "b.img"];
    expect(await runOnce(folder, create)).toMatchObject({ code: 0, stderr: "" });
    expect((await readdir(folder)).sort()).toEqual(["a.img", "b.img"]);
    expect((await runOnce(folder, ["status"])).code).toBe(3);
    expect((await runOnce(folder, ["examine", "a.img"])).stdout).toContain("raid1");
    const { version } = JSON.parse(textOf("package.json")) as { version: string };
    expect((await runOnce(folder, ["--version"])).stdout.trim()).toBe(version);
  });

  test("nothing and told nothing says what to do, and makes nothing", async ({ folder }) => {
    const { code, stderr } = await runOnce(folder, []);
    expect({ code, stderr }).toEqual({
      code: 4,
      stderr: expect.stringMatching(
        /^nbd-raid: \/data is empty \(.*NBD_RAID_CREATE.*\)\n$/,
      ) as string,
    });
    expect(await readdir(folder)).toEqual([]);
  });

  const foreign = (folder: string) => writeFile(join(folder, "notes.txt"), "mine");
  const disks = async (folder: string) => {
    for (const image of ["a.img", "b.img"]) await writeFile(join(folder, image), randomBytes(MIB));
  };
  const half = async (folder: string) => rm((await mirror(folder))[1]!);
  const twice = async (folder: string) => {
    await mirror(folder);
    await run("cp", [join(folder, "a.img"), join(folder, "a.bak")]);
  };
  for (const [what, put, message] of [
    ["a foreign file", foreign, /holds no member of an array, but notes\.txt /],
    ["images with data", disks, /holds no member of an array, but a\.img and 1 more /],
    ["half of a mirror", half, /data: the member of slot 1 is missing/],
    [
      "a copy of a member",
      twice,
      /a\.bak.* are copies of one member|a\.img.* are copies of one member/,
    ],
  ] as const) {
    test(`${what} refuses it in a line, and leaves it as it was`, async ({ folder }) => {
      await put(folder);
      await handOver(folder);
      const before = await contents(folder);
      const { code, stderr, stdout } = await runOnce(folder, [], CREATE);
      expect({ code, stdout }).toEqual({ code: 4, stdout: "" });
      const last = stderr.trim().split("\n").at(-1);
      expect(last).toMatch(/^nbd-raid: .+ \(.+\)$/);
      expect(last).toMatch(message);
      expect(await contents(folder)).toEqual(before);
    });
  }

  test("a folder of another user says whose it should be, and makes nothing", async ({
    folder,
  }) => {
    const stranger = [...CREATE, "--user", "4321:4321"];
    await run("chmod", ["755", folder]);
    const { code, stderr } = await runOnce(folder, [], stranger);
    expect({ code, stderr }).toEqual({
      code: 4,
      stderr:
        "nbd-raid: user 4321:4321 may not write to /data: EACCES (chown it to that user, or mount it writable)\n",
    });
    expect(await readdir(folder)).toEqual([]);
    await mirror(folder);
    await run("chmod", ["-R", "go-w", folder]);
    const denied = await runOnce(folder, [], stranger);
    expect(denied.stderr).toContain("user 4321:4321 may not write to /data/a.img: EACCES");
  });
});

describe("the image", () => {
  test("is little more than its base: the program, and what it needs to run", async () => {
    const [, base = ""] = /^FROM (\S+)$/m.exec(textOf("Dockerfile"))!;
    const size = async (image: string) =>
      Number(await docker("image", "inspect", "-f", "{{.Size}}", image));
    expect((await size(IMAGE)) - (await size(base))).toBeLessThan(16 * MIB);
    const find =
      "find /opt/nbd-raid -name '*.ts' -o -name '*.map' -o -name typescript -o -name vitest";
    const { stdout } = await container("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", find);
    expect(stdout).toBe("");
  });

  test("has what is native, and WebAssembly, not the fallbacks", async () => {
    const probe = [
      'const { bind } = await import("/opt/nbd-raid/dist/platform/libc.js");',
      'const { wasmKernels } = await import("/opt/nbd-raid/dist/parity/wasm.js");',
      'console.log(bind("int getpid()")() === process.pid, typeof wasmKernels());',
    ].join("\n");
    const node = ["--entrypoint", "node", IMAGE, "--input-type=module", "-e", probe];
    const { stdout, stderr } = await container("run", "--rm", ...node);
    expect({ stdout, stderr }).toEqual({ stdout: "true object\n", stderr: "" });
  });
});
