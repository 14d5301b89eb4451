/** Requests and replies over a real socket: each command, in and out of order, whole and torn. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  FUA,
  NO_HOLE,
  OPTION,
  type RequestFields,
} from "./client.ts";
import { MemoryDevice, type Call } from "./memory-device.ts";
import { exportOf, serve, until } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES } = COMMAND;
const EPERM = 1;
const EIO = 5;
const EINVAL = 22;
const ENOSPC = 28;
const EOVERFLOW = 75;

async function connected(device = new MemoryDevice(MIB)) {
  const { client } = await serve([exportOf(device)]);
  return { device, one: await client("data") };
}

/** Gates are opened one by one, in whatever order a test wants. */
function gated(device: MemoryDevice) {
  const waiting: { call: Call; open: () => void }[] = [];
  device.gate = (call) => new Promise((open) => waiting.push({ call, open }));
  return waiting;
}

/** Bytes that differ from place to place. */
function pattern(length: number): Buffer {
  return Buffer.from(
    Uint32Array.from({ length: Math.ceil(length / 4) }, (_, i) => i * 2654435761).buffer,
  ).subarray(0, length);
}

describe.each([
  ["at once", false],
  ["later", true],
])("a device that answers %s", (_, later) => {
  function device(sizeBytes = MIB): MemoryDevice {
    const made = new MemoryDevice(sizeBytes);
    if (later) made.gate = () => sleep(1);
    return made;
  }

  it("READ returns what WRITE wrote, at any offset and length", async () => {
    const { one } = await connected(device());
    const payload = pattern(3001);
    await one.write(4099, payload);
    expect(await one.read(4099, 3001)).toEqual(payload);
    expect(await one.read(4098, 3)).toEqual(Buffer.from([0, payload[0]!, payload[1]!]));
    expect(await one.read(MIB - 1, 1)).toEqual(Buffer.alloc(1));
  });

  it("payloads of 32 MiB go through", async () => {
    const { one } = await connected(device(33 * MIB));
    const payload = pattern(32 * MIB);
    await one.write(MIB, payload);
    expect((await one.read(MIB, 32 * MIB)).equals(payload)).toBe(true);
  });

  it("a hundred mixed requests sent at once are each answered with their cookie", async () => {
    const { one } = await connected(device());
    const pieces = Array.from({ length: 50 }, (_, i) => pattern(1000 + i).fill(i + 1, 0, 10));
    const writes = pieces.map((payload, i) =>
      one.request({ command: WRITE, offset: i * 2000, payload, cookie: BigInt(i) << 40n }),
    );
    for (const cookie of writes) expect((await one.reply(cookie)).error).toBe(0);
    const reads = pieces.map(({ length }, i) =>
      one.request({ command: READ, offset: i * 2000, length }),
    );
    for (const [i, cookie] of reads.entries()) {
      expect((await one.reply(cookie)).data).toEqual(pieces[i]);
    }
  });

  const others: [command: number, flags: number, call: Partial<Call>][] = [
    [WRITE, 0, { name: "write", offset: 4096, length: 512, fua: false }],
    [WRITE, FUA, { name: "write", offset: 4096, length: 512, fua: true }],
    [FLUSH, 0, { name: "flush" }],
    [FLUSH, FUA, { name: "flush" }],
    [TRIM, 0, { name: "trim", offset: 4096, length: 512, fua: false }],
    [TRIM, FUA, { name: "trim", offset: 4096, length: 512, fua: true }],
    [CACHE, FUA, { name: "cache", offset: 4096, length: 512 }],
    [WRITE_ZEROES, 0, { name: "zero", offset: 4096, length: 512, allocate: false, fua: false }],
    [WRITE_ZEROES, NO_HOLE, { name: "zero", allocate: true, fua: false }],
    [WRITE_ZEROES, NO_HOLE | FUA, { name: "zero", allocate: true, fua: true }],
  ];
  it.each(others)("command %i with flags %i reaches it as %o", async (command, flags, call) => {
    const { device: made, one } = await connected(device());
    const range = command === WRITE ? { payload: Buffer.alloc(512) } : { length: 512 };
    const { error } = await one.exchange({ command, flags, offset: 4096, ...range });
    expect(error).toBe(0);
    expect(made.calls).toEqual([expect.objectContaining(call)]);
  });

  it.each([READ, WRITE, TRIM, CACHE, WRITE_ZEROES])(
    "command %i of no bytes succeeds, also at the very end",
    async (command) => {
      const { device: made, one } = await connected(device());
      expect((await one.exchange({ command, offset: MIB, length: 0 })).error).toBe(0);
      expect(made.calls).toEqual([]);
    },
  );
});

