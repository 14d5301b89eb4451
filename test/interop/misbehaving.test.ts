/**
 * Clients that mean harm, or only behave as if, against the real program: what they cost it in
 * memory as the kernel counts it, and what they cost a client beside them in time.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test as base } from "vitest";
import { COMMAND, encodeRequest, RawClient } from "../nbd/client.ts";
import { testWith } from "./fixtures.ts";
import type { Server } from "./server.ts";

const test = testWith("prlimit");
const KIB = 1024;
const MIB = 2 ** 20;
/** Of all clients of these servers; a client alone may have 64 MiB. */
const MEMORY = 64 * MIB;
const ARGS = ["--max-memory", "64M", "--log-level", "warn"];

async function residentBytes({ pid }: Server): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * KIB;
}

/** Does `work` beside a good client; returns the worst of its waits and the memory at its most. */
async function beside(server: Server, work: () => Promise<void>) {
  const good = await RawClient.connect(server.socket);
  await good.negotiate("data");
  let mostBytes = 0;
  let worstMs = 0;
  const turn = async (): Promise<void> => {
    const began = performance.now();
    await good.write(0, Buffer.alloc(4 * KIB, 1));
    await good.read(0, 4 * KIB);
    worstMs = Math.max(worstMs, performance.now() - began);
    mostBytes = Math.max(mostBytes, await residentBytes(server));
  };
  for (let i = 0; i < 20; i++) await turn(); // warm: what comes after is the others' doing
  const before = mostBytes;
  worstMs = 0;
  let done = false;
  const working = work().finally(() => (done = true));
  while (!done) {
    await turn();
    await sleep(10);
  }
  await working;
  for (let i = 0; i < 20; i++) await turn();
  good.destroy();
  return { worstMs, grownBytes: mostBytes - before };
}

async function clients(server: Server, count: number): Promise<RawClient[]> {
  const all = await Promise.all(
    Array.from({ length: count }, () => RawClient.connect(server.socket)),
  );
  for (const one of all) await one.negotiate("data");
  return all;
}

/** Large sizes that a slab is rounded up to, and what V8 has not collected yet. */
const SLACK = 96 * MIB;

const MISDEEDS: [what: string, misbehave: (client: RawClient) => void][] = [
  [
    "never read a reply",
    (client) => {
      client.socket.pause();
      for (let i = 0; i < 60; i++) client.request({ command: COMMAND.READ, length: MIB });
    },
  ],
  [
    "read a byte now and then",
    (client) => {
      client.socket.pause();
      const timer = setInterval(() => void client.socket.read(1), 100);
      client.socket.once("close", () => clearInterval(timer));
      for (let i = 0; i < 60; i++) client.request({ command: COMMAND.READ, length: MIB });
    },
  ],
  [
    "send half a payload",
    (client) => {
      const half = { command: COMMAND.WRITE, length: 8 * MIB, payload: Buffer.alloc(4 * MIB) };
      client.send(encodeRequest(half));
    },
  ],
];

base.describe("sixteen clients", () => {
  test.for(MISDEEDS)(
    "that %s cost bounded memory, and a good one no wait",
    async ([, misbehave], { serve }) => {
      const server = await serve({ serveArgs: ARGS });
      const { worstMs, grownBytes } = await beside(server, async () => {
        const bad = await clients(server, 16);
        for (const one of bad) misbehave(one);
        await sleep(3000);
        for (const one of bad) one.destroy();
      });
      console.log(
        `worst wait ${worstMs.toFixed()} ms, grown by ${(grownBytes / MIB).toFixed()} MiB`,
      );
      expect(grownBytes).toBeLessThan(MEMORY + SLACK);
      expect(worstMs).toBeLessThan(1500);
    },
  );
});

test("thousands of connections cost bounded memory, and a good client no wait", async ({
  serve,
}) => {
  const server = await serve({ serveArgs: ARGS });
  const { worstMs, grownBytes } = await beside(server, async () => {
    for (let round = 0; round < 8; round++) {
      const flood = await Promise.all(
        Array.from({ length: 500 }, () => RawClient.connect(server.socket).catch(() => null)),
      );
      const late = await RawClient.connect(server.socket);
      await late.negotiate("data");
      late.destroy();
      for (const one of flood) one?.destroy();
    }
  });
  console.log(`worst wait ${worstMs.toFixed()} ms, grown by ${(grownBytes / MIB).toFixed()} MiB`);
  expect(grownBytes).toBeLessThan(SLACK);
  expect(worstMs).toBeLessThan(1500);
});

test("when there are no descriptors left the server lives on, and serves again", async ({
  serve,
}) => {
  const server = await serve({ serveArgs: ARGS });
  const good = await RawClient.connect(server.socket);
  await good.negotiate("data");
  await server.run("prlimit", "--pid", String(server.pid), "--nofile=60:60");
  const flood = await Promise.all(
    Array.from({ length: 200 }, () => RawClient.connect(server.socket).catch(() => null)),
  );
  for (let i = 0; i < 20; i++) await good.read(0, 4 * KIB);
  for (const one of flood) one?.destroy();
  await sleep(500);
  const late = await RawClient.connect(server.socket);
  await late.negotiate("data");
  await late.write(0, Buffer.alloc(4 * KIB, 1));
  for (const one of [good, late]) one.destroy();
  await server.stop();
});

test("a client that negotiates for ever, option by option, is dropped in time", async ({
  serve,
}) => {
  const server = await serve({ serveArgs: [...ARGS, "--handshake-timeout", "1"] });
  const one = await RawClient.connect(server.socket);
  await one.greet();
  const began = performance.now();
  const ask = async (): Promise<void> => {
    for (;;) {
      await one.option(3);
      await sleep(50);
    }
  };
  await expect(ask()).rejects.toThrow("closed");
  expect(performance.now() - began).toBeLessThan(3000);
});
