/** Structured replies, extended headers and metadata contexts as they are negotiated, and asked. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { CHUNK, ChunkClient, encodeMetaData, type Mode } from "./chunk-client.ts";
import {
  COMMAND,
  encodeInfoData,
  encodeOption,
  ERROR_REPLY,
  FUA,
  OPTION,
  type OptionReply,
  type RawClient,
  REPLY,
  REQ_ONE,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve } from "./serving.ts";

const MIB = 2 ** 20;
const { STRUCTURED_REPLY, EXTENDED_HEADERS, LIST_META_CONTEXT, SET_META_CONTEXT } = OPTION;
const { BLOCK_STATUS } = COMMAND;
const EIO = 5;
const EINVAL = 22;
const ALLOCATION = "base:allocation";
const REGIONS = "x-nbd-raid:regions";
const DF = 1 << 7;
const STATUS_PAYLOAD = 1 << 12;

const MODES: Mode[] = ["structured", "extended"];
const META_OPTIONS = [
  ["LIST_META_CONTEXT", LIST_META_CONTEXT],
  ["SET_META_CONTEXT", SET_META_CONTEXT],
] as const;

function twoExports() {
  const plain = new MemoryDevice(MIB);
  plain.hasRegions = false;
  return [exportOf(new MemoryDevice(MIB), "data"), exportOf(plain, "plain")];
}

/** A client that has greeted, and taken these options. */
async function haggle(...options: number[]): Promise<RawClient> {
  const { client } = await serve(twoExports());
  const one = await client();
  await one.greet();
  for (const option of options) expect(final(await one.option(option))).toBe(REPLY.ACK);
  return one;
}

function final(replies: readonly OptionReply[]): number | undefined {
  return replies.at(-1)?.type;
}

/** Contexts by name, with the ids they were given. */
function contextsIn(replies: readonly OptionReply[]): [string, number][] {
  return replies
    .filter(({ type }) => type === REPLY.META_CONTEXT)
    .map(({ data }) => [data.toString("utf8", 4), data.readUInt32BE(0)]);
}

async function flagsOf(one: RawClient, option: number, name = "data"): Promise<number> {
  const replies = await one.option(option, encodeInfoData(name));
  expect(final(replies)).toBe(REPLY.ACK);
  return replies[0]?.data.readUInt16BE(10) ?? 0;
}

describe.each([
  ["STRUCTURED_REPLY", STRUCTURED_REPLY],
  ["EXTENDED_HEADERS", EXTENDED_HEADERS],
])("%s", (_, option) => {
  it("is acknowledged, and a second time is invalid", async () => {
    const one = await haggle(option);
    expect(final(await one.option(option))).toBe(ERROR_REPLY.INVALID);
    expect(final(await one.option(OPTION.LIST))).toBe(REPLY.ACK);
  });

  it.each([1, 70_000])("with %i bytes of data is invalid and changes nothing", async (bytes) => {
    const one = await haggle();
    expect(final(await one.option(option, Buffer.alloc(bytes)))).toBe(ERROR_REPLY.INVALID);
    expect((await flagsOf(one, OPTION.INFO)) & DF).toBe(0);
    expect(final(await one.option(option))).toBe(REPLY.ACK);
  });

  it("makes DF be offered, by INFO and GO alike", async () => {
    const one = await haggle();
    expect((await flagsOf(one, OPTION.INFO)) & DF).toBe(0);
    await one.option(option);
    expect((await flagsOf(one, OPTION.INFO)) & DF).toBe(DF);
    expect((await flagsOf(one, OPTION.GO)) & DF).toBe(DF);
  });
});

