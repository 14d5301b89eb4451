/** Requests with extended headers: 64-bit lengths, payloads by flag, and the filter of contexts. */
import { describe, expect, it } from "vitest";
import type { Extent } from "../../src/nbd/block-device.ts";
import { ChunkClient, encodeExtendedRequest } from "./chunk-client.ts";
import { COMMAND, encodeRequest, FAST_ZERO, FUA, NO_HOLE, PAYLOAD_LEN, REQ_ONE } from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve } from "./serving.ts";

const MIB = 2 ** 20;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = COMMAND;
const EPERM = 1;
const EINVAL = 22;
const ENOSPC = 28;
const CONTEXTS = ["base:allocation", "x-nbd-raid:regions"];

async function connected(device = new MemoryDevice(MIB), contexts: readonly string[] = CONTEXTS) {
  const { client } = await serve([exportOf(device)]);
  const one = await ChunkClient.negotiate(await client(), "extended", contexts);
  return { device, one };
}

/** A device that claims a size that no memory has, and notes what it is asked. */
class HugeDevice extends MemoryDevice {
  override get sizeBytes(): number {
    return 2 ** 50;
  }

  override async zero(offset: number, length: number, allocate: boolean, fua: boolean) {
    await Promise.resolve();
    this.calls.push({ name: "zero", offset, length, allocate, fua });
  }

  override async extents(_offset: number, length: number): Promise<Extent[]> {
    await Promise.resolve();
    return [{ length, hole: true, zero: true }];
  }
}

