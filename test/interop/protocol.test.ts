/**
 * The protocol beyond reads and writes, as independent clients see it: structured replies, metadata
 * contexts, holes, fast zeroes. What many clients do alike is in clients.test.ts.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { allocatedBytes } from "./images.ts";
import { attempt, run } from "./run.ts";
import type { Server } from "./server.ts";

const test = testWith("nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "qemu-io", "cmp");

const KIB = 1024;
const MIB = 1024 * KIB;

interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
  readonly description: string;
}

const hole = (offset: number, length: number) => ({ offset, length, type: 3 });
const data = (offset: number, length: number) => ({ offset, length, type: 0 });

/** 1 MiB of data at the start, 128 KiB in the middle; the rest was never written. */
async function writeIslands(server: Server): Promise<void> {
  const commands = ["write -P 5 0 1M", "write -P 6 30M 128k", "flush"];
  await qemuIo(server, ...commands);
}

function qemuIo(server: Server, ...commands: string[]): Promise<string> {
  const args = commands.flatMap((command) => ["-c", command]);
  return server.run("qemu-io", "-f", "raw", ...args, server.uri);
}

async function mapOf(server: Server, context = "base:allocation"): Promise<MapEntry[]> {
  const output = await server.run("nbdinfo", `--map=${context}`, "--json", server.uri);
  return JSON.parse(output) as MapEntry[];
}

/** Runs Python with an unconnected handle `h`, and what connects it. */
function nbdsh(server: Server, script: string, before = ""): Promise<string> {
  const prelude = `
import errno
h.set_strict_mode(0)
${before}
h.add_meta_context("base:allocation")
h.add_meta_context("x-nbd-raid:regions")
h.connect_uri("${server.uri}")
size = h.get_size()
def refused(expected, call, *args, **keywords):
    try:
        call(*args, **keywords)
    except nbd.Error as error:
        assert error.errnum == expected, (error.errnum, str(error))
    else:
        raise AssertionError("was not refused")
`;
  return run("nbdsh", ["-c", prelude + script]);
}

/** Another client is served as if nothing had happened. */
async function othersAreServed(server: Server): Promise<void> {
  await qemuIo(server, "write -P 9 62M 4k", "flush", "read -P 9 62M 4k");
}

describe("maps", () => {
  test("nbdinfo --map=x-nbd-raid:regions shows Dirty where a write was", async ({ serve }) => {
    const server = await serve({ createArgs: ["--region-size", "64K"] });
    await qemuIo(server, "write -P 5 1M 1k");
    const map = await mapOf(server, "x-nbd-raid:regions");
    const [unwritten, dirty] = [0, 2];
    expect(map).toMatchObject([
      { offset: 0, length: MIB, type: unwritten },
      { offset: MIB, length: 64 * KIB, type: dirty },
      { offset: MIB + 64 * KIB, length: 63 * MIB - 64 * KIB, type: unwritten },
    ]);
  });

  test("nbdcopy out keeps holes, and back in makes the same map", async ({ serve }) => {
    const [server, copy] = [await serve(), await serve()];
    await writeIslands(server);
    await server.run("nbdcopy", "--connections=4", server.uri, "out.img");
    expect(await allocatedBytes(join(server.folder, "out.img"))).toBeLessThan(2 * MIB);
    await server.run("nbdcopy", "--destination-is-zero", "out.img", copy.uri);
    expect(await mapOf(copy)).toEqual(await mapOf(server));
    await server.run("nbdcopy", copy.uri, "again.img");
    await server.run("cmp", "out.img", "again.img");
  });
});