describe("EXTENDED_HEADERS", () => {
  it("may follow STRUCTURED_REPLY, which may not follow it", async () => {
    const one = await haggle(STRUCTURED_REPLY, EXTENDED_HEADERS);
    expect(final(await one.option(STRUCTURED_REPLY))).toBe(ERROR_REPLY.EXT_HEADER_REQD);
    expect(final(await one.option(OPTION.LIST))).toBe(REPLY.ACK);
  });

  it("keeps the contexts that were set before it", async () => {
    const one = await haggle(STRUCTURED_REPLY);
    await one.option(SET_META_CONTEXT, encodeMetaData("data", [ALLOCATION]));
    await one.option(EXTENDED_HEADERS);
    expect((await flagsOf(one, OPTION.GO)) & STATUS_PAYLOAD).toBe(STATUS_PAYLOAD);
  });

  it("excludes EXPORT_NAME", async () => {
    const one = await haggle(EXTENDED_HEADERS);
    one.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from("data")));
    await one.closed;
    await expect(one.receive(1)).rejects.toThrow("closed after 0");
  });

  it("offers the filter of BLOCK_STATUS only with contexts of the export", async () => {
    const one = await haggle(EXTENDED_HEADERS);
    expect((await flagsOf(one, OPTION.INFO)) & STATUS_PAYLOAD).toBe(0);
    await one.option(SET_META_CONTEXT, encodeMetaData("data", [ALLOCATION]));
    expect((await flagsOf(one, OPTION.INFO, "plain")) & STATUS_PAYLOAD).toBe(0);
    expect((await flagsOf(one, OPTION.INFO)) & STATUS_PAYLOAD).toBe(STATUS_PAYLOAD);
    expect((await flagsOf(one, OPTION.GO)) & STATUS_PAYLOAD).toBe(STATUS_PAYLOAD);
  });
});

it("EXPORT_NAME after STRUCTURED_REPLY offers DF and answers in chunks", async () => {
  const one = await haggle(STRUCTURED_REPLY);
  one.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from("data")));
  expect((await one.receive(10)).readUInt16BE(8) & DF).toBe(DF);
  one.request({ command: COMMAND.READ, length: 8 });
  expect((await one.receive(36)).readUInt32BE(0)).toBe(0x668e33ef);
});

describe("LIST_META_CONTEXT", () => {
  const cases: [what: string, queries: string[], names: string[]][] = [
    ["no queries", [], [ALLOCATION, REGIONS]],
    ["the wildcard of base", ["base:"], [ALLOCATION]],
    ["the wildcard of x-nbd-raid", ["x-nbd-raid:"], [REGIONS]],
    ["both by name", [REGIONS, ALLOCATION], [ALLOCATION, REGIONS]],
    ["one name twice", [ALLOCATION, ALLOCATION], [ALLOCATION]],
    ["an unknown leaf of base", ["base:nothing"], []],
    ["unknown namespaces", ["qemu:dirty-bitmap:x", "x-other:", "päper:x"], []],
    ["part of a name", ["base:alloc", "x-nbd-raid:regions:"], []],
  ];
  it.each(cases)("with %s", async (_, queries, names) => {
    const one = await haggle(STRUCTURED_REPLY);
    const replies = await one.option(LIST_META_CONTEXT, encodeMetaData("data", queries));
    expect(final(replies)).toBe(REPLY.ACK);
    expect(contextsIn(replies)).toEqual(names.map((name) => [name, 0]));
  });

  it("lists no regions of an export that has no bitmap", async () => {
    const one = await haggle(STRUCTURED_REPLY);
    const replies = await one.option(LIST_META_CONTEXT, encodeMetaData("plain", []));
    expect(contextsIn(replies)).toEqual([[ALLOCATION, 0]]);
  });

  it("selects nothing", async () => {
    const one = await haggle(EXTENDED_HEADERS);
    await one.option(LIST_META_CONTEXT, encodeMetaData("data", [ALLOCATION]));
    expect((await flagsOf(one, OPTION.GO)) & STATUS_PAYLOAD).toBe(0);
  });
});