describe("requests that are refused", () => {
  const cases: [what: string, fields: RequestFields, error: number][] = [
    ["READ past the end", { command: READ, offset: MIB - 1, length: 2 }, EINVAL],
    ["READ at 2^64-1", { command: READ, offset: 2n ** 64n - 1n, length: 1 }, EINVAL],
    ["READ of 4 GiB", { command: READ, length: 2 ** 32 - 1 }, EINVAL],
    ["WRITE past the end", { command: WRITE, offset: MIB - 1, payload: pattern(2) }, ENOSPC],
    ["WRITE at 2^64-8", { command: WRITE, offset: 2n ** 64n - 8n, payload: pattern(8) }, ENOSPC],
    ["WRITE of 33 MiB", { command: WRITE, payload: Buffer.alloc(33 * MIB) }, ENOSPC],
    ["WRITE with an unknown flag", { command: WRITE, flags: 8, payload: pattern(99) }, EINVAL],
    ["WRITE_ZEROES past the end", { command: WRITE_ZEROES, length: MIB + 1 }, ENOSPC],
    ["TRIM past the end", { command: TRIM, offset: MIB, length: 1 }, EINVAL],
    ["an unknown command", { command: 0x77, length: 100 }, EINVAL],
    ["an unknown flag", { command: READ, flags: 0x8000, length: 1 }, EINVAL],
  ];
  it.each(cases)("%s gets its error, and the next request is served", async (_, fields, error) => {
    const { device, one } = await connected();
    expect(await one.exchange(fields)).toMatchObject({ error, data: Buffer.alloc(0) });
    expect(device.calls).toEqual([]);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it("too long a READ or WRITE inside a large export, too", async () => {
    const { one } = await connected(new MemoryDevice(70 * MIB));
    const read = await one.exchange({ command: READ, length: 32 * MIB + 1 });
    expect(read.error).toBe(EOVERFLOW);
    const write = await one.exchange({ command: WRITE, payload: Buffer.alloc(64 * MIB) });
    expect(write.error).toBe(EINVAL);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it("writes of any kind on a read-only export get EPERM", async () => {
    const { one } = await connected(new MemoryDevice(MIB, { readOnly: true }));
    for (const command of [WRITE, TRIM, WRITE_ZEROES]) {
      const payload = command === WRITE ? { payload: pattern(512) } : { length: 512 };
      expect((await one.exchange({ command, ...payload })).error).toBe(EPERM);
    }
    expect((await one.exchange({ command: FLUSH })).error).toBe(0);
  });

  it("the payload of a refused WRITE is not held in memory", () => {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))]);
    negotiate(harness);
    harness.feed(encodeRequest({ command: WRITE, payload: Buffer.alloc(30 * MIB) }));
    expect(harness.session.heldBytes).toBeLessThan(2 * MIB);
    expect(harness.sent.readUInt32BE(harness.sent.length - 12)).toBe(ENOSPC);
  });

  it("a refused WRITE is answered once its payload has come, not before", () => {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))]);
    negotiate(harness);
    const request = encodeRequest({ command: WRITE, payload: Buffer.alloc(4 * MIB) });
    const sentBefore = harness.sent.length;
    harness.feed(request.subarray(0, 2 * MIB));
    expect(harness.sent.length).toBe(sentBefore);
    harness.feed(request.subarray(2 * MIB));
    expect(harness.sent.readUInt32BE(sentBefore + 4)).toBe(ENOSPC);
  });

  it.each([
    ["a WRITE of more than 64 MiB", encodeRequest({ command: WRITE, length: 64 * MIB + 1 })],
    ["a bad magic", encodeRequest({ command: READ, magic: 0x25609514 })],
  ])("%s ends the connection after what is pending is answered", async (_, bytes) => {
    const { device, one } = await connected();
    const waiting = gated(device);
    const pending = one.request({ command: READ, length: 512 });
    one.send(bytes);
    await until(() => waiting.length === 1);
    waiting[0]?.open();
    expect((await one.reply(pending)).error).toBe(0);
    await one.closed;
  });
});

