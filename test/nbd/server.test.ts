/** The server as a whole: where it listens, whom it lets in, and how it stops. */
import {
  closeSync,
  existsSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { type Logger, pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import { inheritedDescriptors } from "../../src/nbd/listener.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  OPTION,
  RawClient,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, SILENT, temporaryFolder, until } from "./serving.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const ESHUTDOWN = 108;
const { READ, WRITE, FLUSH } = COMMAND;

function newServer(device = new MemoryDevice(MIB)): NbdServer {
  const server = new NbdServer({ exports: [exportOf(device)], logger: SILENT });
  onTestFinished(() => server.close());
  return server;
}

describe("listening", () => {
  it.each(["127.0.0.1", "[::1]"])("on TCP at %s, port 0 becomes a real one", async (host) => {
    const uri = await newServer().listen(`nbd://${host}:0`);
    const { hostname, port } = new URL(uri);
    expect(hostname).toBe(host);
    const client = await RawClient.connect({
      host: host.replace(/[[\]]/g, ""),
      port: Number(port),
    });
    expect((await client.negotiate()).sizeBytes).toBe(BigInt(MIB));
    client.destroy();
  });

  it("a TCP port in use is address-in-use", async () => {
    const uri = await newServer().listen("nbd://127.0.0.1:0");
    const second = newServer().listen(uri);
    await expect(second).rejects.toMatchObject({ code: "address-in-use" });
  });

  it("a Unix socket somebody serves is address-in-use, and stays theirs", async () => {
    const { uri, client } = await serve([exportOf(new MemoryDevice(MIB))]);
    const second = newServer();
    await expect(second.listen(uri)).rejects.toMatchObject({ code: "address-in-use" });
    await second.close();
    expect(await (await client("data")).read(0, 1)).toEqual(Buffer.alloc(1));
  });

  it("a Unix socket left by a dead server is replaced", async () => {
    const { server, path: live } = await serve([exportOf(new MemoryDevice(MIB))]);
    const stale = path.join(temporaryFolder(), "s");
    renameSync(live, stale);
    await server.close();
    await newServer().listen(`nbd+unix:///?socket=${stale}`);
    const client = await RawClient.connect(stale);
    await client.negotiate("data");
    client.destroy();
  });

  it("a file that is no socket is never removed", async () => {
    const file = path.join(temporaryFolder(), "precious");
    writeFileSync(file, "data");
    const listening = newServer().listen(`nbd+unix:///?socket=${file}`);
    await expect(listening).rejects.toMatchObject({ code: "address-in-use" });
    expect(statSync(file).size).toBe(4);
  });

  it("close removes its socket file", async () => {
    const { server, path: file } = await serve([exportOf(new MemoryDevice(MIB))]);
    await server.close();
    expect(existsSync(file)).toBe(false);
  });

  it("close leaves alone a socket another server has made there since", async () => {
    const { server, path: file, uri } = await serve([exportOf(new MemoryDevice(MIB))]);
    rmSync(file);
    await newServer().listen(uri);
    await server.close();
    const client = await RawClient.connect(file);
    await client.negotiate("data");
    client.destroy();
  });

  it.each([
    "nbd+unix:///?socket=/nowhere/at/all",
    `nbd+unix:///?socket=/tmp/${"x".repeat(120)}`,
    "nbd+unix:///data?socket=/tmp/x",
    "nbd://203.0.113.1:1",
    "nonsense",
  ])("%s is address-invalid", async (uri) => {
    await expect(newServer().listen(uri)).rejects.toMatchObject({ code: "address-invalid" });
  });

  it("a Unix socket in a folder that is missing says so, not that it may not be made", async () => {
    const refused = newServer().listen("nbd+unix:///?socket=/nowhere/at/all");
    const message = expect.stringContaining("there is no folder /nowhere/at") as string;
    await expect(refused).rejects.toMatchObject({ code: "address-invalid", message });
  });

  it("a descriptor that is no socket is descriptor-invalid", async () => {
    const fd = openSync(path.join(temporaryFolder(), "file"), "w");
    onTestFinished(() => closeSync(fd));
    await expect(newServer().listenFd(fd)).rejects.toMatchObject({ code: "descriptor-invalid" });
  });

  it("inherited descriptors are counted only for the process they are meant for", () => {
    expect(inheritedDescriptors({ LISTEN_PID: "7", LISTEN_FDS: "2" }, 7)).toEqual([3, 4]);
    expect(inheritedDescriptors({ LISTEN_PID: "8", LISTEN_FDS: "2" }, 7)).toEqual([]);
    expect(inheritedDescriptors({ LISTEN_FDS: "2" }, 7)).toEqual([]);
    expect(inheritedDescriptors({ LISTEN_PID: "7", LISTEN_FDS: "x" }, 7)).toEqual([]);
  });
});

describe("connections", () => {
  it("are told with what they do", async () => {
    const device = new MemoryDevice(MIB);
    const { server, client } = await serve([exportOf(device)]);
    const one = await client("data");
    await client();
    await one.write(0, Buffer.alloc(1000));
    await one.read(0, 500);
    device.gate = () => sleep(30);
    one.request({ command: READ, length: 512 });
    await until(() => server.connections()[0]?.inFlight === 1);
    expect(server.connections()).toMatchObject([
      {
        export: "data",
        peer: "unix",
        tls: false,
        inFlight: 1,
        readBytes: 1012,
        writtenBytes: 1000,
      },
    ]);
  });

  it("beyond the limit are closed at once, and let in again when others leave", async () => {
    const { client } = await serve([exportOf(new MemoryDevice(MIB))], {
      limits: { connections: 2 },
    });
    const [one] = [await client("data"), await client("data")];
    const third = await client();
    await third.closed;
    one.destroy();
    await sleep(50);
    await client("data");
  });

  it("that do not finish the handshake in time are closed, others are not", async () => {
    const { client } = await serve([exportOf(new MemoryDevice(MIB))], {
      limits: { handshakeMs: 60 },
    });
    const served = await client("data");
    const silent = await client();
    const slow = await client();
    await slow.greet();
    await Promise.all([silent.closed, slow.closed]);
    expect(await served.read(0, 1)).toEqual(Buffer.alloc(1));
  });

  it("that do not read their replies keep no one else waiting", async () => {
    const { server, client } = await serve([exportOf(new MemoryDevice(MIB))], {
      limits: { bytesInFlight: 4 * MIB, closeMs: 100 },
    });
    const deaf = await client("data");
    const other = await client("data");
    deaf.socket.pause();
    for (let i = 0; i < 500; i++) deaf.request({ command: READ, length: 256 * KIB });
    for (let i = 0; i < 50; i++) await other.read(0, 4096);
    expect(server.connections()[0]?.readBytes).toBeLessThan(8 * MIB);
    await server.close();
  });

  it("each Unix socket is shown to tuneSocket", async () => {
    const tuned: number[] = [];
    const { client } = await serve([exportOf(new MemoryDevice(MIB))], {
      tuneSocket: (fd) => tuned.push(fd),
    });
    await client("data");
    expect(tuned).toEqual([expect.any(Number)]);
    expect(tuned[0]).toBeGreaterThan(2);
  });

  it("FLUSH reaches the device after writes answered on another connection", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)]);
    const [a, b] = [await client("data"), await client("data")];
    await a.write(0, Buffer.alloc(512));
    expect((await b.exchange({ command: FLUSH })).error).toBe(0);
    expect(device.calls.map(({ name }) => name)).toEqual(["write", "flush"]);
  });
});

