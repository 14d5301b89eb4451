/** Option haggling as clients see it, over a real socket: each option, well and badly formed. */
import { describe, expect, it } from "vitest";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  ERROR_REPLY,
  OPTION,
  type OptionReply,
  REPLY,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";

const MIB = 2 ** 20;
const ALL_INFOS = [0, 1, 2, 3];
/** HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN, CACHE, FAST_ZERO. */
const FLAGS = 0b1101_0110_1101;

function twoExports() {
  return [
    exportOf(new MemoryDevice(MIB), "data", "first"),
    exportOf(new MemoryDevice(2 * MIB, { readOnly: true }), "päper", "second"),
  ];
}

async function haggle(exports = twoExports()) {
  const { client } = await serve(exports);
  const one = await client();
  await one.greet();
  return one;
}

function finalType(replies: readonly OptionReply[]): number | undefined {
  return replies.at(-1)?.type;
}

describe("the greeting", () => {
  it("offers fixed newstyle and NO_ZEROES, and no more", async () => {
    const { client } = await serve(twoExports());
    expect(await (await client()).greet()).toBe(3);
  });

  it.each([0x80000000, 4, 7])("client flags %i have an unknown bit: dropped", async (flags) => {
    const { client } = await serve(twoExports());
    const one = await client();
    await one.greet(flags);
    await one.closed;
  });

  it.each([0, 1, 2, 3])("client flags %i are served", async (flags) => {
    const { client } = await serve(twoExports());
    const one = await client();
    await one.greet(flags);
    expect(finalType(await one.option(OPTION.LIST))).toBe(REPLY.ACK);
  });
});

describe("EXPORT_NAME", () => {
  it.each([
    [1, 134],
    [3, 10],
  ])("with client flags %i is answered in %i bytes, then transmission", async (flags, bytes) => {
    const { client } = await serve(twoExports());
    const one = await client();
    await one.greet(flags);
    one.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from("data")));
    const reply = await one.receive(bytes);
    expect(reply.readBigUInt64BE(0)).toBe(BigInt(MIB));
    expect(reply.readUInt16BE(8)).toBe(FLAGS);
    expect(reply.subarray(10).every((byte) => byte === 0)).toBe(true);
    expect(await one.read(0, 16)).toEqual(Buffer.alloc(16));
  });

  it.each(["nothing", "", "x".repeat(5000), "da\0ta", "x".repeat(70_000)])(
    "of an unknown name ends the connection without a byte",
    async (name) => {
      const one = await haggle();
      one.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from(name)));
      await one.closed;
      await expect(one.receive(1)).rejects.toThrow("closed after 0");
    },
  );
});

describe("LIST", () => {
  it("names every export with its description", async () => {
    const replies = await (await haggle()).option(OPTION.LIST);
    const entries = replies.slice(0, -1).map(({ type, data }) => {
      const length = data.readUInt32BE(0);
      return [type, data.toString("utf8", 4, 4 + length), data.toString("utf8", 4 + length)];
    });
    expect(entries).toEqual([
      [REPLY.SERVER, "data", "first"],
      [REPLY.SERVER, "päper", "second"],
    ]);
    expect(finalType(replies)).toBe(REPLY.ACK);
  });

  it.each([1, 70_000])("with %i bytes of data is invalid, and haggling goes on", async (bytes) => {
    const one = await haggle();
    expect(finalType(await one.option(OPTION.LIST, Buffer.alloc(bytes)))).toBe(ERROR_REPLY.INVALID);
    expect(finalType(await one.option(OPTION.LIST))).toBe(REPLY.ACK);
  });
});