describe("errors of the device", () => {
  it.each([
    ["of its own", new Error("broken"), EIO],
    ["no space", new NbdRaidError("no-space", "full"), ENOSPC],
    ["read-only", new NbdRaidError("read-only", "no"), EPERM],
  ])("%s become the reply's error, on every command", async (_, error, errno) => {
    const { device, one } = await connected();
    device.gate = () => Promise.reject(error);
    for (const command of [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
      expect(await one.exchange({ command, length: 512 })).toMatchObject({ error: errno });
    }
    const write = await one.exchange({ command: WRITE, payload: pattern(512) });
    expect(write.error).toBe(errno);
    device.gate = null;
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });
});

describe("order", () => {
  it("replies leave in the order the device finishes, not in the order of requests", async () => {
    const { device, one } = await connected();
    pattern(16 * 512).copy(device.bytes);
    const waiting = gated(device);
    const cookies = Array.from({ length: 16 }, (_, i) =>
      one.request({ command: READ, offset: i * 512, length: 512 }),
    );
    await until(() => waiting.length === 16);
    for (const { open } of waiting.toReversed()) {
      open();
      await sleep(1);
    }
    for (const [i, cookie] of [...cookies.entries()].toReversed()) {
      const reply = await one.nextReply();
      expect(reply.cookie).toBe(cookie);
      expect(reply.data).toEqual(device.bytes.subarray(i * 512, (i + 1) * 512));
    }
  });

  it("what is done at once overtakes what takes time", async () => {
    const { device, one } = await connected();
    const waiting = gated(device);
    const slow = one.request({ command: WRITE, payload: pattern(4096) });
    await until(() => waiting.length === 1);
    device.gate = null;
    await one.read(0, 512);
    waiting[0]?.open();
    expect((await one.reply(slow)).error).toBe(0);
    expect(device.bytes.subarray(0, 4096)).toEqual(pattern(4096));
  });

  it("payloads of pending WRITEs stay as they came while many more requests arrive", async () => {
    const { device, one } = await connected(new MemoryDevice(16 * MIB));
    const waiting = gated(device);
    const payloads = Array.from({ length: 20 }, (_, i) => Buffer.alloc(70 * KIB, i + 1));
    const cookies = payloads.map((payload, i) =>
      one.request({ command: WRITE, offset: i * 70 * KIB, payload }),
    );
    await until(() => waiting.length === 20);
    device.gate = null;
    for (let i = 0; i < 40; i++) await one.write(15 * MIB, Buffer.alloc(100 * KIB, 0xff));
    for (const { open } of waiting) open();
    for (const cookie of cookies) expect((await one.reply(cookie)).error).toBe(0);
    for (const [i, payload] of payloads.entries()) {
      expect((await one.read(i * 70 * KIB, 70 * KIB)).equals(payload)).toBe(true);
    }
  });
});

describe("the end", () => {
  it.each([
    ["DISC", 0, 0],
    ["DISC with flags and a range that mean nothing", 0xffff, 2 ** 32 - 1],
  ])("%s: pending requests are finished and answered, then it closes", async (_, flags, length) => {
    const { device, one } = await connected();
    const waiting = gated(device);
    const cookies = [0, 1, 2, 3].map((i) =>
      one.request({ command: i % 2 === 0 ? READ : FLUSH, length: 512 }),
    );
    one.send(encodeRequest({ command: DISC, flags, length, offset: length }));
    one.send(encodeRequest({ command: READ, length: 512, cookie: 99n }));
    await until(() => waiting.length === 4);
    for (const { open } of waiting) open();
    for (const cookie of cookies) expect((await one.reply(cookie)).error).toBe(0);
    await expect(one.nextReply()).rejects.toThrow("closed after 0");
    expect(device.calls.length).toBe(4);
  });

  it("half-close: pending requests are finished and answered, then it closes", async () => {
    const { device, one } = await connected();
    const waiting = gated(device);
    const cookies = Array.from({ length: 8 }, () => one.request({ command: READ, length: 512 }));
    one.end();
    await until(() => waiting.length === 8);
    for (const { open } of waiting) open();
    for (const cookie of cookies) expect((await one.reply(cookie)).error).toBe(0);
    await one.closed;
  });

  it("half-close before pipelined requests were all parsed: every one is answered", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)], { limits: { requestsInFlight: 4 } });
    const one = await client("data");
    device.gate = () => sleep(1);
    const cookies = Array.from({ length: 100 }, () => one.request({ command: READ, length: 512 }));
    one.end();
    for (const cookie of cookies) expect((await one.reply(cookie)).error).toBe(0);
    await one.closed;
  });

  it.each(["ends", "vanishes"])(
    "a WRITE whose payload is torn (the client %s) is not applied",
    async (how) => {
      const device = new MemoryDevice(4 * MIB);
      const { client, server } = await serve([exportOf(device)]);
      const one = await client("data");
      const request = encodeRequest({ command: WRITE, payload: Buffer.alloc(2 * MIB, 1) });
      await one.write(3 * MIB, Buffer.alloc(512, 1));
      await new Promise<void>((sent) => one.socket.write(request.subarray(0, -1), () => sent()));
      await until(() => one.socket.writableLength === 0);
      if (how === "ends") one.end();
      else one.destroy();
      await until(() => server.connections().length === 0);
      expect(device.calls.length).toBe(1);
      expect(device.bytes.subarray(0, 2 * MIB).every((byte) => byte === 0)).toBe(true);
    },
  );
});

