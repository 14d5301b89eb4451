import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, onTestFinished, test } from "vitest";
import type { AccessOptions } from "../../src/cli/serve/access.ts";
import { type ServeOptions, serve } from "../../src/cli/serve/serve.ts";
import { ControlClient } from "../../src/control/client.ts";
import { temporaryFolder } from "../control/running.ts";
import { parseExposition, valueOf } from "../control/exposition.ts";
import { COMMAND, RawClient } from "../nbd/client.ts";
import { nbdRaid } from "./captured.ts";

const data = { export: "data" };

/** Two images that make a mirror, in a folder of their own. */
async function mirror(name = "data"): Promise<{ folder: string; members: string[] }> {
  const folder = await temporaryFolder();
  const members = ["a.img", "b.img"].map((image) => join(folder, image));
  const { code, stderr } = await nbdRaid([
    "create",
    name,
    "--level",
    "1",
    "--size",
    "4M",
    ...members,
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return { folder, members };
}

const OPEN: AccessOptions = {
  tls: null,
  tlsRequired: false,
  allow: null,
  socket: { mode: 0o600, uid: null, gid: null },
  readOnlyExports: [],
  limits: {},
};

function optionsFor(folder: string, members: string[]) {
  return {
    members,
    listen: [`nbd+unix:///?socket=${join(folder, "nbd.sock")}`],
    descriptors: [],
    control: join(folder, "control.sock"),
    metrics: null,
    readOnly: false,
    run: false,
    force: false,
    access: OPEN,
  } satisfies ServeOptions;
}

/** Serves in this process until `stop` is called; `ready` resolves at the last listener. */
function start(options: ServeOptions) {
  let stop: () => void = () => undefined;
  const uris: string[] = [];
  let measured = "";
  const told: string[] = [];
  let accept: () => void = () => undefined;
  const listening = new Promise<void>((resolve) => (accept = resolve));
  const ended = serve(options, pino({ level: "silent" }), {
    listening: (uri) => {
      if (uris.push(uri) === options.listen.length) accept();
    },
    measured: (url) => (measured = url),
    controllable: (actions) => (stop = actions.stop),
    ready: () => told.push("ready"),
    stopping: () => told.push("stopping"),
  });
  ended.catch(() => undefined); // a test that cares waits for it
  onTestFinished(async () => {
    stop();
    await ended.catch(() => undefined);
  });
  const ready = () => Promise.race([listening, ended]);
  return { ended, ready, uris, told, url: () => measured, stop: () => stop() };
}

const contents = (paths: string[]) =>
  Promise.all(
    paths.map(async (path) =>
      createHash("sha256")
        .update(await readFile(path))
        .digest("hex"),
    ),
  );

describe("serving", () => {
  test("has the control socket ready when it listens, and takes both away when told to stop", async () => {
    const { folder, members } = await mirror();
    const options = optionsFor(folder, members);
    const server = start(options);
    await server.ready();
    expect(server.uris).toEqual(options.listen);
    const { arrays } = await new ControlClient(options.control).status();
    expect(arrays).toMatchObject([{ name: "data", degraded: 0, sync: null }]);
    server.stop();
    await server.ended;
    expect(existsSync(options.control)).toBe(false);
    expect(existsSync(join(folder, "nbd.sock"))).toBe(false);
  });

  test("tells the same by its metrics as by its status", async () => {
    const { folder, members } = await mirror();
    const options = { ...optionsFor(folder, members), metrics: { host: "127.0.0.1", port: 0 } };
    const server = start(options);
    await server.ready();
    const client = await RawClient.connect(join(folder, "nbd.sock"));
    await client.negotiate();
    await client.write(0, Buffer.alloc(4096, 1));
    await client.read(0, 512);
    await client.exchange({ command: COMMAND.FLUSH });
    const scrape = async () => {
      const families = parseExposition(await (await fetch(server.url())).text());
      return (name: string, labels: Record<string, string>) => valueOf(families, name, labels);
    };
    const [before, { arrays, exports }] = await Promise.all([
      scrape(),
      new ControlClient(options.control).status(),
    ]);
    const bitmap = arrays[0]!.bitmap!;
    expect(bitmap.dirty).toBeGreaterThan(0);
    for (const state of ["unwritten", "clean", "dirty"] as const)
      expect(before("nbd_raid_bitmap_regions", { array: "data", state })).toBe(bitmap[state]);
    const written = before("nbd_raid_bitmap_blocks_written_total", { array: "data" });
    expect(written).toBe(bitmap.blocksWritten);
    expect(exports).toMatchObject([
      {
        name: "data",
        connections: 1,
        requests: { read: 1, write: 1, flush: 1, trim: 0 },
        readBytes: 512,
        writtenBytes: 4096,
      },
    ]);
    client.destroy();
    // Counters keep what those did who are gone.
    await expect.poll(async () => (await scrape())("nbd_raid_open_connections", data)).toBe(0);
    const after = await scrape();
    expect(after("nbd_raid_connections_total", data)).toBe(1);
    expect(after("nbd_raid_written_bytes_total", data)).toBe(4096);
    expect(after("nbd_raid_read_bytes_total", data)).toBe(512);
    expect(after("nbd_raid_requests_total", { ...data, command: "flush" })).toBe(1);
  });

  test("metrics at an address that is taken is refused, and writes nothing", async () => {
    const { folder, members } = await mirror();
    const before = await contents(members);
    const other = createServer();
    onTestFinished(() => void other.close());
    await once(other.listen(0, "127.0.0.1"), "listening");
    const { port } = other.address() as { port: number };
    const metrics = { host: "127.0.0.1", port };
    const options = { ...optionsFor(folder, members), metrics };
    await expect(start(options).ended).rejects.toMatchObject({ code: "address-in-use" });
    expect(await contents(members)).toEqual(before);
    expect(existsSync(join(folder, "nbd.sock"))).toBe(false);
  });

  test("tells that it is ready once it listens, and when it is told to stop, by whomever", async () => {
    const { folder, members } = await mirror();
    const options = optionsFor(folder, members);
    const first = start(options);
    await first.ready();
    expect(first.told).toEqual(["ready"]);
    first.stop();
    await first.ended;
    expect(first.told).toEqual(["ready", "stopping"]);
    const second = start(options);
    await second.ready();
    void new ControlClient(options.control).stop().catch(() => undefined);
    await second.ended;
    expect(second.told).toEqual(["ready", "stopping"]);
    const refused = start({ ...options, members: [members[0]!] });
    await expect(refused.ended).rejects.toMatchObject({ code: "member-missing" });
    expect(refused.told).toEqual([]);
  });

  test("may do without a control socket", async () => {
    const { folder, members } = await mirror();
    const server = start({ ...optionsFor(folder, members), control: null });
    await server.ready();
    expect(existsSync(join(folder, "control.sock"))).toBe(false);
  });

  test("stops for the control socket's stop, and the members are free then", async () => {
    const { folder, members } = await mirror();
    const options = optionsFor(folder, members);
    const first = start(options);
    await first.ready();
    // The process it waits for is this one: only the server's part of the bargain is seen here.
    void new ControlClient(options.control).stop().catch(() => undefined);
    await first.ended;
    const second = start(options);
    await second.ready();
    expect(second.uris).toHaveLength(1);
  });

  test("of two arrays of one name is refused, and writes nothing", async () => {
    const one = await mirror();
    const two = await mirror();
    const members = [...one.members, ...two.members];
    const before = await contents(members);
    const { ended } = start(optionsFor(one.folder, members));
    await expect(ended).rejects.toMatchObject({ code: "array-name-clash" });
    expect(await contents(members)).toEqual(before);
  });

  test("of two arrays exports both", async () => {
    const one = await mirror("one");
    const two = await mirror("two");
    const options = optionsFor(one.folder, [...one.members, ...two.members]);
    const server = start(options);
    await server.ready();
    const { arrays } = await new ControlClient(options.control).status();
    expect(arrays.map(({ name }) => name)).toEqual(["one", "two"]);
  });

  test("at an address that is taken is refused, and writes nothing", async () => {
    const { folder, members } = await mirror();
    const before = await contents(members);
    const other = createServer();
    onTestFinished(() => void other.close());
    await once(other.listen(0, "127.0.0.1"), "listening");
    const { port } = other.address() as { port: number };
    const listen = [`nbd://127.0.0.1:${port}`];
    const options = { ...optionsFor(folder, members), listen };
    await expect(start(options).ended).rejects.toMatchObject({ code: "address-in-use" });
    expect(await contents(members)).toEqual(before);
    expect(existsSync(options.control)).toBe(false);
  });

  test("beside another server's control socket is refused before any member is opened", async () => {
    const { folder, members } = await mirror();
    const options = optionsFor(folder, members);
    await start(options).ready();
    const ended = start({ ...options, members: ["/no/such/member"] }).ended;
    await expect(ended).rejects.toMatchObject({ code: "control-in-use" });
  });
});
