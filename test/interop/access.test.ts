/** What `serve` is told of access, seen by the clients of others. */
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { testWith } from "./fixtures.ts";
import { attempt } from "./run.ts";
import type { Server } from "./server.ts";

const test = testWith("nbdinfo", "nbdsh", "qemu-nbd", "qemu-img");
const LISTEN = "nbd://127.0.0.1:0";

/** Makes a second array, `archive`, beside `data`; returns the images of both. */
async function withArchive(server: Server): Promise<string[]> {
  const images = ["c.img", "d.img"].map((name) => join(server.folder, name));
  await server.ok("create", "archive", "--level", "1", "--size", "8M", ...images);
  return [...server.images, ...images];
}

const unix = (server: Server, name: string) => `nbd+unix:///${name}?socket=${server.socket}`;

test("two arrays are two exports of one server, listed with what they are", async ({ create }) => {
  const server = await create({ size: "16M" });
  await server.start(await withArchive(server));
  const list = JSON.parse(await server.run("nbdinfo", "--json", "--list", server.uri)) as {
    exports: { "export-name": string; "export-size": number; description: string }[];
  };
  const seen = list.exports.map((one) => [one["export-name"], one["export-size"] >> 20]);
  expect(seen.sort()).toEqual([
    ["archive", 8],
    ["data", 16],
  ]);
  for (const { description } of list.exports) expect(description).toMatch(/raid ?1|mirror/i);
  const qemu = await server.run("qemu-nbd", "--list", "-k", server.socket);
  expect(qemu).toContain("exports available: 2");
  await server.run("nbdsh", "--uri", unix(server, "archive"), "-c", 'h.pwrite(b"a", 0)');
  const read = 'assert h.pread(1, 0) == b"\\0"';
  await server.run("nbdsh", "--uri", unix(server, "data"), "-c", read);
});

test("a name nobody has is refused in words; of two arrays none is the default", async ({
  create,
}) => {
  const server = await create({ size: "16M" });
  await server.start(await withArchive(server));
  expect((await attempt("nbdinfo", [unix(server, "nothing")])).code).toBe(1);
  const words = async (name: string) =>
    (await attempt("qemu-img", ["info", "-f", "raw", unix(server, name)])).stderr;
  expect(await words("nothing")).toContain('no export named "nothing"');
  expect(await words("")).toContain("no default export");
});

test("--read-only-exports is for clients: the array is written by others, and synced", async ({
  create,
}) => {
  const server = await create({ size: "16M" });
  const images = await withArchive(server);
  await server.start(images, ["--read-only-exports", "archive"]);
  expect((await attempt("nbdinfo", ["--is", "read-only", unix(server, "archive")])).code).toBe(0);
  expect((await attempt("nbdinfo", ["--is", "read-only", unix(server, "data")])).code).toBe(2);
  const write = 'h.set_strict_mode(0); h.pwrite(b"a", 0)';
  const refused = await attempt("nbdsh", ["--uri", unix(server, "archive"), "-c", write]);
  expect(refused.stderr).toContain("Operation not permitted");
  await server.ok("fail", "archive", "1");
  await server.ok("remove", "archive", "1");
  await server.ok("add", "archive", images[3] ?? "");
  await server.ok("wait", "archive");
  await server.ok("status", "archive", "--quiet");
});

test("a read-only export that no array is refused: nothing is left open by a typo", async ({
  create,
}) => {
  const server = await create();
  const { code, stderr } = await server.cli(
    ...(["serve", ...server.images, "--read-only-exports", "dta"] as const),
    ...["--listen", LISTEN, "--control", "none"],
  );
  expect(code).toBe(4);
  expect(stderr).toContain('"dta"');
});

test("--allow lets in its addresses and no other", async ({ create }) => {
  const server = await create({ listen: LISTEN });
  await server.start(server.images, ["--allow", "10.0.0.0/8", "--allow", "fd00::/8"]);
  const { code } = await attempt("nbdinfo", ["--size", server.uri]);
  expect(code).toBe(1);
  await server.stop();
  await server.start(server.images, ["--allow", "127.0.0.0/8"]);
  await server.run("nbdinfo", "--size", server.uri);
});

test("on an address beyond this machine an open server warns, a closed one does not", async ({
  create,
}) => {
  const server = await create({ listen: "nbd://0.0.0.0:0" });
  const keys = join(server.folder, "keys.psk");
  await writeFile(keys, `alice:${"ab".repeat(16)}\n`, { mode: 0o600 });
  await server.start(server.images, ["--allow", "127.0.0.1"]);
  await server.stop();
  await server.start(server.images, ["--tls-psk", keys, "--tls-required"]);
  await server.stop();
  expect(server.stderr).not.toContain("whoever reaches");
  await server.start(server.images, ["--tls-psk", keys]);
  expect(server.stderr).toContain("whoever reaches");
});

test("the socket has the mode that it is given, and is its user's alone by default", async ({
  create,
}) => {
  const server = await create();
  await server.start();
  expect((await stat(server.socket)).mode & 0o777).toBe(0o600);
  await server.stop();
  await server.start(server.images, ["--socket-mode", "0666"]);
  expect((await stat(server.socket)).mode & 0o777).toBe(0o666);
});

test("a configuration file says it all as well", async ({ create }) => {
  const server = await create();
  const config = join(server.folder, "serve.yaml");
  await writeFile(
    config,
    `members: [member-0.img, member-1.img]
tlsPsk: keys.psk
tlsRequired: true
socketMode: "0640"
readOnlyExports: [data]
maxConnections: 1
`,
  );
  await writeFile(join(server.folder, "keys.psk"), `alice:${"ab".repeat(16)}\n`);
  await server.start([], ["--config", config]);
  expect((await stat(server.socket)).mode & 0o777).toBe(0o640);
  const keys = `tls-psk-file=${join(server.folder, "keys.psk")}`;
  const uri = `nbds+unix://alice@/data?socket=${server.socket}&${keys}`;
  expect((await attempt("nbdinfo", ["--is", "read-only", uri])).code).toBe(0);
  expect(server.stderr).toContain("can be read by every user");
});