describe("limits", () => {
  it("a client that does not read its replies stops being read, and memory stays bounded", () => {
    const device = new MemoryDevice(MIB);
    const harness = new SessionHarness([exportOf(device)], { bytesInFlight: 4 * MIB });
    negotiate(harness);
    harness.reading = false;
    const request = encodeRequest({ command: READ, length: 64 * KIB });
    const flood = Buffer.concat(Array.from({ length: 50_000 }, () => request));
    const rest = harness.feed(flood);
    expect(harness.paused).toBe(true);
    expect(rest.length).toBeGreaterThan(0);
    expect(harness.session.heldBytes).toBeLessThan(6 * MIB);
  });

  it("once it reads, all is answered", () => {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))], {
      bytesInFlight: 2 * MIB,
    });
    const before = negotiate(harness);
    harness.reading = false;
    const count = 5000;
    const request = encodeRequest({ command: READ, length: 4 * KIB });
    let rest: Uint8Array = Buffer.concat(Array.from({ length: count }, () => request));
    while (rest.length > 0) {
      rest = harness.feed(rest);
      harness.reading = true;
      harness.confirm();
      harness.reading = false;
    }
    harness.reading = true;
    harness.confirm();
    expect(harness.sent.length - before).toBe(count * (16 + 4 * KIB));
    expect(harness.session.heldBytes).toBeLessThan(2 * MIB);
  });

  it("what was received before the end of input is answered, also if a limit held it back", () => {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))], {
      bytesInFlight: 2 * MIB,
    });
    const before = negotiate(harness);
    harness.reading = false;
    const request = encodeRequest({ command: READ, length: 64 * KIB });
    harness.read(Buffer.concat(Array.from({ length: 100 }, () => request)));
    expect(harness.paused).toBe(true);
    harness.session.inputEnded();
    harness.reading = true;
    harness.confirm();
    expect(harness.sent.length - before).toBe(100 * (16 + 64 * KIB));
    expect(harness.ended).toBe("end of input");
  });

  it("no more requests are with the device than allowed", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)], { limits: { requestsInFlight: 8 } });
    const one = await client("data");
    let most = 0;
    let now = 0;
    device.gate = async () => {
      most = Math.max(most, ++now);
      await sleep(1);
      now--;
    };
    const cookies = Array.from({ length: 100 }, () => one.request({ command: READ, length: 512 }));
    for (const cookie of cookies) await one.reply(cookie);
    expect(most).toBe(8);
  });

  it("requests larger than the byte limit are served one at a time", async () => {
    const device = new MemoryDevice(8 * MIB);
    const { client } = await serve([exportOf(device)], { limits: { bytesInFlight: MIB } });
    const one = await client("data");
    const payload = pattern(6 * MIB);
    const writes = [0, 1, 2].map((i) => one.request({ command: WRITE, offset: i * MIB, payload }));
    for (const cookie of writes) expect((await one.reply(cookie)).error).toBe(0);
    const reads = [0, 1, 2].map(() =>
      one.request({ command: READ, offset: 2 * MIB, length: 6 * MIB }),
    );
    for (const cookie of reads) expect((await one.reply(cookie)).data.equals(payload)).toBe(true);
  });
});

/** Takes a harness to transmission; returns how many bytes it has sent by then. */
function negotiate(harness: SessionHarness): number {
  harness.feed(Buffer.concat([encodeFlags(3), encodeOption(OPTION.GO, encodeInfoData("data"))]));
  return harness.sent.length;
}