describe.each([
  ["INFO", OPTION.INFO],
  ["GO", OPTION.GO],
])("%s", (_, option) => {
  it("always tells size and flags", async () => {
    const replies = await (await haggle()).option(option, encodeInfoData("päper"));
    expect(replies.map(({ type }) => type)).toEqual([REPLY.INFO, REPLY.ACK]);
    expect(replies[0]?.data.readUInt16BE(0)).toBe(0);
    expect(replies[0]?.data.readBigUInt64BE(2)).toBe(BigInt(2 * MIB));
    expect(replies[0]?.data.readUInt16BE(10)).toBe(FLAGS | 2);
    expect(replies[0]?.data.length).toBe(12);
  });

  it("tells name, description and block sizes when asked, each once", async () => {
    const data = encodeInfoData("data", [...ALL_INFOS, ...ALL_INFOS, 99, 0xffff]);
    const replies = await (await haggle()).option(option, data);
    const infos = replies.filter(({ type }) => type === REPLY.INFO).map((reply) => reply.data);
    expect(infos.map((info) => info.readUInt16BE(0))).toEqual(ALL_INFOS);
    expect(infos[1]?.toString("utf8", 2)).toBe("data");
    expect(infos[2]?.toString("utf8", 2)).toBe("first");
    const sizes = [2, 6, 10].map((at) => infos[3]?.readUInt32BE(at));
    expect(sizes).toEqual([1, 4096, 32 * MIB]);
    expect(infos[3]?.length).toBe(14);
  });

  it("of the empty name means the only export", async () => {
    const one = await haggle([exportOf(new MemoryDevice(MIB), "only")]);
    const replies = await one.option(option, encodeInfoData("", [1]));
    expect(replies[1]?.data.toString("utf8", 2)).toBe("only");
  });

  it.each(["", "nothing", "../data", "x".repeat(4096), "DATA"])(
    "of an unknown name says so in a short text (case %#)",
    async (name) => {
      const one = await haggle();
      const replies = await one.option(option, encodeInfoData(name));
      expect(replies.map(({ type }) => type)).toEqual([ERROR_REPLY.UNKNOWN]);
      expect(replies[0]?.data.length).toBeGreaterThan(10);
      expect(replies[0]?.data.length).toBeLessThan(400);
      expect(finalType(await one.option(option, encodeInfoData("data")))).toBe(REPLY.ACK);
    },
  );

  const malformed: [what: string, data: Buffer][] = [
    ["no data", Buffer.alloc(0)],
    ["two bytes", Buffer.alloc(2)],
    ["a name length of 2^32-1", Buffer.from("ffffffff64617461" + "0000", "hex")],
    ["a name one byte too long", Buffer.from("00000005" + "64617461" + "0000", "hex")],
    ["65535 infos, none sent", Buffer.from("00000004" + "64617461" + "ffff", "hex")],
    ["a byte too many", Buffer.concat([encodeInfoData("data", [1]), Buffer.alloc(1)])],
    ["a name of 4097 bytes", encodeInfoData("x".repeat(4097))],
    ["a NUL in the name", encodeInfoData("da\0ta")],
    ["a name that is no UTF-8", encodeInfoData(Buffer.from([0xff, 0xfe]))],
    ["more data than is kept", encodeInfoData("data", Array<number>(40_000).fill(1))],
  ];
  it.each(malformed)("with %s is invalid, and haggling goes on", async (_, data) => {
    const one = await haggle();
    expect((await one.option(option, data)).map(({ type }) => type)).toEqual([ERROR_REPLY.INVALID]);
    expect(finalType(await one.option(option, encodeInfoData("data")))).toBe(REPLY.ACK);
  });
});

it("INFO leaves the client haggling, GO begins transmission", async () => {
  const one = await haggle();
  await one.option(OPTION.INFO, encodeInfoData("päper"));
  await one.option(OPTION.GO, encodeInfoData("data"));
  expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
});

describe("ABORT", () => {
  it.each([0, 100, 70_000])("with %i bytes of data is acknowledged, then closed", async (bytes) => {
    const one = await haggle();
    const replies = await one.option(OPTION.ABORT, Buffer.alloc(bytes));
    expect(replies.map(({ type }) => type)).toEqual([REPLY.ACK]);
    await one.closed;
  });
});

describe("options not known", () => {
  it.each([
    [4, 0],
    [77, 100_000],
    [0xffffffff, 3 * MIB],
  ])("option %i with %i bytes is unsupported, and haggling goes on", async (option, bytes) => {
    const one = await haggle();
    expect(finalType(await one.option(option, Buffer.alloc(bytes)))).toBe(ERROR_REPLY.UNSUP);
    expect(finalType(await one.option(OPTION.LIST))).toBe(REPLY.ACK);
  });

  it("are not held in memory", () => {
    const harness = new SessionHarness(twoExports());
    const option = encodeOption(77, Buffer.alloc(20 * MIB));
    harness.feed(Buffer.concat([encodeFlags(3), option]));
    expect(harness.session.heldBytes).toBeLessThan(MIB);
    expect(harness.ended).toBeNull();
  });

  it("of an absurd length end the connection", async () => {
    const one = await haggle();
    const header = encodeOption(77);
    header.writeUInt32BE(0xffffffff, 12);
    one.send(header);
    await one.closed;
  });

  it("may be a thousand, no more", async () => {
    const one = await haggle();
    for (let i = 0; i < 1000; i++) one.send(encodeOption(77));
    for (let i = 0; i < 1000; i++) await one.optionReplies(77);
    one.send(encodeOption(77));
    await one.closed;
  });
});

it("bytes that are no option end the connection", async () => {
  const one = await haggle();
  one.send(Buffer.alloc(16, 0x41));
  await one.closed;
});

it("a handshake that arrives byte by byte, requests behind it, is served as any other", () => {
  const device = new MemoryDevice(MIB);
  device.bytes.fill("abcdefgh", 0, 4096);
  const session = Buffer.concat([
    encodeFlags(3),
    encodeOption(77, Buffer.alloc(1000)),
    encodeOption(OPTION.LIST),
    encodeOption(OPTION.INFO, encodeInfoData("nothing")),
    encodeOption(OPTION.GO, encodeInfoData("data", ALL_INFOS)),
    encodeRequest({ command: COMMAND.WRITE, offset: 8, payload: Buffer.from("12345678") }),
    encodeRequest({ command: COMMAND.READ, offset: 0, length: 16 }),
  ]);
  const atOnce = new SessionHarness([exportOf(device)]);
  atOnce.feed(session);
  expect(atOnce.sent.toString("latin1")).toMatch(/abcdefgh12345678$/);
  const bytewise = new SessionHarness([exportOf(device)]);
  for (const byte of session) bytewise.feed(Uint8Array.of(byte));
  expect(bytewise.sent.equals(atOnce.sent)).toBe(true);
});
