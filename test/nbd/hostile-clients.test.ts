/**
 * Hostile input in transmission: several connections, slow readers, broken storage and data. Each
 * attack goes over a raw socket to a running server, and other clients are none the worse for it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { attacks, type Attack } from "./arena.ts";
import type { WideRequest } from "./chunk-client.ts";
import { COMMAND, encodeRequest, FUA, NO_HOLE } from "./client.ts";
import { until } from "./serving.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = COMMAND;
const EPERM = 1;
const EIO = 5;
const ENOSPC = 28;
const ESHUTDOWN = 108;

type Row = readonly [name: string, attack: Attack];

const some = Buffer.alloc(512, 7);

attacks("9. several connections", [
  [
    "one is killed with requests in flight",
    async (arena) => {
      const one = await arena.serving.client("data");
      let waiting = 0;
      let open = () => {};
      const gate = new Promise<void>((resolve) => (open = resolve));
      arena.device.gate = () => (waiting++, gate);
      for (let i = 0; i < 32; i++) one.request({ command: WRITE, offset: i * 512, payload: some });
      await until(() => waiting === 32);
      one.destroy();
      open();
      await until(() => arena.serving.server.connections().length === 1);
    },
  ],
  [
    "a storm of connections that come and go",
    async (arena) => {
      for (let round = 0; round < 10; round++) {
        const storm = await Promise.all(Array.from({ length: 30 }, () => arena.client()));
        storm.forEach((one, i) => {
          if (i % 2 === 0) one.send(encodeRequest({ command: READ }));
          one.destroy();
        });
      }
      await until(() => arena.serving.server.connections().length === 1);
    },
  ],
  [
    "writes of every kind to an export that is read-only",
    async (arena) => {
      const one = await arena.serving.client("fixed");
      for (const command of [WRITE, TRIM, WRITE_ZEROES]) {
        const range = command === WRITE ? { payload: some } : { length: 512 };
        expect((await one.exchange({ command, ...range })).error).toBe(EPERM);
      }
      expect(await one.read(0, 8)).toEqual(Buffer.alloc(8));
    },
  ],
]);

attacks(
  "10. slow readers",
  [
    [
      "one that never reads: it is not read either, and holds bounded memory",
      async (arena) => {
        const deaf = await arena.serving.client("data");
        deaf.socket.pause();
        for (let i = 0; i < 2000; i++) deaf.request({ command: READ, length: 64 * KIB });
        await sleep(200);
        const [, connection] = arena.serving.server.connections();
        expect(connection?.readBytes).toBeLessThan(8 * MIB);
      },
    ],
    [
      "one that never takes READs of 32 MiB",
      async (arena) => {
        const deaf = await arena.serving.client("large");
        deaf.socket.pause();
        for (let i = 0; i < 50; i++) deaf.request({ command: READ, length: 32 * MIB });
        await sleep(200);
        await arena.othersAreServed();
        const [, connection] = arena.serving.server.connections();
        expect(connection?.readBytes).toBeLessThanOrEqual(64 * MIB);
        expect(connection?.inFlight).toBeLessThanOrEqual(2);
      },
    ],
    [
      "one that never reads the answers to BLOCK_STATUS over all of a large export",
      async (arena) => {
        for (let at = 0; at < 40 * MIB; at += 8192) arena.large.bytes[at] = 1;
        const deaf = await arena.chunked("structured", "large");
        deaf.raw.socket.pause();
        for (let i = 0; i < 5000; i++) deaf.request({ command: BLOCK_STATUS, length: 40 * MIB });
        await until(() => arena.serving.server.connections()[1]?.inFlight === 0);
        const asked = arena.large.calls.filter(({ name }) => name === "extents").length;
        expect(asked).toBeLessThan(1000);
      },
    ],
    [
      "one that never reads the answers to BLOCK_STATUS",
      async (arena) => {
        for (let at = 0; at < 7 * MIB; at += 8192) arena.device.bytes[at] = 1;
        const deaf = await arena.chunked("extended");
        deaf.raw.socket.pause();
        for (let i = 0; i < 5000; i++) deaf.request({ command: BLOCK_STATUS, length: 7 * MIB });
        await until(() => arena.serving.server.connections()[1]?.inFlight === 0);
        const asked = arena.device.calls.filter(({ name }) => name === "extents").length;
        expect(asked).toBeLessThan(1000);
      },
    ],
    [
      "one that reads byte by byte",
      async (arena) => {
        const slow = await arena.serving.client("data");
        slow.request({ command: READ, length: 64 * KIB });
        for (let i = 0; i < 20; i++) {
          await slow.receive(1);
          await arena.othersAreServed();
        }
      },
    ],
  ],
  { limits: { bytesInFlight: 4 * MIB } },
);

/** All that the device is asked fails for this reason, and the client is told so. */
function broken(what: string, error: Error, errno: number): Row {
  return [
    what,
    async (arena) => {
      const one = await arena.chunked("structured");
      arena.device.gate = () => Promise.reject(error);
      const asked: WideRequest[] = [
        { command: READ, length: 65_536 },
        { command: WRITE, payload: some },
        ...[FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS].map((command) => ({
          command,
          length: 512,
        })),
      ];
      for (const fields of asked) expect((await one.exchange(fields)).errno).toBe(errno);
    },
  ];
}

