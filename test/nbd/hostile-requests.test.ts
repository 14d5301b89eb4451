/**
 * Hostile input in transmission: requests, several connections, slow readers, broken storage and
 * data. Each attack goes over a raw socket to a running server, and other clients are none the
 * worse for it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { attacks, type Arena, type Attack } from "./arena.ts";
import { encodeExtendedRequest, type Mode, type WideRequest } from "./chunk-client.ts";
import {
  COMMAND,
  DF,
  encodeRequest,
  FAST_ZERO,
  FUA,
  NO_HOLE,
  PAYLOAD_LEN,
  REQ_ONE,
  type RequestFields,
} from "./client.ts";
import { until } from "./serving.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const SIZE = 8 * MIB;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = COMMAND;
const EPERM = 1;
const EIO = 5;
const EINVAL = 22;
const ENOSPC = 28;
const ENOTSUP = 95;
const ESHUTDOWN = 108;

type Row = readonly [name: string, attack: Attack];

/** Each request gets its errno from a client with simple replies, which then is served on. */
function simple(rows: [what: string, fields: RequestFields, errno: number][]): Row[] {
  return rows.map(([what, fields, errno]): Row => [
    what,
    async (arena) => {
      const one = await arena.serving.client("data");
      expect((await one.exchange(fields)).error).toBe(errno);
      expect((await one.exchange({ command: READ, length: 8 })).error).toBe(0);
    },
  ]);
}

/** The same with structured or extended headers. */
function chunked(mode: Mode, rows: [what: string, fields: WideRequest, errno: number][]): Row[] {
  return rows.map(([what, fields, errno]): Row => [
    `${mode}: ${what}`,
    async (arena) => {
      const one = await arena.chunked(mode);
      expect((await one.exchange(fields)).errno).toBe(errno);
      expect((await one.exchange({ command: READ, length: 8 })).errno).toBe(0);
    },
  ]);
}

const far = 2n ** 64n - 1n;
const some = Buffer.alloc(512, 7);

attacks("8. requests: ranges", [
  ...simple([
    ["READ at 2^64-1", { command: READ, offset: far, length: 1 }, EINVAL],
    ["READ that wraps around", { command: READ, offset: far - 510n, length: 1024 }, EINVAL],
    ["WRITE that wraps around", { command: WRITE, offset: far - 510n, payload: some }, ENOSPC],
    ["READ past the end", { command: READ, offset: SIZE, length: 1 }, EINVAL],
    ["WRITE past the end", { command: WRITE, offset: SIZE - 1, payload: some }, ENOSPC],
    ["TRIM past the end", { command: TRIM, offset: SIZE - 1, length: 2 }, EINVAL],
    ["WRITE_ZEROES past the end", { command: WRITE_ZEROES, offset: SIZE - 1, length: 2 }, ENOSPC],
    ["CACHE past the end", { command: CACHE, offset: SIZE - 1, length: 2 }, EINVAL],
    ["READ of 2^32-1 bytes", { command: READ, length: 2 ** 32 - 1 }, EINVAL],
    ["READ of no bytes", { command: READ, length: 0 }, 0],
    ["WRITE of no bytes", { command: WRITE, length: 0 }, 0],
    ["TRIM of no bytes", { command: TRIM, length: 0 }, 0],
    ["WRITE_ZEROES of no bytes", { command: WRITE_ZEROES, length: 0 }, 0],
    ["CACHE of no bytes", { command: CACHE, length: 0 }, 0],
    ["READ of 3 bytes at 1", { command: READ, offset: 1, length: 3 }, 0],
    ["WRITE of 3 bytes at 1", { command: WRITE, offset: 1, payload: Buffer.alloc(3) }, 0],
    ["WRITE of 32 MiB and a byte", { command: WRITE, payload: Buffer.alloc(32 * MIB + 1) }, ENOSPC],
    ["FLUSH with a range", { command: FLUSH, offset: 4096, length: 512 }, 0],
  ]),
  ...chunked("extended", [
    ["TRIM of 2^64-1 bytes", { command: TRIM, length: far }, EINVAL],
    ["WRITE_ZEROES of 2^63 bytes", { command: WRITE_ZEROES, length: 2n ** 63n }, ENOSPC],
    ["BLOCK_STATUS of 2^32 bytes", { command: BLOCK_STATUS, length: 2 ** 32 }, EINVAL],
    ["READ of 2^32-1 bytes", { command: READ, length: 2 ** 32 - 1 }, EINVAL],
    ["CACHE that wraps around", { command: CACHE, offset: far, length: far }, EINVAL],
  ]),
]);