describe("a client that vanishes", () => {
  it.each(["closing", "resetting"])(
    "%s at any byte of a session harms nobody else",
    async (how) => {
      const { server, client } = await serve([exportOf(new MemoryDevice(MIB))]);
      const port = Number(new URL(await server.listen("nbd://127.0.0.1:0")).port);
      const other = await client("data");
      const session = Buffer.concat([
        encodeFlags(3),
        encodeOption(OPTION.GO, encodeInfoData("data")),
        encodeRequest({ command: WRITE, offset: 4096, payload: Buffer.alloc(64, 1) }),
        encodeRequest({ command: READ, length: 64 * KIB }),
        encodeRequest({ command: READ, length: 64 * KIB }),
      ]);
      for (let bytes = 0; bytes <= session.length; bytes++) {
        const one = await RawClient.connect({ host: "127.0.0.1", port });
        const { socket } = one;
        await new Promise<void>((sent) => socket.write(session.subarray(0, bytes), () => sent()));
        if (how === "resetting") socket.resetAndDestroy();
        else one.destroy();
        const payload = Buffer.alloc(16, bytes);
        await other.write(0, payload);
        expect(await other.read(0, 16)).toEqual(payload);
      }
      await until(() => server.connections().length === 1);
    },
  );

  it("while the device works for it: the work is finished, and waited for on close", async () => {
    const device = new MemoryDevice(MIB);
    const { server, client } = await serve([exportOf(device)], { limits: { closeMs: 10 } });
    const one = await client("data");
    let open = () => {};
    device.gate = () => new Promise((resolve) => (open = resolve));
    one.request({ command: WRITE, payload: Buffer.alloc(512, 7) });
    await until(() => device.calls.length === 1);
    one.destroy();
    let closed = false;
    const closing = server.close().then(() => (closed = true));
    await sleep(50);
    expect(closed).toBe(false);
    open();
    await closing;
    expect(device.bytes[0]).toBe(7);
  });
});

