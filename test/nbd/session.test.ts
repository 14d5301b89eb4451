/** What holds for a session as a whole: its size, and how it ends when the server does. */
import { describe, expect, it } from "vitest";
import { CHUNK, ChunkClient } from "./chunk-client.ts";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  ERROR_REPLY,
  OPTION,
  REPLY,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, until } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";

const MIB = 2 ** 20;
const { READ, WRITE } = COMMAND;
const EINVAL = 22;
const ESHUTDOWN = 108;

/** A device that grows while it is served. */
class GrowingDevice extends MemoryDevice {
  grown = false;

  override get sizeBytes(): number {
    return this.grown ? 2 * MIB : MIB;
  }
}

it("an export that grows keeps its size for those who are connected, and shows it to others", async () => {
  const device = new GrowingDevice(2 * MIB);
  const { client } = await serve([exportOf(device)]);
  const early = await client("data");
  device.grown = true;
  const late = await client();
  expect((await late.negotiate("data")).sizeBytes).toBe(BigInt(2 * MIB));
  const beyond = { command: READ, offset: MIB, length: 512 };
  expect((await late.exchange(beyond)).error).toBe(0);
  expect((await early.exchange(beyond)).error).toBe(EINVAL);
});

describe("while the server ends", () => {
  /** The final replies to options that came behind one whose answer was not sent yet. */
  function repliesTo(...options: number[]): { types: number[]; ended: string | null } {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))]);
    harness.feed(encodeFlags(3));
    harness.reading = false;
    harness.feed(encodeOption(OPTION.LIST));
    const before = harness.sent.length;
    const data = (option: number) =>
      option === OPTION.EXPORT_NAME ? Buffer.from("data") : encodeInfoData("data");
    harness.read(Buffer.concat(options.map((option) => encodeOption(option, data(option)))));
    harness.session.shutDown();
    harness.reading = true;
    harness.confirm();
    const types: number[] = [];
    const sent = harness.sent.subarray(before);
    for (let at = 0; at < sent.length; at += 20 + sent.readUInt32BE(at + 16)) {
      types.push(sent.readUInt32BE(at + 12));
    }
    return { types, ended: harness.ended };
  }

  it("options are answered with ERR_SHUTDOWN, whatever they ask", () => {
    const { types, ended } = repliesTo(OPTION.INFO);
    expect(types).toEqual([ERROR_REPLY.SHUTDOWN]);
    expect(ended).toBe("shutting down");
  });

  it("ABORT is acknowledged all the same", () => {
    expect(repliesTo(OPTION.ABORT).types).toEqual([REPLY.ACK]);
  });

  it("EXPORT_NAME, which knows no error, ends the connection", () => {
    expect(repliesTo(OPTION.EXPORT_NAME)).toEqual({ types: [], ended: "shutting down" });
  });

  it.each(["structured", "extended"] as const)(
    "requests with %s headers are answered with ESHUTDOWN and a text",
    async (mode) => {
      const device = new MemoryDevice(MIB);
      const { server, client } = await serve([exportOf(device)]);
      const one = await ChunkClient.negotiate(await client(), mode);
      let open = () => {};
      device.gate = () => new Promise((resolve) => (open = resolve));
      const pending = one.request({ command: READ, length: 512 });
      await until(() => device.calls.length === 1);
      const closing = server.close();
      for (const fields of [
        { command: READ, length: 512 },
        { command: WRITE, payload: Buffer.alloc(100_000) },
      ]) {
        const reply = await one.exchange(fields);
        expect(reply.types).toEqual([CHUNK.ERROR]);
        expect(reply.errors).toMatchObject([
          { errno: ESHUTDOWN, text: "the server is shutting down" },
        ]);
      }
      open();
      expect((await one.reply(pending)).errno).toBe(0);
      await one.raw.closed;
      one.raw.end();
      await closing;
    },
  );
});

describe("what a client sends in one go", () => {
  const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

  it("is served for a while in each turn of the event loop, and all of it in the end", async () => {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))]);
    const go = encodeOption(OPTION.GO, encodeInfoData("data"));
    harness.feed(Buffer.concat([encodeFlags(3), go]));
    const before = harness.sent.length;
    const answered = (): number => (harness.sent.length - before) / (512 + 16);
    harness.requestMs = 1;
    const requests = Array.from({ length: 10 }, () =>
      encodeRequest({ command: READ, length: 512 }),
    );
    harness.feed(Buffer.concat(requests));
    const counts = [answered()];
    while (answered() < 10) {
      expect(harness.paused).toBe(true);
      await nextTurn();
      harness.confirm();
      counts.push(answered());
    }
    expect(counts).toEqual([2, 4, 6, 8, 10]);
    await nextTurn();
    expect(harness.paused).toBe(false);
  });

  it("has one BLOCK_STATUS under way at a time, and what is behind it waits", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)]);
    const one = await ChunkClient.negotiate(await client(), "structured", ["base:allocation"]);
    const open: (() => void)[] = [];
    device.gate = () => new Promise((resolve) => open.push(resolve));
    const ask = { command: COMMAND.BLOCK_STATUS, length: MIB };
    const cookies = Array.from({ length: 3 }, () => one.request(ask));
    for (let i = 1; i <= 3; i++) {
      await until(() => device.calls.length === i);
      await nextTurn();
      await nextTurn();
      expect(device.calls).toHaveLength(i);
      open.shift()?.();
    }
    for (const cookie of cookies) expect((await one.reply(cookie)).errno).toBe(0);
  });
});
