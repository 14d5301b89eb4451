/**
 * Hostile input before transmission: greeting, flags, option headers, names, contexts, order. Each
 * attack goes over a raw socket to a running server, and other clients are none the worse for it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { attacks, type Arena } from "./arena.ts";
import { encodeMetaData } from "./chunk-client.ts";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  ERROR_REPLY,
  OPTION,
  type OptionReply,
  type RawClient,
  REPLY,
} from "./client.ts";
import { until } from "./serving.ts";

const MIB = 2 ** 20;
const { LIST, INFO, GO, ABORT, EXPORT_NAME, STRUCTURED_REPLY } = OPTION;
const { LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS } = OPTION;
const { INVALID, UNSUP, UNKNOWN, TOO_BIG, EXT_HEADER_REQD } = ERROR_REPLY;
const { ACK } = REPLY;

async function greeted(arena: Arena, flags = 3): Promise<RawClient> {
  const one = await arena.client();
  await one.greet(flags);
  return one;
}

function final(replies: readonly OptionReply[]): OptionReply {
  const last = replies.at(-1);
  if (last === undefined) throw new Error("an option is answered");
  return last;
}

/** The option gets this final reply, a short text, and the next option is understood. */
async function answers(one: RawClient, option: number, data: Buffer, type: number): Promise<void> {
  const last = final(await one.option(option, data));
  expect(last.type).toBe(type);
  expect(last.data.length).toBeLessThan(4096);
  expect(final(await one.option(LIST)).type).toBe(ACK);
}

/** An option header that claims `length` bytes of data. */
function headerOf(option: number, length: number): Buffer {
  const header = encodeOption(option);
  header.writeUInt32BE(length, 12);
  return header;
}

/** Not a byte more comes, and the connection ends. */
async function isDropped(one: RawClient): Promise<void> {
  await one.closed;
  await expect(one.receive(1)).rejects.toThrow("closed after 0");
}

const wholeSession = Buffer.concat([
  encodeFlags(3),
  encodeOption(STRUCTURED_REPLY),
  encodeOption(SET_META_CONTEXT, encodeMetaData("data", ["base:allocation"])),
  encodeOption(GO, encodeInfoData("data", [0, 1, 2, 3])),
  encodeRequest({ command: COMMAND.READ, length: 512, cookie: 1n }),
]);

attacks(
  "1. greeting",
  [
    [
      "no bytes at all: the time for the handshake runs out",
      async (arena) => {
        const one = await arena.client();
        await one.receive(18);
        await isDropped(one);
      },
    ],
    [
      "one byte at a time",
      async (arena) => {
        const one = await arena.client();
        for (const byte of wholeSession) {
          one.send(Uint8Array.of(byte));
          await new Promise(setImmediate);
        }
        await until(() => arena.serving.server.connections().length === 2);
      },
    ],
    [
      "half-closed at once",
      async (arena) => {
        const one = await arena.client();
        one.end();
        await one.receive(18);
        await isDropped(one);
      },
    ],
    [
      "closed after each byte",
      async (arena) => {
        for (let bytes = 0; bytes <= wholeSession.length; bytes++) {
          const one = await arena.client();
          const part = wholeSession.subarray(0, bytes);
          await new Promise<void>((sent) => one.socket.write(part, () => sent()));
          one.destroy();
        }
        await until(() => arena.serving.server.connections().length === 1);
      },
    ],
    [
      "250 idle connections, of which none is greeted less",
      async (arena) => {
        const idle = await Promise.all(Array.from({ length: 250 }, () => arena.client()));
        for (const one of idle) await one.receive(18);
      },
    ],
  ],
  { limits: { handshakeMs: 2000 } },
);

attacks("2. client flags", [
  ["0", async (arena) => answers(await greeted(arena, 0), LIST, Buffer.alloc(0), ACK)],
  ["bit 2 set", async (arena) => isDropped(await greeted(arena, 7))],
  ["bit 31 set", async (arena) => isDropped(await greeted(arena, 0x80000003))],
  [
    "NO_ZEROES alone",
    async (arena) => answers(await greeted(arena, 2), LIST, Buffer.alloc(0), ACK),
  ],
]);

