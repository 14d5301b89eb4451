/**
 * Hostile input in transmission: requests. Each attack goes over a raw socket to a running server,
 * and other clients are none the worse for it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import type { Extent } from "../../src/nbd/block-device.ts";
import { Arena, attacks, type Attack } from "./arena.ts";
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
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, until } from "./serving.ts";

const MIB = 2 ** 20;
const SIZE = 8 * MIB;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = COMMAND;
const EINVAL = 22;
const ENOSPC = 28;
const EOVERFLOW = 75;
const ENOTSUP = 95;

type Row = readonly [name: string, attack: Attack];

/** Each request gets its errno from a client with simple replies, which then is served on. */
function simple(
  rows: [what: string, fields: RequestFields, errno: number][],
  name = "data",
): Row[] {
  return rows.map(([what, fields, errno]): Row => [
    what,
    async (arena) => {
      const one = await arena.serving.client(name);
      expect((await one.exchange(fields)).error).toBe(errno);
      expect((await one.exchange({ command: READ, length: 8 })).error).toBe(0);
    },
  ]);
}

/** The same with structured or extended headers. */
function chunked(
  mode: Mode,
  rows: [what: string, fields: WideRequest, errno: number][],
  name = "data",
): Row[] {
  return rows.map(([what, fields, errno]): Row => [
    `${mode}: ${what}`,
    async (arena) => {
      const one = await arena.chunked(mode, name);
      expect((await one.exchange(fields)).errno).toBe(errno);
      expect((await one.exchange({ command: READ, length: 8 })).errno).toBe(0);
    },
  ]);
}

const far = 2n ** 64n - 1n;
const some = Buffer.alloc(512, 7);
/** The longest payload, and one that is longer by a byte. */
const most = Buffer.alloc(32 * MIB, 7);
const more = Buffer.alloc(32 * MIB + 1, 7);

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
    ["WRITE past the end by 24 MiB", { command: WRITE, payload: most }, ENOSPC],
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

const sizes: [what: string, fields: RequestFields, errno: number][] = [
  ["READ of 32 MiB", { command: READ, offset: MIB, length: 32 * MIB }, 0],
  ["READ of 32 MiB and a byte", { command: READ, length: 32 * MIB + 1 }, EOVERFLOW],
  ["WRITE of 32 MiB", { command: WRITE, offset: MIB, payload: most }, 0],
];
const tooLong: typeof sizes = [
  ["WRITE of 32 MiB and a byte", { command: WRITE, payload: more }, EINVAL],
];
attacks("8. requests: sizes, where the export is larger", [
  ...simple([...sizes, ...tooLong], "large"),
  ...chunked("structured", [...sizes, ...tooLong], "large"),
  ...chunked("extended", sizes, "large"),
  [
    "WRITE of 32 MiB is done whole, and one of a byte more not at all",
    async (arena) => {
      const one = await arena.serving.client("large");
      await one.write(MIB, most);
      expect((await one.exchange({ command: WRITE, payload: more })).error).toBe(EINVAL);
      const { bytes } = arena.large;
      expect(bytes.subarray(MIB, 33 * MIB).equals(most)).toBe(true);
      expect([bytes[0], bytes[MIB - 1], bytes[33 * MIB]]).toEqual([0, 0, 0]);
    },
  ],
]);

/** Larger than lengths of 32 bits, and one hole. */
class Vast extends MemoryDevice {
  override get sizeBytes(): number {
    return 2 ** 40;
  }

  override extents(_offset: number, length: number): Promise<Extent[]> {
    return Promise.resolve([{ length, hole: true, zero: true }]);
  }
}
it("8. requests: BLOCK_STATUS of the greatest length is answered; others are served as before", async () => {
  const arena = await Arena.open({}, [exportOf(new Vast(0), "vast")]);
  const one = await arena.chunked("structured", "vast");
  for (const length of [2 ** 32 - 1, 2 ** 32 - 512, 2 ** 31]) {
    for (const flags of [0, REQ_ONE]) {
      const fields = { command: BLOCK_STATUS, flags, offset: 2 ** 40 - length, length };
      const { errno, statuses } = await one.exchange(fields);
      const allocation = statuses.get(one.contexts.get("base:allocation") ?? -1);
      expect({ errno, allocation }).toEqual({ errno: 0, allocation: [{ length, flags: 3 }] });
    }
  }
  await arena.othersAreServed();
});

/** Flags that a client may set ("Command flags" of the protocol), by headers and command. */
const flags = { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN, "bit 15": 0x8000 };
const inZeroes = { [WRITE_ZEROES]: NO_HOLE | FAST_ZERO };
const inChunks = { ...inZeroes, [READ]: DF, [BLOCK_STATUS]: REQ_ONE };
const offered: Readonly<Record<Mode | "simple", Readonly<Record<number, number>>>> = {
  simple: inZeroes,
  structured: inChunks,
  extended: { ...inChunks, [WRITE]: PAYLOAD_LEN, [BLOCK_STATUS]: REQ_ONE | PAYLOAD_LEN },
};

/** Each command with each flag that it is not offered with, all from one client. */
function wrongFlags(mode: Mode | "simple"): Row[] {
  const commands = Object.entries(COMMAND).filter(([, command]) => command !== DISC);
  return commands.map(([name, command]): Row => [
    `${mode}: ${name} with each of them`,
    async (arena) => {
      const one = mode === "simple" ? null : await arena.chunked(mode);
      const plain = one === null ? await arena.serving.client("data") : null;
      const wrong = Object.entries(flags).filter(
        ([, flag]) => ((FUA | (offered[mode][command] ?? 0)) & flag) === 0,
      );
      expect(wrong.length).toBeGreaterThan(2);
      for (const [flagName, flag] of wrong) {
        // with extended headers this flag says that there is a payload
        const hasPayload = command === WRITE || (mode === "extended" && flag === PAYLOAD_LEN);
        const range = hasPayload ? { payload: some } : { length: 512 };
        const fields = { command, flags: flag, ...range };
        const errno =
          (await plain?.exchange(fields))?.error ?? (await one?.exchange(fields))?.errno;
        expect({ flagName, errno }).toEqual({ flagName, errno: EINVAL });
      }
      expect(arena.device.bytes.subarray(0, MIB).includes(7)).toBe(false);
    },
  ]);
}
attacks("8. requests: flags that are not offered", [
  ...wrongFlags("simple"),
  ...wrongFlags("structured"),
  ...wrongFlags("extended"),
]);

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