describe("close", () => {
  it("answers what is in flight, ESHUTDOWN to what still comes, and hangs up", async () => {
    const device = new MemoryDevice(MIB);
    const { server, client, path: file } = await serve([exportOf(device)]);
    const one = await client("data");
    let open = () => {};
    device.gate = () => new Promise((resolve) => (open = resolve));
    const pending = one.request({ command: READ, length: 512 });
    await until(() => device.calls.length === 1);
    const closing = server.close();
    expect((await one.exchange({ command: READ, length: 512 })).error).toBe(ESHUTDOWN);
    const late = { command: WRITE, payload: Buffer.alloc(2 * MIB) };
    expect((await one.exchange(late)).error).toBe(ESHUTDOWN);
    await expect(RawClient.connect(file)).rejects.toThrow();
    open();
    expect((await one.reply(pending)).error).toBe(0);
    await one.closed;
    one.end();
    await closing;
    expect(device.calls.length).toBe(1);
  });

  it("of idle and of negotiating clients is quick, and happens once", async () => {
    const { server, client } = await serve([exportOf(new MemoryDevice(MIB))]);
    const clients = [await client("data"), await client()];
    expect(server.close()).toBe(server.close());
    await Promise.all(clients.map((one) => one.closed));
    for (const one of clients) one.end();
    await server.close();
  });

  it("drops clients that do not take their replies after the time given", async () => {
    const { server, client } = await serve([exportOf(new MemoryDevice(MIB))], {
      limits: { closeMs: 50 },
    });
    const deaf = await client("data");
    deaf.socket.pause();
    for (let i = 0; i < 100; i++) deaf.request({ command: READ, length: 256 * KIB });
    await until(() => (server.connections()[0]?.readBytes ?? 0) > MIB);
    await server.close();
    expect(server.connections()).toEqual([]);
  });
});

/** What a server at this level of logging says, line by line. */
function captured(): { lines: string[]; logger: Logger } {
  const lines: string[] = [];
  const stream = new Writable({
    write(line: Buffer, _, done) {
      lines.push(line.toString());
      done();
    },
  });
  return { lines, logger: pino({ level: "warn" }, stream) };
}

describe("the log", () => {
  it("has a warning once for each kind of failing request", async () => {
    const { lines, logger } = captured();
    const device = new MemoryDevice(MIB);
    device.gate = () => Promise.reject(new Error("broken"));
    const { client } = await serve([exportOf(device)], { logger });
    const one = await client("data");
    for (let i = 0; i < 5; i++) {
      await one.exchange({ command: READ, length: 512 });
      await one.exchange({ command: FLUSH });
    }
    expect(lines.length).toBe(2);
    expect(JSON.parse(lines[0]!)).toMatchObject({ export: "data", command: "READ" });
  });

  it("has it again when it comes back after ten minutes", async () => {
    const { lines, logger } = captured();
    const device = new MemoryDevice(MIB);
    device.gate = () => Promise.reject(new Error("broken"));
    let now = 1e9;
    const { client } = await serve([exportOf(device)], { logger, now: () => now });
    const one = await client("data");
    const warnings: number[] = [];
    for (const minutes of [0, 9, 0.9, 0.2, 1, 30 * 24 * 60]) {
      now += minutes * 60_000;
      await one.exchange({ command: READ, length: 512 });
      warnings.push(lines.length);
    }
    expect(warnings).toEqual([1, 1, 1, 2, 2, 3]);
  });
});