describe("extended headers", () => {
  it("echo cookie and offset in every reply, whatever they are", async () => {
    const { one } = await connected();
    const far = 2n ** 64n - 2n ** 33n + 5n;
    for (const cookie of [0n, 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      const refused = await one.exchange({ command: READ, offset: far, length: 1, cookie });
      expect(refused).toMatchObject({ cookie, errno: EINVAL });
      expect(
        await one.exchange({ command: TRIM, offset: 4096, length: 512, cookie }),
      ).toMatchObject({
        cookie,
        errno: 0,
      });
    }
  });

  it("carry the payload of a WRITE, and a READ returns it", async () => {
    const { device, one } = await connected();
    const payload = Buffer.from("extended");
    await one.exchange({ command: WRITE, flags: FUA, offset: 77, payload });
    expect(device.calls[0]).toMatchObject({ name: "write", offset: 77, fua: true });
    expect(await one.read(77, 8)).toEqual(payload);
  });

  it.each([
    ["TRIM", TRIM, "trim"],
    ["WRITE_ZEROES", WRITE_ZEROES, "zero"],
    ["CACHE", CACHE, "cache"],
  ])("%s of more than 4 GiB reaches the device whole", async (_, command, name) => {
    const device = new HugeDevice(0);
    const { one } = await connected(device);
    const [offset, length] = [2 ** 40 + 512, 2 ** 49 + 1024];
    expect((await one.exchange({ command, offset, length })).errno).toBe(0);
    expect(device.calls).toEqual([expect.objectContaining({ name, offset, length })]);
  });

  it("BLOCK_STATUS of more than 4 GiB is told in one extent of 64 bits", async () => {
    const { one } = await connected(new HugeDevice(0), ["base:allocation"]);
    const reply = await one.exchange({ command: BLOCK_STATUS, offset: 512, length: 2 ** 48 });
    expect([...reply.statuses.values()]).toEqual([[{ length: 2 ** 48, flags: 3 }]]);
  });

  const refused: [what: string, fields: object, errno: number][] = [
    ["WRITE without PAYLOAD_LEN", { command: WRITE, length: 512 }, EINVAL],
    ["TRIM of 2^63 bytes", { command: TRIM, length: 2n ** 63n }, EINVAL],
    [
      "TRIM of 2^64-1 bytes at 2^64-1",
      { command: TRIM, offset: 2n ** 64n - 1n, length: 2n ** 64n - 1n },
      EINVAL,
    ],
    ["WRITE_ZEROES of 2^32-1 bytes", { command: WRITE_ZEROES, length: 2 ** 32 - 1 }, ENOSPC],
    ["WRITE_ZEROES of 2^63 bytes", { command: WRITE_ZEROES, length: 2n ** 63n }, ENOSPC],
    ["CACHE across the end", { command: CACHE, offset: 512, length: MIB }, EINVAL],
    ["READ of 2^64-1 bytes", { command: READ, length: 2n ** 64n - 1n }, EINVAL],
    ["BLOCK_STATUS of 2^63 bytes", { command: BLOCK_STATUS, length: 2n ** 63n }, EINVAL],
    ["an unknown command", { command: 0x77, length: 2n ** 40n }, EINVAL],
    ["RESIZE", { command: 8, offset: 4096 }, EINVAL],
  ];
  it.each(refused)("%s is refused, and the next request is served", async (_, fields, errno) => {
    const { device, one } = await connected();
    const cookie = one.request({ command: READ, ...fields });
    expect((await one.reply(cookie)).errno).toBe(errno);
    expect(device.calls).toEqual([]);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it.each([
    ["READ", READ],
    ["FLUSH", FLUSH],
    ["TRIM", TRIM],
    ["CACHE", CACHE],
    ["WRITE_ZEROES", WRITE_ZEROES],
    ["an unknown command", 99],
  ])("a payload with %s is consumed, then EINVAL", async (_, command) => {
    const { device, one } = await connected();
    const reply = await one.exchange({ command, payload: Buffer.alloc(100_000, 0x25) });
    expect(reply.errno).toBe(EINVAL);
    expect(device.calls).toEqual([]);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it("a payload on a read-only export is consumed, then EPERM", async () => {
    const { one } = await connected(new MemoryDevice(MIB, { readOnly: true }));
    const payload = Buffer.alloc(100_000, 0x25);
    expect((await one.exchange({ command: WRITE, payload })).errno).toBe(EPERM);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it.each([
    [
      "of a payload longer than the largest",
      { command: WRITE, flags: PAYLOAD_LEN, length: 32 * MIB + 1 },
    ],
    ["of a payload of 2^63 bytes", { command: READ, flags: PAYLOAD_LEN, length: 2n ** 63n }],
    ["with another magic", { command: READ, magic: 0x25609513 }],
    ["to disconnect", { command: DISC }],
  ])("a request %s ends the connection", async (_, fields) => {
    const { one } = await connected();
    one.raw.send(encodeExtendedRequest(fields));
    await one.raw.closed;
    await expect(one.raw.receive(1)).rejects.toThrow("closed after 0");
  });

  it("a compact request in their place ends the connection", async () => {
    const { one } = await connected();
    one.raw.send(encodeRequest({ command: READ, length: 512 }));
    one.raw.send(Buffer.alloc(4));
    await one.raw.closed;
  });

  it("a payload of 32 MiB goes through", async () => {
    const { device, one } = await connected(new MemoryDevice(33 * MIB));
    const payload = Buffer.alloc(32 * MIB, "0123456789");
    await one.write(MIB, payload);
    expect(device.bytes.subarray(MIB).equals(payload)).toBe(true);
  });
});

describe("the filter of BLOCK_STATUS", () => {
  function filter(length: number | bigint, ids: readonly number[]): Buffer {
    const payload = Buffer.alloc(8 + 4 * ids.length);
    payload.writeBigUInt64BE(BigInt(length));
    ids.forEach((id, i) => payload.writeUInt32BE(id, 8 + 4 * i));
    return payload;
  }

  it("is offered", async () => {
    const { one } = await connected();
    expect(one.flags & (1 << 12)).not.toBe(0);
  });

  it("limits the reply to the contexts it names, and has the length it asks about", async () => {
    const { one } = await connected();
    const ids = CONTEXTS.map((name) => one.contexts.get(name) ?? -1);
    for (const wanted of [[ids[0]!], [ids[1]!], ids, ids.toReversed()]) {
      const payload = filter(8192, wanted);
      const reply = await one.exchange({ command: BLOCK_STATUS, flags: REQ_ONE, payload });
      expect([...reply.statuses.keys()].toSorted()).toEqual(wanted.toSorted());
      for (const extents of reply.statuses.values()) expect(extents[0]?.length).toBe(8192);
    }
  });

  const broken: [what: string, payload: (ids: number[]) => Buffer][] = [
    ["a context twice", ([id = 0]) => filter(512, [id, id])],
    ["an unknown context", () => filter(512, [0x7fffffff])],
    ["an unknown context beside a known one", ([id = 0]) => filter(512, [id, 0])],
    ["more contexts than there are", ([a = 0, b = 0]) => filter(512, [a, b, a])],
    ["no context", () => filter(512, [])],
    ["7 bytes", () => Buffer.alloc(7)],
    ["13 bytes", ([id = 0]) => Buffer.concat([filter(512, [id]), Buffer.alloc(1)])],
    ["a megabyte", () => Buffer.alloc(MIB)],
    ["a range beyond the end", ([id = 0]) => filter(MIB + 1, [id])],
    ["a range of 2^64-1 bytes", ([id = 0]) => filter(2n ** 64n - 1n, [id])],
    ["a range of no bytes", ([id = 0]) => filter(0, [id])],
  ];
  it.each(broken)("with %s is consumed, then EINVAL", async (_, payload) => {
    const { one } = await connected();
    const ids = CONTEXTS.map((name) => one.contexts.get(name) ?? -1);
    const reply = await one.exchange({ command: BLOCK_STATUS, payload: payload(ids) });
    expect(reply.errno).toBe(EINVAL);
    expect((await one.exchange({ command: BLOCK_STATUS, length: 512 })).errno).toBe(0);
  });

  it("without contexts is EINVAL, too", async () => {
    const { one } = await connected(new MemoryDevice(MIB), []);
    expect(one.flags & (1 << 12)).toBe(0);
    const reply = await one.exchange({ command: BLOCK_STATUS, payload: filter(512, [1]) });
    expect(reply.errno).toBe(EINVAL);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });
});

describe.each(["structured", "extended"] as const)("FAST_ZERO with %s headers", (mode) => {
  it("zeroes where that is fast, and is ENOTSUP with nothing changed where it is not", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)]);
    const one = await ChunkClient.negotiate(await client(), mode);
    expect(one.flags & (1 << 11)).not.toBe(0);
    device.bytes.fill(1);
    const zero = { command: WRITE_ZEROES, length: 65_536 };
    const slow = await one.exchange({ ...zero, flags: FAST_ZERO | NO_HOLE });
    expect(slow.errors).toMatchObject([{ errno: 95 }]);
    expect(device.calls).toEqual([]);
    expect((await one.exchange({ ...zero, flags: FAST_ZERO })).errno).toBe(0);
    expect((await one.exchange({ ...zero, offset: 65_536, flags: NO_HOLE })).errno).toBe(0);
    expect(device.bytes.indexOf(1)).toBe(131_072);
  });
});