describe("levels", () => {
  const levels: [name: string, args: string[], members: number][] = [
    ["0", ["--level", "0", "--chunk", "64K"], 2],
    ["5", ["--level", "5", "--chunk", "64K"], 3],
    ["10", ["--level", "10", "--chunk", "64K"], 4],
  ];
  test.for(levels)(
    "the map of level %s shows the array, not its members",
    async (row, { serve }) => {
      const [, createArgs, members] = row;
      const server = await serve({ size: "64M", createArgs, members });
      await writeIslands(server);
      const islands = (await mapOf(server)).filter(({ type }) => type === 0);
      expect(islands).toMatchObject([data(0, MIB), data(30 * MIB, 128 * KIB)]);
      await server.run("nbdcopy", server.uri, "out.img");
      await server.run("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri, "out.img");
    },
  );
});

describe("zeroes and trims", () => {
  test("fast zeroes make holes, and with NO_HOLE are refused unchanged", async ({ serve }) => {
    const server = await serve();
    await qemuIo(server, "write -P 5 0 2M");
    const refused = ["-f", "raw", "-c", "write -z -n 0 1M", server.uri];
    expect((await attempt("qemu-io", refused)).stdout).toContain("Operation not supported");
    await qemuIo(server, "read -P 5 0 2M");
    await qemuIo(server, "write -z -n -u 0 1M", "read -P 0 0 1M", "read -P 5 1M 1M");
    expect((await mapOf(server)).slice(0, 2)).toMatchObject([hole(0, MIB), data(MIB, MIB)]);
  });

  test("a trim of the whole export makes it one hole", async ({ serve }) => {
    const server = await serve();
    await writeIslands(server);
    await nbdsh(server, "h.trim(size, 0)");
    expect(await mapOf(server)).toMatchObject([hole(0, 64 * MIB)]);
  });

  test("zeroes and prefetches of the whole export are served", async ({ serve }) => {
    const server = await serve();
    await writeIslands(server);
    await nbdsh(
      server,
      `
h.zero(size, 0)
h.cache(size, 0)
assert h.pread(1 << 20, 0) == bytes(1 << 20)
h.zero(size, 0, flags=nbd.CMD_FLAG_NO_HOLE)
assert h.pread(1 << 20, 30 << 20) == bytes(1 << 20)
`,
    );
  });
});

describe("a client of libnbd", () => {
  test("gets holes as holes, and with DF in one piece", async ({ serve }) => {
    const server = await serve();
    await writeIslands(server);
    await nbdsh(
      server,
      `
def chunks(offset, length, flags=0):
    found = []
    def chunk(buffer, at, status, error):
        found.append((at, len(buffer), status))
    h.pread_structured(length, offset, chunk, flags=flags)
    return found
DATA, HOLE = nbd.READ_DATA, nbd.READ_HOLE
MIB = 1 << 20
assert chunks(8 * MIB, MIB) == [(8 * MIB, MIB, HOLE)], chunks(8 * MIB, MIB)
mixed = chunks(30 * MIB, 4 * MIB)
assert [kind for _, _, kind in mixed] == [DATA, HOLE], mixed
assert sum(length for _, length, _ in mixed) == 4 * MIB, mixed
whole = chunks(30 * MIB, 4 * MIB, nbd.CMD_FLAG_DF)
assert whole == [(30 * MIB, 4 * MIB, DATA)], whole
`,
    );
  });

  test("without structured replies reads the same, and DF is refused", async ({ serve }) => {
    const server = await serve();
    await writeIslands(server);
    const off = "h.set_request_structured_replies(False)";
    await nbdsh(
      server,
      `
assert not h.get_structured_replies_negotiated()
assert not h.can_df()
assert h.pread(4096, (1 << 20) - 2048) == b"\\x05" * 2048 + bytes(2048)
refused(errno.EINVAL, h.pread, 512, 0, flags=nbd.CMD_FLAG_DF)
h.pwrite(b"simple", 0)
assert h.pread(6, 0) == b"simple"
`,
      off,
    );
    await othersAreServed(server);
  });

  test("gets one extent with REQ_ONE, and several without", async ({ serve }) => {
    const server = await serve();
    await writeIslands(server);
    await nbdsh(
      server,
      `
def extents(length, offset, flags=0):
    found = {}
    def extent(name, at, entries, error):
        found[name] = list(zip(entries[::2], entries[1::2]))
    h.block_status(length, offset, extent, flags=flags)
    return found
MIB = 1 << 20
one = extents(40 * MIB, 0, nbd.CMD_FLAG_REQ_ONE)
assert one["base:allocation"] == [(MIB, 0)], one
assert len(one["x-nbd-raid:regions"]) == 1, one
all = extents(40 * MIB, 0)["base:allocation"]
assert [flags for _, flags in all] == [0, 3, 0, 3], all
assert sum(length for length, _ in all) == 40 * MIB, all
`,
    );
  });

  const refusals: [what: string, script: string][] = [
    ["a status past the end", "refused(errno.EINVAL, h.block_status, 512, size, print)"],
    ["a status across the end", "refused(errno.EINVAL, h.block_status, 1024, size - 512, print)"],
    ["a status of no bytes", "refused(errno.EINVAL, h.block_status, 0, 0, print)"],
    ["a status with DF", "refused(errno.EINVAL, h.block_status, 512, 0, print, flags=4)"],
    ["a read with REQ_ONE", "refused(errno.EINVAL, h.pread, 512, 0, flags=8)"],
    ["a read with NO_HOLE", "refused(errno.EINVAL, h.pread, 512, 0, flags=2)"],
    ["a write with FAST_ZERO", "refused(errno.EINVAL, h.pwrite, bytes(512), 0, flags=16)"],
    ["a flag of extended headers", "refused(errno.EINVAL, h.trim, 512, 0, flags=32)"],
    ["zeroes that may be slow", "refused(errno.ENOTSUP, h.zero, 1 << 20, 0, flags=18)"],
  ];
  test.for(refusals)("is refused %s, and is served on", async ([, script], { serve }) => {
    const server = await serve();
    await nbdsh(server, `${script}\nh.pwrite(b"on", 0)\nassert h.pread(2, 0) == b"on"`);
    await othersAreServed(server);
  });
});

test("more clients than there are descriptors keep nobody out for long", async ({ serve }) => {
  const server = await serve();
  await run("prlimit", ["--pid", String(server.pid), "--nofile=60:60"]);
  const script = join(server.folder, "flood.py");
  await writeFile(
    script,
    `
import socket, sys
clients = [socket.socket(socket.AF_UNIX) for _ in range(200)]
for one in clients:
    one.settimeout(20)
    one.connect(sys.argv[1])
greeted = 0
for one in clients:
    try:
        greeted += len(one.recv(18)) == 18
    except OSError:
        pass
print(greeted)
`,
  );
  const greeted = Number(await run("python3", [script, server.socket]));
  expect(greeted).toBeGreaterThan(0);
  await othersAreServed(server);
});