attacks("11. resources", [
  broken("storage that is full", new NbdRaidError("no-space", "full"), ENOSPC),
  broken("storage that fails", new Error("medium error"), EIO),
  broken("an array that is shutting down", new NbdRaidError("shutting-down", "x"), ESHUTDOWN),
  [
    "a client that resets while replies are on their way (EPIPE, ECONNRESET)",
    async (arena) => {
      const port = Number(new URL(await arena.serving.server.listen("nbd://127.0.0.1:0")).port);
      for (let round = 0; round < 20; round++) {
        const one = await arena.tcpClient(port);
        for (let i = 0; i < 50; i++) one.request({ command: READ, length: 256 * KIB });
        await sleep(round % 5);
        one.socket.resetAndDestroy();
      }
      await until(() => arena.serving.server.connections().length === 1);
    },
  ],
]);

/** Errors that would have ended the server's process; empty at the end of a test. */
function fatalErrors(): Error[] {
  const errors: Error[] = [];
  const note = (error: Error): void => void errors.push(error);
  process.on("uncaughtExceptionMonitor", note);
  onTestFinished(() => void process.off("uncaughtExceptionMonitor", note));
  return errors;
}

/**
 * The first two replies leave one by one, those behind them in one write of several parts: when
 * the first fails, each is given up in the midst of giving up the one before.
 */
const piledUp = [5 * MIB, 5 * MIB, ...Array<number>(8).fill(MIB)];
attacks("11. resources: replies that pile up behind one that cannot be sent", [
  [
    "their client vanishes",
    async (arena) => {
      const errors = fatalErrors();
      for (let round = 0; round < 5; round++) {
        const one = await arena.serving.client("large");
        one.socket.pause();
        for (const length of piledUp) one.request({ command: READ, length });
        await until(() => (arena.serving.server.connections()[1]?.readBytes ?? 0) > 0);
        await sleep(20);
        one.destroy();
        await until(() => arena.serving.server.connections().length === 1);
      }
      await sleep(10);
      expect(errors).toEqual([]);
    },
  ],
]);

attacks("12. data", [
  [
    "a WRITE that fails is an error, and not taken for done",
    async (arena) => {
      const one = await arena.serving.client("data");
      arena.device.gate = () => Promise.reject(new Error("half of it"));
      expect((await one.exchange({ command: WRITE, flags: FUA, payload: some })).error).toBe(EIO);
    },
  ],
  [
    "READ of what was never written, or was trimmed, is answered",
    async (arena) => {
      const one = await arena.chunked("structured");
      expect(await one.read(5 * MIB, 4096)).toEqual(Buffer.alloc(4096));
      expect((await one.exchange({ command: TRIM, offset: MIB, length: 4096 })).errno).toBe(0);
      expect((await one.read(MIB, 4096)).length).toBe(4096);
    },
  ],
  [
    "WRITE_ZEROES with and without NO_HOLE makes zeroes of just its range",
    async (arena) => {
      const one = await arena.chunked("extended");
      await one.write(0, Buffer.alloc(16 * KIB, 1));
      for (const [offset, flag] of [
        [4096, 0],
        [8192, NO_HOLE],
      ] as const) {
        await one.exchange({ command: WRITE_ZEROES, flags: flag, offset, length: 4096 });
      }
      const expected = Buffer.alloc(16 * KIB, 1).fill(0, 4096, 12 * KIB);
      expect((await one.read(0, 16 * KIB)).equals(expected)).toBe(true);
    },
  ],
]);
