/**
 * A log that cannot be written, as its disk is full: no line of it is worth a request, an answer
 * or a clean stop. (Every write to /dev/full ends with ENOSPC.)
 */
import { truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { Storage } from "../crash/storage.ts";
import { testWith } from "./fixtures.ts";
import { mdadmExamine } from "./images.ts";
import { run } from "./run.ts";

const FULL = "/dev/full";
const test = testWith("nbdsh", "mdadm");

const stateOf = async (image: string) => (await mdadmExamine(image)).get("State");

test("with its log on a full disk the server serves, changes and stops as ever", async ({
  serve,
}) => {
  const server = await serve({ log: FULL, serveArgs: ["--log-level", "trace"] });
  const [first, second] = server.images as [string, string];
  const write = (byte: string, offset: number) =>
    run("nbdsh", ["--uri", server.uri, "-c", `h.pwrite(b"${byte}" * 4096, ${offset})`]);

  await write("a", 0);
  await server.ok("fail", "data", second);
  expect(await server.status()).toMatchObject({ degraded: 1 });
  await server.ok("remove", "data", second);
  await write("b", 4096);
  await server.ok("re-add", "data", second);
  await server.ok("check", "data", "--wait", "--json");
  await write("c", 8192);

  await server.kill9();
  expect(await stateOf(first)).toBe("active");
  await server.start(); // dirty: the sync it needs is told of
  await server.ok("wait", "data");
  expect(await server.status()).toMatchObject({ degraded: 0, lastSync: { result: "done" } });
  await server.stop(); // by SIGTERM, to exit code 0
  for (const image of server.images) expect(await stateOf(image)).toBe("clean");
});

test("an error that cannot be logged ends its request alone", async ({ serve }) => {
  const server = await serve({ log: FULL, level: "linear" });
  await truncate(server.images[1]!, 4096);
  const script = `
size = h.get_size()
try:
    h.pread(4096, size - 4096)
except nbd.Error as error:
    assert error.errno == "EIO", error
else:
    raise AssertionError("was read")
h.pwrite(b"x" * 4096, 0)
assert h.pread(1, 0) == b"x"
`;
  await run("nbdsh", ["--uri", server.uri, "-c", script]);
  await server.ok("stop");
});

test("images and log on one disk that is full: clients are told ENOSPC", async ({
  skip,
  create,
  onTestFinished,
}) => {
  const disk = await Storage.mount("tmpfs", "none", "size=16m");
  if (disk === null) return skip("this process may not mount file systems");
  onTestFinished(() => disk.dispose());

  const server = await create({
    baseDir: disk.folder,
    size: "32M",
    log: join(disk.folder, "server.log"),
  });
  await server.start();
  const script = `
import errno
try:
    for offset in range(0, 16 << 20, 1 << 20):
        h.pwrite(b"x" * (1 << 20), offset)
except nbd.Error as error:
    assert error.errnum == errno.ENOSPC, error
else:
    raise AssertionError("had room")
assert h.pread(1, 0) == b"x"
`;
  await run("nbdsh", ["--uri", server.uri, "-c", script]);
  expect(await server.status()).toMatchObject({ degraded: 0 });
  await server.stop();
});