attacks("3. option headers", [
  [
    "a bad magic",
    async (arena) => {
      const one = await greeted(arena);
      one.send(Buffer.alloc(16, 0x58));
      await isDropped(one);
    },
  ],
  ["a length of 0", async (arena) => answers(await greeted(arena), GO, Buffer.alloc(0), INVALID)],
  [
    "a length of 2^32-1: neither read nor kept",
    async (arena) => {
      const one = await greeted(arena);
      one.send(headerOf(77, 0xffffffff));
      await isDropped(one);
    },
  ],
  [
    "a length of 2^32-1 of an option that is known",
    async (arena) => {
      const one = await greeted(arena);
      one.send(headerOf(GO, 0xffffffff));
      await isDropped(one);
    },
  ],
  [
    "100 KB of an option that is known",
    async (arena) => answers(await greeted(arena), INFO, Buffer.alloc(100_000), INVALID),
  ],
  [
    "cut off",
    async (arena) => {
      const one = await greeted(arena);
      one.send(headerOf(GO, 20).subarray(0, 15));
      one.end();
      await isDropped(one);
    },
  ],
  [
    "split over packets",
    async (arena) => {
      const one = await greeted(arena);
      for (const byte of encodeOption(77, Buffer.alloc(3))) {
        one.send(Uint8Array.of(byte));
        await sleep(1);
      }
      expect(final(await one.optionReplies(77)).type).toBe(UNSUP);
    },
  ],
  [
    "10 000 of them: a thousand are answered",
    async (arena) => {
      const one = await greeted(arena);
      one.send(Buffer.concat(Array.from({ length: 10_000 }, () => encodeOption(77))));
      for (let i = 0; i < 1000; i++) expect(final(await one.optionReplies(77)).type).toBe(UNSUP);
      await one.closed;
    },
  ],
  [
    "unknown ones with payload",
    async (arena) => answers(await greeted(arena), 0xdeadbeef, Buffer.alloc(MIB), UNSUP),
  ],
  [
    "pipelined",
    async (arena) => {
      const one = await greeted(arena);
      one.send(Buffer.concat([encodeOption(LIST), encodeOption(78), encodeOption(ABORT)]));
      for (const [option, type] of [
        [LIST, ACK],
        [78, UNSUP],
        [ABORT, ACK],
      ] as const) {
        expect(final(await one.optionReplies(option)).type).toBe(type);
      }
      await one.closed;
    },
  ],
]);

const name = (length: number, declared = length): Buffer => {
  const data = encodeInfoData("x".repeat(length));
  data.writeUInt32BE(declared, 0);
  return data;
};
const infos: [what: string, data: Buffer, type: number][] = [
  ["a name of 0 bytes where there is no default", name(0), UNKNOWN],
  ["a name of 256 bytes", name(256), UNKNOWN],
  ["a name of 257 bytes", name(257), UNKNOWN],
  ["a name of 4096 bytes, of which the error shows few", name(4096), UNKNOWN],
  ["a name of 4097 bytes", name(4097), INVALID],
  ["a name of 4096 characters of three bytes", encodeInfoData("€".repeat(4096)), INVALID],
  ["a name length of 2^32-1", name(4, 0xffffffff), INVALID],
  ["a name length beyond the option", name(4, 7), INVALID],
  ["a NUL in the name", encodeInfoData("data\0"), INVALID],
  ["a name that is not UTF-8", encodeInfoData(Buffer.from([0xc3, 0x28])), INVALID],
  ["../ in the name", encodeInfoData("../data"), UNKNOWN],
  ["65535 infos of which none is sent", Buffer.from("0000000464617461ffff", "hex"), INVALID],
  ["trailing bytes", Buffer.concat([encodeInfoData("data"), Buffer.alloc(2)]), INVALID],
];
attacks("4. INFO and GO", [
  ...[INFO, GO].flatMap((option) =>
    infos.map(
      ([what, data, type]) =>
        [
          `option ${option} with ${what}`,
          async (arena: Arena) => answers(await greeted(arena), option, data, type),
        ] as const,
    ),
  ),
  [
    "the same info a thousand times is told once",
    async (arena) => {
      const data = encodeInfoData("data", Array<number>(1000).fill(3));
      const replies = await (await greeted(arena)).option(INFO, data);
      expect(replies.map(({ type }) => type)).toEqual([REPLY.INFO, REPLY.INFO, ACK]);
    },
  ],
]);