/** Each flag that is not offered with a command, by command. */
const flags = { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN, "bit 15": 0x8000 };
const wrongFlags: Row[] = Object.entries(COMMAND)
  .filter(([, command]) => command !== DISC && command !== BLOCK_STATUS)
  .flatMap(([name, command]) => {
    const offered = FUA | (command === WRITE_ZEROES ? NO_HOLE | FAST_ZERO : 0);
    return Object.entries(flags)
      .filter(([, flag]) => (offered & flag) === 0)
      .flatMap(([flagName, flag]) => {
        const range = command === WRITE ? { payload: some } : { length: 512 };
        return simple([[`${name} with ${flagName}`, { command, flags: flag, ...range }, EINVAL]]);
      });
  });
attacks("8. requests: flags that are not offered", wrongFlags);

attacks("8. requests: commands that are not offered", [
  ...simple([
    ["RESIZE", { command: 8, offset: SIZE * 2 }, EINVAL],
    ["command 0x77 with all flags", { command: 0x77, flags: 0xffff, length: 512 }, EINVAL],
    ["command 65535", { command: 65_535, length: 2 ** 32 - 1 }, EINVAL],
    ["BLOCK_STATUS without contexts", { command: BLOCK_STATUS, length: 512 }, EINVAL],
    ["FAST_ZERO that is not fast", zeroes(FAST_ZERO | NO_HOLE), ENOTSUP],
  ]),
  ...chunked("extended", [
    ["WRITE without PAYLOAD_LEN", { command: WRITE, length: 512 }, EINVAL],
    ["READ with a payload", { command: READ, payload: some }, EINVAL],
    ["an unknown command with a payload", { command: 0x77, payload: some }, EINVAL],
    ["BLOCK_STATUS with contexts twice", { command: BLOCK_STATUS, payload: twice() }, EINVAL],
  ]),
]);

function zeroes(flags: number): RequestFields {
  return { command: WRITE_ZEROES, flags, length: 65_536 };
}

function twice(): Buffer {
  const payload = Buffer.alloc(16);
  payload.writeBigUInt64BE(512n);
  payload.writeUInt32BE(1, 8);
  payload.writeUInt32BE(1, 12);
  return payload;
}

/** Bytes in place of a request that end the connection. */
function ending(what: string, bytes: Buffer, mode: Mode | null = null): Row {
  return [
    what,
    async (arena) => {
      const one =
        mode === null ? await arena.serving.client("data") : (await arena.chunked(mode)).raw;
      one.send(bytes);
      await one.closed;
      await expect(one.receive(1)).rejects.toThrow("closed after 0");
    },
  ];
}

const torn = encodeRequest({ command: WRITE, payload: Buffer.alloc(MIB, 9) }).subarray(0, -5000);

/** A WRITE whose payload does not come whole is not done at all. */
async function tears(arena: Arena, how: "half-closes" | "vanishes" | "stalls"): Promise<void> {
  const one = await arena.serving.client("data");
  await new Promise<void>((sent) => one.socket.write(torn, () => sent()));
  if (how === "half-closes") {
    one.end();
    await one.closed;
  } else if (how === "vanishes") {
    one.destroy();
    await until(() => arena.serving.server.connections().length === 1);
  } else {
    await arena.othersAreServed();
  }
  expect(arena.device.bytes.subarray(0, MIB).includes(9)).toBe(false);
}

attacks("8. requests: framing", [
  ending("a bad magic", encodeRequest({ command: READ, magic: 0x12560953 })),
  ending(
    "a simple reply in place of a request",
    encodeRequest({ command: READ, magic: 0x67446698 }),
  ),
  ending("WRITE of 2^32-1 bytes", encodeRequest({ command: WRITE, length: 2 ** 32 - 1 })),
  ending(
    "extended: a payload of 32 MiB and a byte",
    encodeExtendedRequest({ command: WRITE, flags: PAYLOAD_LEN, length: 32 * MIB + 1 }),
    "extended",
  ),
  ending(
    "extended: a payload of 2^64-1 bytes with an unknown command",
    encodeExtendedRequest({ command: 99, flags: PAYLOAD_LEN, length: far }),
    "extended",
  ),
  ["WRITE whose client half-closes in its payload", (arena) => tears(arena, "half-closes")],
  ["WRITE whose client vanishes in its payload", (arena) => tears(arena, "vanishes")],
  ["WRITE whose client stalls in its payload", (arena) => tears(arena, "stalls")],
  [
    "DISC with requests pending: all are answered",
    async (arena) => {
      const one = await arena.serving.client("data");
      arena.device.gate = () => sleep(20);
      const pending = Array.from({ length: 8 }, () => one.request({ command: READ, length: 512 }));
      one.send(encodeRequest({ command: DISC }));
      for (const cookie of pending) expect((await one.reply(cookie)).error).toBe(0);
      await one.closed;
    },
  ],
  [
    "the same cookie for requests under way together",
    async (arena) => {
      const one = await arena.serving.client("data");
      arena.device.gate = () => sleep(5);
      for (const offset of [0, 512]) {
        one.send(encodeRequest({ command: TRIM, offset, length: 512, cookie: 0n }));
      }
      expect([(await one.nextReply()).cookie, (await one.nextReply()).cookie]).toEqual([0n, 0n]);
    },
  ],
]);

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
