/**
 * READ with structured replies and with extended headers: data, holes, both, and what cannot be
 * read. The client of these tests throws at whatever the protocol forbids a server.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { assembled, CHUNK, ChunkClient, type Mode } from "./chunk-client.ts";
import { COMMAND, DF, FUA } from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve } from "./serving.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const { READ, WRITE } = COMMAND;
const EIO = 5;
const EINVAL = 22;
const EOVERFLOW = 75;
const ESHUTDOWN = 108;

const MODES: Mode[] = ["structured", "extended"];

async function connected(mode: Mode, device = new MemoryDevice(MIB)) {
  const { client } = await serve([exportOf(device)]);
  return { device, one: await ChunkClient.negotiate(await client(), mode) };
}

/** 256 KiB of zeroes, 64 KiB of data, zeroes, and 8 KiB of data at the end of 1 MiB. */
function sparse(): MemoryDevice {
  const device = new MemoryDevice(MIB);
  device.knowsZeroes = true;
  device.bytes.fill("data", 256 * KIB, 320 * KIB);
  device.bytes.fill("tail", MIB - 8 * KIB);
  return device;
}

describe.each(MODES)("READ with %s headers", (mode) => {
  describe.each([
    ["at once", false],
    ["later", true],
  ])("of a device that answers %s", (_, late) => {
    function slowed(device: MemoryDevice): MemoryDevice {
      if (late) device.gate = () => sleep(1);
      return device;
    }

    it("of data is one chunk, at any offset and length", async () => {
      const { device, one } = await connected(mode, slowed(new MemoryDevice(MIB)));
      device.bytes.fill("abc");
      for (const [offset, length] of [
        [0, 1],
        [4099, 3001],
        [MIB - 1, 1],
        [0, MIB],
      ] as const) {
        const reply = await one.exchange({ command: READ, offset, length });
        expect(reply.types).toEqual([CHUNK.DATA]);
        const expected = device.bytes.subarray(offset, offset + length);
        expect(assembled(reply, offset, length).equals(expected)).toBe(true);
      }
    });

    it("of zeroes known as such is one hole without data", async () => {
      const { one } = await connected(mode, slowed(sparse()));
      const reply = await one.exchange({ command: READ, offset: 4097, length: 100_001 });
      expect(reply.parts).toEqual([{ offset: 4097, hole: 100_001, data: null }]);
    });

    it("of zeroes that only turn out to be some is one hole, too", async () => {
      const { device, one } = await connected(mode, slowed(new MemoryDevice(MIB)));
      const reply = await one.exchange({ command: READ, offset: 4097, length: 700_001 });
      expect(reply.parts).toEqual([{ offset: 4097, hole: 700_001, data: null }]);
      for (const at of [4097, 300_000, 4097 + 700_000]) {
        device.bytes.fill(0).fill(1, at, at + 1);
        const { types } = await one.exchange({ command: READ, offset: 4097, length: 700_001 });
        expect(types).toEqual([CHUNK.DATA]);
      }
      device.bytes.fill(0);
      expect((await one.exchange({ command: READ, length: 511 })).types).toEqual([CHUNK.DATA]);
    });

    it("of holes and data is a chunk for each", async () => {
      const { device, one } = await connected(mode, slowed(sparse()));
      const reply = await one.exchange({ command: READ, offset: 0, length: MIB });
      expect(reply.types).toEqual([CHUNK.HOLE, CHUNK.DATA, CHUNK.HOLE, CHUNK.DATA]);
      expect(reply.parts.map(({ offset }) => offset)).toEqual([
        0,
        256 * KIB,
        320 * KIB,
        MIB - 8 * KIB,
      ]);
      expect(assembled(reply, 0, MIB).equals(device.bytes)).toBe(true);
    });

    it("with DF is one chunk: zeroes are written out beside data, and a hole alone", async () => {
      const { device, one } = await connected(mode, slowed(sparse()));
      const mixed = await one.exchange({ command: READ, flags: DF, offset: 0, length: MIB });
      expect(mixed.types).toEqual([CHUNK.DATA]);
      expect(assembled(mixed, 0, MIB).equals(device.bytes)).toBe(true);
      const zeroes = await one.exchange({ command: READ, flags: DF, offset: 0, length: 65_536 });
      expect(zeroes.types).toEqual([CHUNK.HOLE]);
    });

    it("of no bytes succeeds without a content chunk", async () => {
      const { one } = await connected(mode, slowed(new MemoryDevice(MIB)));
      const reply = await one.exchange({ command: READ, offset: 512, length: 0 });
      expect(reply.types).toEqual([CHUNK.NONE]);
    });

    it("a hundred at a time, each with its own chunks", async () => {
      const { device, one } = await connected(mode, slowed(sparse()));
      const cookies = Array.from({ length: 100 }, (_, i) =>
        one.request({ command: READ, offset: i * 10_000, length: 20_000 }),
      );
      for (const [i, cookie] of cookies.entries()) {
        const data = assembled(await one.reply(cookie), i * 10_000, 20_000);
        expect(data.equals(device.bytes.subarray(i * 10_000, i * 10_000 + 20_000))).toBe(true);
      }
    });
  });

  it("of blocks that are in turn data and holes has a bounded number of chunks", async () => {
    const device = new MemoryDevice(8 * MIB);
    device.knowsZeroes = true;
    for (let at = 0; at < 8 * MIB; at += 8 * KIB) device.bytes[at] = 1;
    const { one } = await connected(mode, device);
    const reply = await one.exchange({ command: READ, length: 8 * MIB });
    expect(reply.parts.length).toBe(512);
    expect(assembled(reply, 0, 8 * MIB).equals(device.bytes)).toBe(true);
  });

  it("of 32 MiB goes through, of one byte more is EOVERFLOW", async () => {
    const device = new MemoryDevice(33 * MIB);
    device.bytes.fill("0123456789abcdef");
    const { one } = await connected(mode, device);
    const data = await one.read(MIB, 32 * MIB);
    expect(data.equals(device.bytes.subarray(MIB))).toBe(true);
    const { errno, parts } = await one.exchange({ command: READ, length: 32 * MIB + 1 });
    expect([errno, parts.length]).toEqual([EOVERFLOW, 0]);
  });

  it.each([
    ["past the end", { offset: MIB - 1, length: 2 }, EINVAL, /beyond the end at 1048576/],
    ["at 2^64-1", { offset: 2n ** 64n - 1n, length: 1 }, EINVAL, /beyond the end/],
    ["with a flag of others", { length: 1, flags: 2 }, EINVAL, /READ with flags 0x2/],
  ])("%s is refused with a text, in one ERROR chunk", async (_, fields, errno, text) => {
    const { one } = await connected(mode);
    const reply = await one.exchange({ command: READ, ...fields });
    expect(reply.types).toEqual([CHUNK.ERROR]);
    expect(reply.errors).toEqual([
      { errno, text: expect.stringMatching(text) as string, offset: null },
    ]);
    expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it("with FUA is served", async () => {
    const { one } = await connected(mode);
    expect(await one.read(0, 4, FUA)).toEqual(Buffer.alloc(4));
  });
});

describe.each(MODES)("a READ with %s headers that fails", (mode) => {
  /** Reads that touch `bad` fail, as long as it is not null. */
  function brokenAt(device: MemoryDevice): { bad: number | null } {
    const state: { bad: number | null } = { bad: null };
    device.gate = async ({ name, offset, length }) => {
      await sleep(1);
      const { bad } = state;
      if (name === "read" && bad !== null && offset <= bad && bad < offset + length) {
        throw new Error("medium error on /secret/path");
      }
    };
    return state;
  }

  it("part-way: what is before the bad block comes, then its offset", async () => {
    const { device, one } = await connected(mode);
    device.bytes.fill("abcdefgh");
    brokenAt(device).bad = 100_000;
    const reply = await one.exchange({ command: READ, offset: 1000, length: 300_000 });
    expect(reply.types).toEqual([CHUNK.DATA, CHUNK.ERROR_OFFSET]);
    const block = Math.floor(100_000 / 4096) * 4096;
    expect(reply.errors).toEqual([
      {
        errno: EIO,
        text: expect.stringMatching(/^READ failed: io-error/) as string,
        offset: block,
      },
    ]);
    const data = reply.parts[0]?.data ?? Buffer.alloc(0);
    expect(data.length).toBe(300_000);
    expect(data.subarray(0, block - 1000).equals(device.bytes.subarray(1000, block))).toBe(true);
    expect(data.subarray(block - 1000).every((byte) => byte === 0)).toBe(true);
  });

  it("at its first byte: no data, only the offset", async () => {
    const { device, one } = await connected(mode);
    brokenAt(device).bad = 4096;
    const reply = await one.exchange({ command: READ, offset: 4096, length: 8192 });
    expect(reply.types).toEqual([CHUNK.ERROR_OFFSET]);
    expect(reply.errors[0]).toMatchObject({ errno: EIO, offset: 4096 });
  });

  it("only once: the data comes after all", async () => {
    const { device, one } = await connected(mode);
    device.bytes.fill("x");
    let failures = 1;
    device.gate = async () => {
      await sleep(1);
      if (failures-- > 0) throw new Error("a passing trouble");
    };
    expect((await one.read(100, 9000)).equals(device.bytes.subarray(100, 9100))).toBe(true);
  });

  it("beside holes and other data: these come, and the failed part has its offset", async () => {
    const device = sparse();
    const { one } = await connected(mode, device);
    const broken = brokenAt(device);
    broken.bad = 256 * KIB + 10_000;
    const reply = await one.exchange({ command: READ, length: MIB });
    expect(reply.types).toEqual([
      CHUNK.HOLE,
      CHUNK.DATA,
      CHUNK.HOLE,
      CHUNK.DATA,
      CHUNK.ERROR_OFFSET,
    ]);
    expect(reply.errors[0]).toMatchObject({ errno: EIO, offset: 256 * KIB + 8192 });
    expect(reply.parts[3]?.data?.toString("latin1", 0, 8)).toBe("tailtail");
    broken.bad = null;
    expect((await one.read(0, MIB)).equals(device.bytes)).toBe(true);
  });

  it("at two places of a sparse range: both are named, the last chunk is the last", async () => {
    const device = sparse();
    const { one } = await connected(mode, device);
    device.gate = () => Promise.reject(new Error("all is broken"));
    const reply = await one.exchange({ command: READ, length: MIB });
    expect(reply.errors.map(({ offset }) => offset)).toEqual([256 * KIB, MIB - 8 * KIB]);
    expect(reply.types.at(-1)).toBe(CHUNK.ERROR_OFFSET);
  });

  it("for another reason than the storage is not tried again", async () => {
    const { device, one } = await connected(mode);
    device.gate = () => Promise.reject(new NbdRaidError("shutting-down", "data is shutting down"));
    const reply = await one.exchange({ command: READ, length: 65_536 });
    expect(reply.errors[0]).toMatchObject({ errno: ESHUTDOWN });
    expect(device.calls.length).toBe(1);
  });

  it("tells the client nothing of where the data lies", async () => {
    const { device, one } = await connected(mode);
    brokenAt(device).bad = 0;
    const reply = await one.exchange({ command: READ, length: 512 });
    expect(reply.errors[0]?.text).not.toContain("secret");
  });

  it("leaves the connection as it was", async () => {
    const { device, one } = await connected(mode);
    const broken = brokenAt(device);
    broken.bad = 5000;
    const cookies = [0, 4096, 8192].map((offset) =>
      one.request({ command: READ, offset, length: 4096 }),
    );
    const errnos = [];
    for (const cookie of cookies) errnos.push((await one.reply(cookie)).errno);
    expect(errnos).toEqual([0, EIO, 0]);
    await one.write(0, Buffer.from("on"));
    expect((await one.read(0, 2)).toString()).toBe("on");
  });
});

describe.each(MODES)("commands other than READ with %s headers", (mode) => {
  it("that the device refuses get its errno and a text", async () => {
    const { device, one } = await connected(mode);
    device.gate = () => Promise.reject(new NbdRaidError("no-space", "/secret/member is full"));
    const reply = await one.exchange({ command: WRITE, payload: Buffer.alloc(512) });
    expect(reply.types).toEqual([CHUNK.ERROR]);
    expect(reply.errors).toEqual([
      {
        errno: 28,
        text: expect.stringMatching(/^WRITE failed: no-space \(free space/) as string,
        offset: null,
      },
    ]);
  });

  it("that are done have a reply without payload", async () => {
    const { one } = await connected(mode);
    for (const command of [COMMAND.FLUSH, COMMAND.TRIM, COMMAND.CACHE, COMMAND.WRITE_ZEROES]) {
      const length = command === COMMAND.FLUSH ? 0 : 4096;
      expect((await one.exchange({ command, length })).types).toEqual([CHUNK.NONE]);
    }
    expect((await one.exchange({ command: WRITE, payload: Buffer.alloc(9) })).errno).toBe(0);
  });
});