attacks("5. data where none belongs", [
  [
    "LIST with data",
    async (arena) => answers(await greeted(arena), LIST, Buffer.alloc(9), INVALID),
  ],
  [
    "ABORT with data",
    async (arena) => {
      const one = await greeted(arena);
      expect(final(await one.option(ABORT, Buffer.alloc(100))).type).toBe(ACK);
      await isDropped(one);
    },
  ],
  [
    "ABORT, and gone before the answer",
    async (arena) => {
      const one = await greeted(arena);
      await new Promise<void>((sent) => one.socket.write(encodeOption(ABORT), () => sent()));
      one.destroy();
    },
  ],
  [
    "EXPORT_NAME of a name that is none",
    async (arena) => {
      const one = await greeted(arena);
      one.send(encodeOption(EXPORT_NAME, Buffer.from("da\0ta")));
      await isDropped(one);
    },
  ],
]);

const overrun = Buffer.from("0000000464617461" + "00000001" + "000000ff" + "626173653a", "hex");
const million = encodeMetaData("data", Array<string>(1e6).fill("base:allocation"));
const metas: [what: string, data: Buffer, type: number][] = [
  ["a query that overruns the option", overrun, INVALID],
  ["no queries", encodeMetaData("data", []), ACK],
  ["a million queries", million, TOO_BIG],
  ["a query without a colon", encodeMetaData("data", ["allocation"]), INVALID],
  ["an unknown namespace", encodeMetaData("data", ["qemu:dirty-bitmap:x"]), ACK],
  ["trailing bytes", Buffer.concat([encodeMetaData("data", []), Buffer.alloc(8)]), INVALID],
];
attacks("6. metadata contexts", [
  ...[LIST_META_CONTEXT, SET_META_CONTEXT].flatMap((option) =>
    metas.map(
      ([what, data, type]) =>
        [
          `option ${option} with ${what}`,
          async (arena: Arena) => {
            const one = await greeted(arena);
            await one.option(STRUCTURED_REPLY);
            await answers(one, option, data, type);
          },
        ] as const,
    ),
  ),
  [
    "without structured replies",
    async (arena) => {
      const data = encodeMetaData("data", ["base:allocation"]);
      await answers(await greeted(arena), SET_META_CONTEXT, data, INVALID);
    },
  ],
  [
    "set twice, and then for another export than the one chosen",
    async (arena) => {
      const one = await greeted(arena);
      await one.option(STRUCTURED_REPLY);
      for (const which of ["data", "data", "fixed"]) {
        await one.option(SET_META_CONTEXT, encodeMetaData(which, ["base:allocation"]));
      }
      await one.option(GO, encodeInfoData("data"));
      one.request({ command: COMMAND.BLOCK_STATUS, length: 512 });
      const reply = await one.receive(26);
      expect([reply.readUInt16BE(6), reply.readUInt32BE(20)]).toEqual([0x8001, 22]);
    },
  ],
]);

attacks("7. order", [
  [
    "STRUCTURED_REPLY after EXTENDED_HEADERS",
    async (arena) => {
      const one = await greeted(arena);
      await one.option(EXTENDED_HEADERS);
      await answers(one, STRUCTURED_REPLY, Buffer.alloc(0), EXT_HEADER_REQD);
    },
  ],
  [
    "EXTENDED_HEADERS after STRUCTURED_REPLY",
    async (arena) => {
      const one = await greeted(arena);
      await one.option(STRUCTURED_REPLY);
      await answers(one, EXTENDED_HEADERS, Buffer.alloc(0), ACK);
    },
  ],
  [
    "GO to an unknown export, then to a known one",
    async (arena) => {
      const one = await greeted(arena);
      expect(final(await one.option(GO, encodeInfoData("nothing"))).type).toBe(UNKNOWN);
      expect(final(await one.option(GO, encodeInfoData("data"))).type).toBe(ACK);
      expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
    },
  ],
  [
    "an option where a request belongs",
    async (arena) => {
      const one = await arena.serving.client("data");
      one.send(Buffer.concat([encodeOption(LIST), Buffer.alloc(12)]));
      await isDropped(one);
    },
  ],
]);