describe("SET_META_CONTEXT", () => {
  it("selects what is named, each with an id of its own", async () => {
    const one = await haggle(STRUCTURED_REPLY);
    const queries = [REGIONS, "x-other:y", ALLOCATION, REGIONS];
    const replies = await one.option(SET_META_CONTEXT, encodeMetaData("data", queries));
    const contexts = contextsIn(replies);
    expect(contexts.map(([name]) => name).toSorted()).toEqual([ALLOCATION, REGIONS]);
    expect(new Set(contexts.map(([, id]) => id)).size).toBe(2);
    expect(final(replies)).toBe(REPLY.ACK);
  });

  it.each([[[]], [["base:"]], [["x-nbd-raid:"]], [["base:nothing"]], [["qemu:x"]]])(
    "with queries %o selects nothing, which is no error",
    async (queries) => {
      const one = await haggle(STRUCTURED_REPLY);
      const replies = await one.option(SET_META_CONTEXT, encodeMetaData("data", queries));
      expect(replies.map(({ type }) => type)).toEqual([REPLY.ACK]);
    },
  );

  const replacing: [what: string, data: Buffer][] = [
    ["a set of none", encodeMetaData("data", [])],
    ["one that fails for its form", Buffer.alloc(3)],
    ["one that fails for its export", encodeMetaData("nothing", [ALLOCATION])],
    ["one for another export", encodeMetaData("plain", [ALLOCATION])],
  ];
  it.each(replacing)("is replaced by %s", async (_, data) => {
    const one = await haggle(EXTENDED_HEADERS);
    await one.option(SET_META_CONTEXT, encodeMetaData("data", [ALLOCATION]));
    await one.option(SET_META_CONTEXT, data);
    expect((await flagsOf(one, OPTION.GO)) & STATUS_PAYLOAD).toBe(0);
  });

  it("of the empty name counts for the export it means", async () => {
    const { client } = await serve([exportOf(new MemoryDevice(MIB))]);
    const raw = await client();
    await raw.greet();
    await raw.option(STRUCTURED_REPLY);
    await raw.option(SET_META_CONTEXT, encodeMetaData("", [ALLOCATION]));
    await raw.option(OPTION.GO, encodeInfoData("data"));
    raw.request({ command: BLOCK_STATUS, length: 512 });
    expect((await raw.receive(20)).readUInt16BE(6)).toBe(CHUNK.STATUS);
  });
});

describe.each(META_OPTIONS)("%s", (_, option) => {
  it("before structured replies is invalid, and haggling goes on", async () => {
    const one = await haggle();
    const replies = await one.option(option, encodeMetaData("data", [ALLOCATION]));
    expect(replies.map(({ type }) => type)).toEqual([ERROR_REPLY.INVALID]);
    expect(final(await one.option(STRUCTURED_REPLY))).toBe(REPLY.ACK);
  });

  it("with extended headers alone is served", async () => {
    const one = await haggle(EXTENDED_HEADERS);
    const replies = await one.option(option, encodeMetaData("data", [ALLOCATION]));
    expect(contextsIn(replies).length).toBe(1);
  });

  const whole = encodeMetaData("data", [ALLOCATION, REGIONS]);
  const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
  const malformed: [what: string, data: Buffer, error: number][] = [
    ["no data", Buffer.alloc(0), ERROR_REPLY.INVALID],
    ["a name length of 2^32-1", hex("ffffffff 64617461 00000000"), ERROR_REPLY.INVALID],
    ["no count", hex("00000004 64617461"), ERROR_REPLY.INVALID],
    ["a query more than sent", hex("00000004 64617461 00000001"), ERROR_REPLY.INVALID],
    ["2^32-1 queries", hex("00000004 64617461 ffffffff 00000000"), ERROR_REPLY.INVALID],
    [
      "a query that overruns",
      hex("00000004 64617461 00000001 00000005 62617365"),
      ERROR_REPLY.INVALID,
    ],
    ["a query of 2^32-1 bytes", hex("00000000 00000001 ffffffff 626173"), ERROR_REPLY.INVALID],
    ["a byte too many", Buffer.concat([whole, Buffer.alloc(1)]), ERROR_REPLY.INVALID],
    ["a byte too few", whole.subarray(0, -1), ERROR_REPLY.INVALID],
    ["a query without a colon", encodeMetaData("data", ["base"]), ERROR_REPLY.INVALID],
    ["a query without a namespace", encodeMetaData("data", [":x"]), ERROR_REPLY.INVALID],
    ["an empty query", encodeMetaData("data", [""]), ERROR_REPLY.INVALID],
    ["a NUL in a query", encodeMetaData("data", ["base:\0"]), ERROR_REPLY.INVALID],
    ["a NUL in the name", encodeMetaData("da\0ta", []), ERROR_REPLY.INVALID],
    [
      "a query of 5000 bytes",
      encodeMetaData("data", ["x:".padEnd(5000, "y")]),
      ERROR_REPLY.INVALID,
    ],
    ["a name of 5000 bytes", encodeMetaData("x".repeat(5000), []), ERROR_REPLY.INVALID],
    ["an unknown export", encodeMetaData("nothing", [ALLOCATION]), ERROR_REPLY.UNKNOWN],
    ["a name of 4096 bytes", encodeMetaData("x".repeat(4096), []), ERROR_REPLY.UNKNOWN],
    [
      "a million queries",
      encodeMetaData("data", Array<string>(1e6).fill("a:")),
      ERROR_REPLY.TOO_BIG,
    ],
  ];
  it.each(malformed)("with %s is refused, and haggling goes on", async (_, data, error) => {
    const one = await haggle(STRUCTURED_REPLY);
    const replies = await one.option(option, data);
    expect(replies.map(({ type }) => type)).toEqual([error]);
    expect(replies[0]?.data.length).toBeLessThan(400);
    expect(final(await one.option(option, whole))).toBe(REPLY.ACK);
  });
});

