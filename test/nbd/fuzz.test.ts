/**
 * A recorded session, mutated at random and fed in random portions: whatever arrives, the parsers
 * neither throw nor stop taking input, and memory stays bounded. A failure prints its seed;
 * NBD_FUZZ_SEED repeats it.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  OPTION,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";

const MIB = 2 ** 20;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES } = COMMAND;
const TIME_MS = process.env["NBD_RAID_LONG"] === "1" ? 600_000 : 2_500;

const RECORDED = [
  encodeFlags(3),
  encodeOption(OPTION.LIST),
  encodeOption(77, Buffer.alloc(300)),
  encodeOption(OPTION.INFO, encodeInfoData("nothing", [1, 2])),
  encodeOption(OPTION.INFO, encodeInfoData("data", [0, 1, 2, 3])),
  encodeOption(OPTION.GO, encodeInfoData("data", [3])),
  encodeRequest({ command: READ, offset: 4096, length: 4096, cookie: 1n }),
  encodeRequest({ command: WRITE, offset: 0, payload: Buffer.alloc(8192, 5), cookie: 2n }),
  encodeRequest({ command: FLUSH, cookie: 3n }),
  encodeRequest({ command: TRIM, offset: 512, length: 1024, cookie: 4n }),
  encodeRequest({ command: WRITE_ZEROES, flags: 3, offset: 0, length: 65536, cookie: 5n }),
  encodeRequest({ command: CACHE, length: MIB, cookie: 6n }),
  encodeRequest({ command: WRITE, offset: 100, payload: Buffer.alloc(100_000, 6), cookie: 7n }),
  encodeRequest({ command: READ, offset: MIB - 1, length: 1, cookie: 8n }),
  encodeRequest({ command: DISC }),
];

type Mutation = (messages: Buffer[]) => Buffer[];

const at = fc.nat(RECORDED.length - 1);
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  // a byte of a header changes
  fc.tuple(at, fc.nat(43), fc.nat(255)).map(
    ([i, where, value]): Mutation =>
      (messages) =>
        messages.map((message, k) => {
          if (k !== i || where >= message.length) return message;
          const copy = Buffer.from(message);
          copy[where] = value;
          return copy;
        }),
  ),
  // a message is lost, comes twice, is cut, or has rubbish before it
  at.map(
    (i): Mutation =>
      (messages) =>
        messages.toSpliced(i, 1),
  ),
  at.map(
    (i): Mutation =>
      (messages) =>
        messages.toSpliced(i, 0, messages[i] ?? Buffer.alloc(0)),
  ),
  fc.tuple(at, fc.nat(100)).map(
    ([i, length]): Mutation =>
      (messages) =>
        messages.map((message, k) => (k === i ? message.subarray(0, length) : message)),
  ),
  fc.tuple(at, fc.uint8Array({ maxLength: 64 })).map(
    ([i, rubbish]): Mutation =>
      (messages) =>
        messages.toSpliced(i, 0, Buffer.from(rubbish)),
  ),
);

it("no mutation of a session makes the parsers throw, hang or hold memory", async () => {
  const portions = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 200_000 })),
    {
      minLength: 1,
      maxLength: 8,
    },
  );
  const property = fc.asyncProperty(
    fc.array(mutation, { minLength: 1, maxLength: 6 }),
    portions,
    fc.boolean(),
    async (mutations, portions, late) => {
      const device = new MemoryDevice(MIB);
      if (late) device.gate = async () => {};
      const harness = new SessionHarness([exportOf(device)]);
      const bytes = Buffer.concat(
        mutations.reduce((messages, mutate) => mutate(messages), RECORDED),
      );
      let sent = 0;
      for (let i = 0; sent < bytes.length; i++) {
        const portion = bytes.subarray(sent, sent + portions[i % portions.length]!);
        sent += portion.length - harness.feed(portion).length;
        expect(harness.session.heldBytes).toBeLessThan(70 * MIB);
        if (harness.paused) await new Promise(setImmediate);
      }
      harness.session.inputEnded();
      for (let turns = 0; harness.ended === null && turns < 100; turns++) {
        await new Promise(setImmediate);
        harness.confirm();
      }
      expect(harness.ended).not.toBeNull();
      harness.session.closed();
      expect(harness.done).toBe(true);
      expect(harness.session.heldBytes).toBe(0);
    },
  );
  const seed = process.env["NBD_FUZZ_SEED"];
  await fc.assert(property, {
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: TIME_MS,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
  });
});
