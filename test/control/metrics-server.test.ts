import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { describe, expect, onTestFinished, test } from "vitest";
import { startMetrics } from "../../src/control/metrics-server.ts";
import type { Reported } from "../../src/control/status.ts";
import { parseExposition, valueOf } from "./exposition.ts";
import { FakeArray } from "./fake-array.ts";

async function start(options: Partial<Reported> & { host?: string; port?: number } = {}) {
  const { host = "127.0.0.1", port = 0, ...reported } = options;
  const server = await startMetrics({
    arrays: [new FakeArray()],
    exports: () => [],
    connections: () => [],
    ...reported,
    address: { host, port },
    logger: pino({ level: "silent" }),
  });
  let closed: Promise<void> | undefined;
  const close = () => (closed ??= server.close());
  onTestFinished(close);
  return { url: server.url, port: Number(new URL(server.url).port), close };
}

/** A connection on which `sent` was said; `ended` resolves to what came back, and after how long. */
async function talk(port: number, sent: string | Buffer) {
  const socket = connect({ port, host: "127.0.0.1" });
  onTestFinished(() => void socket.destroy());
  const started = performance.now();
  let answer = "";
  socket.on("data", (piece) => (answer += piece.toString()));
  socket.on("error", () => undefined); // cut is cut, however
  const ended = new Promise<{ answer: string; ms: number }>((resolve) =>
    socket.once("close", () => resolve({ answer, ms: performance.now() - started })),
  );
  await once(socket, "connect");
  socket.write(sent);
  return { socket, ended };
}

describe("the metrics' listener", () => {
  test("answers a scrape with the arrays' and the process's metrics", async () => {
    const { url } = await start();
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const families = parseExposition(await response.text());
    expect(valueOf(families, "nbd_raid_array_slots", { array: "data" })).toBe(2);
    expect(valueOf(families, "process_open_fds", {})).toBeGreaterThan(2);
  });

  test("answers many at once, each with the state of its moment", async () => {
    const array = new FakeArray();
    const { url } = await start({ arrays: [array] });
    const texts = await Promise.all(
      Array.from({ length: 20 }, async (_, round) => {
        array.current = { ...array.current, degraded: round };
        return (await fetch(url)).text();
      }),
    );
    for (const scrape of texts) {
      const degraded = valueOf(parseExposition(scrape), "nbd_raid_array_degraded_slots", {
        array: "data",
      });
      expect(degraded).toBe(19);
    }
  });

  test.each([
    ["GET", "/", 404],
    ["POST", "/metrics", 404],
    ["GET", "/metrics/../v1/status", 404],
    ["GET", "/%", 400],
    ["HEAD", "/metrics", 200],
  ])("answers %s %s with %d", async (method, path, status) => {
    const { port } = await start();
    const sent = request({ port, method, path, agent: false }).end();
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    expect(response.statusCode).toBe(status);
    expect(await text(response)).not.toContain("nbd_raid_");
  });

  test("that is taken is address-in-use; one that is nobody's is address-invalid", async () => {
    const { port } = await start();
    await expect(start({ port })).rejects.toMatchObject({ code: "address-in-use" });
    for (const host of ["192.0.2.1", "no-such-host.invalid"])
      await expect(start({ host })).rejects.toMatchObject({ code: "address-invalid" });
  });

  test("takes an IPv6 address, and shows it as URLs do", async () => {
    const { url } = await start({ host: "::1" });
    expect(url).toMatch(/^http:\/\/\[::1\]:\d+\/metrics$/);
    expect((await fetch(url)).status).toBe(200);
  });

  test("closes at once, whoever is connected", async () => {
    const { port, close } = await start();
    const { ended } = await talk(port, "GET /met");
    await close();
    await ended;
  });

  test("tells of an error in a line, and answers the next scrape", async () => {
    let connections = (): never => {
      throw new Error("secret");
    };
    const { url } = await start({ connections: () => connections() });
    const response = await fetch(url);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("secret");
    connections = (() => []) as () => never;
    expect((await fetch(url)).status).toBe(200);
  });
});

describe("a client that means no good", () => {
  const LATE_MS = 8_000;

  test("and sends nothing, half a header or no end of a body is cut off in time", async () => {
    const { port } = await start();
    const slow = ["", "GET /metrics HT", "GET /metrics HTTP/1.1\r\nhost: x\r\nx-y"];
    const endless = "POST /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx";
    const talks = await Promise.all([...slow, endless].map((sent) => talk(port, sent)));
    const drip = setInterval(() => {
      for (const { socket } of talks.slice(1, 3)) drop(socket, "a");
    }, 200);
    onTestFinished(() => clearInterval(drip));
    for (const { ended } of talks) expect((await ended).ms).toBeLessThan(LATE_MS);
  });

  test("and sends a header of a megabyte is refused", async () => {
    const { port } = await start();
    const { ended } = await talk(
      port,
      `GET /metrics HTTP/1.1\r\nx: ${"y".repeat(1 << 20)}\r\n\r\n`,
    );
    expect((await ended).answer).toMatch(/^(HTTP\/1\.1 431 |$)/);
  });

  test("and asks a thousand times on one connection is answered once", async () => {
    const { port } = await start();
    const asked = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    const { answer } = await (await talk(port, asked)).ended;
    expect(answer.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(1);
  });

  test("and opens connections by the hundred gets 32, and leaves others their turn", async () => {
    const { port, url } = await start();
    const talks = await Promise.all(Array.from({ length: 100 }, () => talk(port, "")));
    await sleep(500);
    const open = talks.filter(({ socket }) => !socket.destroyed);
    expect(open).toHaveLength(32);
    await Promise.all(talks.map(({ ended }) => ended));
    expect((await fetch(url)).status).toBe(200);
  });

  test("and sends what is no HTTP harms nobody", async () => {
    const { port, url } = await start();
    const garbage = [
      "\0\0\0\0",
      "NBDMAGICIHAVEOPT",
      "GET\n\n",
      "\x16\x03\x01\x02\x00",
      "%s%n\r\n\r\n",
    ];
    for (const sent of garbage) await (await talk(port, `${sent}\r\n\r\n`)).ended;
    expect((await fetch(url)).status).toBe(200);
  });
});

function drop(socket: Socket, byte: string): void {
  if (!socket.destroyed) socket.write(byte);
}