describe.each(MODES)("BLOCK_STATUS with %s headers", (mode) => {
  async function connected(contexts = [ALLOCATION, REGIONS], device = new MemoryDevice(8 * MIB)) {
    const { client } = await serve([exportOf(device)]);
    const one = await ChunkClient.negotiate(await client(), mode, contexts);
    const status = async (
      name: string,
      fields: { offset?: number; length: number; flags?: number },
    ) => {
      const reply = await one.exchange({ command: BLOCK_STATUS, ...fields });
      return reply.statuses.get(one.contexts.get(name) ?? -1);
    };
    return { device, one, status };
  }

  it("tells holes and data from the offset on, in extents that end with the range", async () => {
    const { device, status } = await connected();
    device.bytes.fill(1, 3 * MIB, 5 * MIB);
    expect(await status(ALLOCATION, { offset: MIB, length: 6 * MIB })).toEqual([
      { length: 2 * MIB, flags: 3 },
      { length: 2 * MIB, flags: 0 },
      { length: 2 * MIB, flags: 3 },
    ]);
    expect(await status(ALLOCATION, { offset: 3 * MIB - 1, length: 2 })).toEqual([
      { length: 1, flags: 3 },
      { length: 1, flags: 0 },
    ]);
  });

  it("answers for each context that is selected, in one reply", async () => {
    const { one } = await connected();
    const reply = await one.exchange({ command: BLOCK_STATUS, length: 3 * MIB });
    expect(reply.statuses.size).toBe(2);
    expect(reply.statuses.get(one.contexts.get(REGIONS) ?? -1)).toEqual([
      { length: MIB, flags: 0 },
      { length: MIB, flags: 1 },
      { length: MIB, flags: 2 },
    ]);
  });

  it("answers for a single context with a single chunk", async () => {
    const { one } = await connected([REGIONS]);
    const reply = await one.exchange({ command: BLOCK_STATUS, length: 512 });
    expect(reply.types.length).toBe(1);
  });

  it("with REQ_ONE tells one extent, no longer than was asked", async () => {
    const { device, one } = await connected();
    device.bytes.fill(1, 0, 4096);
    const reply = await one.exchange({ command: BLOCK_STATUS, flags: REQ_ONE, length: 100_000 });
    expect([...reply.statuses.values()]).toEqual([
      [{ length: 4096, flags: 0 }],
      [{ length: 100_000, flags: 0 }],
    ]);
    const short = await one.exchange({ command: BLOCK_STATUS, flags: REQ_ONE | FUA, length: 7 });
    expect([...short.statuses.values()].flat().map(({ length }) => length)).toEqual([7, 7]);
  });

  it("tells a bounded number of extents, and the client asks again", async () => {
    const device = new MemoryDevice(64 * MIB);
    for (let at = 0; at < 64 * MIB; at += 8192) device.bytes[at] = 1;
    const { status } = await connected([ALLOCATION], device);
    let offset = 0;
    let extents = 0;
    while (offset < 64 * MIB) {
      const found = (await status(ALLOCATION, { offset, length: 64 * MIB - offset })) ?? [];
      expect(found.length).toBeLessThanOrEqual(4096);
      extents += found.length;
      for (const { length } of found) offset += length;
    }
    expect([offset, extents]).toEqual([64 * MIB, 16_384]);
  });

  it.each([
    ["of no bytes", 0, 0],
    ["past the end", 8 * MIB, 1],
    ["across the end", 8 * MIB - 1, 2],
    ["of 4 GiB", 0, 2 ** 32 - 1],
  ])("%s is EINVAL with a text", async (_, offset, length) => {
    const { one } = await connected();
    const reply = await one.exchange({ command: BLOCK_STATUS, offset, length });
    expect(reply.types).toEqual([CHUNK.ERROR]);
    expect(reply.errno).toBe(EINVAL);
    expect(reply.errors[0]?.text).toContain("BLOCK_STATUS");
  });

  it("of what the device cannot tell is its error, and the connection lives", async () => {
    const { device, one } = await connected();
    device.gate = () => Promise.reject(new NbdRaidError("io-error", "no idea"));
    expect((await one.exchange({ command: BLOCK_STATUS, length: 512 })).errno).toBe(EIO);
    device.gate = null;
    expect((await one.exchange({ command: BLOCK_STATUS, length: 512 })).errno).toBe(0);
  });

  it("many at once, among reads, are each answered", async () => {
    const { device, one } = await connected();
    device.gate = () => sleep(1);
    const cookies = Array.from({ length: 60 }, (_, i) =>
      i % 2 === 0
        ? one.request({ command: BLOCK_STATUS, offset: i * 4096, length: 4096 })
        : one.request({ command: COMMAND.READ, offset: i * 4096, length: 4096 }),
    );
    for (const cookie of cookies) expect((await one.reply(cookie)).errno).toBe(0);
  });

  const without: [what: string, contexts: string[], name: string][] = [
    ["no context", [], "data"],
    ["only unknown contexts", ["base:nothing"], "data"],
  ];
  it.each(without)("with %s is EINVAL", async (_, contexts) => {
    const { one } = await connected(contexts);
    const reply = await one.exchange({ command: BLOCK_STATUS, length: 512 });
    expect(reply.errno).toBe(EINVAL);
    expect(reply.errors[0]?.text).toContain("metadata context");
  });

  it("for another export than the one the contexts were set for is EINVAL", async () => {
    const { client } = await serve(twoExports());
    const raw = await client();
    const option = mode === "extended" ? EXTENDED_HEADERS : STRUCTURED_REPLY;
    await raw.greet();
    await raw.option(option);
    await raw.option(SET_META_CONTEXT, encodeMetaData("plain", [ALLOCATION]));
    await raw.option(OPTION.GO, encodeInfoData("data"));
    const header = mode === "extended" ? 32 : 28;
    const request = Buffer.alloc(header);
    request.writeUInt32BE(mode === "extended" ? 0x21e41c71 : 0x25609513);
    request.writeUInt16BE(BLOCK_STATUS, 6);
    request[header - 1] = 1;
    raw.send(request);
    const reply = await raw.receive((mode === "extended" ? 32 : 20) + 4);
    expect(reply.readUInt16BE(6)).toBe(CHUNK.ERROR);
    expect(reply.readUInt32BE(reply.length - 4)).toBe(EINVAL);
  });
});

it("BLOCK_STATUS without structured replies is EINVAL", async () => {
  const { client } = await serve(twoExports());
  const one = await client("data");
  expect((await one.exchange({ command: BLOCK_STATUS, length: 512 })).error).toBe(EINVAL);
});
