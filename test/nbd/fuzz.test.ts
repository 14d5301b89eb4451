/**
 * Recorded sessions, mutated at random and fed in random portions: whatever arrives, the parsers
 * neither throw nor stop taking input, memory stays bounded, and what is sent is whole replies. A
 * failure prints its seed; NBD_FUZZ_SEED repeats it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { expect, it } from "vitest";
import { SlabPool } from "../../src/nbd/slab.ts";
import type { TlsMode } from "../../src/nbd/starttls.ts";
import { Arena } from "./arena.ts";
import { mutation, type Mutation, portions, RECORDED, walk } from "./fuzz-sessions.ts";
import { MemoryDevice, type Call } from "./memory-device.ts";
import { exportOf } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";
import { pskEndpoint } from "./tls-client.ts";

const KIB = 1024;
const MIB = 2 ** 20;
/** Turns of the event loop without a byte taken that a session may have. */
const IDLE_TURNS_MAX = 1000;
/** The same, for a server at the other end of a socket. */
const HANG_MS = 10_000;
const TIME_MS = process.env["NBD_RAID_LONG"] === "1" ? 200_000 : 2_500;

/** As long as there is time for it, from the seed that the environment asks for. */
function parameters<T>(): fc.Parameters<T> {
  const seed = process.env["NBD_FUZZ_SEED"];
  return {
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: TIME_MS,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
  };
}

const mutated = fc
  .tuple(fc.constantFrom(...RECORDED), fc.array(mutation, { maxLength: 6 }))
  .map(([recorded, mutations]: [Buffer[], Mutation[]]) =>
    mutations.reduce((messages, mutate) => mutate(messages), recorded),
  );

const sessions = {
  messages: mutated,
  /** False: what belongs to two messages may arrive together. */
  oneByOne: fc.boolean(),
  portions,
  answers: fc.constantFrom("at once", "late", "in part", "never"),
  tlsMode: fc.constantFrom("off", "optional", "required"),
};

interface Given {
  readonly messages: readonly Buffer[];
  readonly oneByOne: boolean;
  readonly portions: readonly number[];
  readonly answers: "at once" | "late" | "in part" | "never";
  readonly tlsMode: TlsMode;
}

/** What one session and its device make of it, with a pool of this many bytes. */
async function runSession(given: Given, pool: SlabPool): Promise<SessionHarness> {
  const { messages, oneByOne, portions, answers, tlsMode } = given;
  const device = new MemoryDevice(MIB);
  device.knowsZeroes = true;
  device.bytes.fill(1, 40_000, 50_000);
  if (answers === "late") device.gate = async () => {};
  if (answers === "in part") device.gate = failsAbove(45_000);
  if (answers === "never") device.gate = failsAbove(0);
  const harness = new SessionHarness([exportOf(device)], {}, tlsMode, pool);
  let count = 0;
  let idleTurns = 0;
  for (const bytes of oneByOne ? messages : [Buffer.concat(messages)]) {
    for (let sent = 0; sent < bytes.length;) {
      const portion = bytes.subarray(sent, sent + portions[count++ % portions.length]!);
      const taken = portion.length - harness.feed(portion).length;
      sent += taken;
      idleTurns = taken > 0 ? 0 : idleTurns + 1;
      // Thrown here: a run that never ends counts as one that was cut short by the time limit.
      if (idleTurns > IDLE_TURNS_MAX) throw new Error(`nothing more is taken at byte ${sent}`);
      expect(harness.session.heldBytes).toBeLessThan(70 * MIB);
      if (harness.securing) harness.secured();
      if (harness.paused) {
        await new Promise(setImmediate);
        harness.confirm();
      }
    }
  }
  harness.session.inputEnded();
  for (let turns = 0; harness.ended === null && turns < 100; turns++) {
    await new Promise(setImmediate);
    harness.confirm();
  }
  expect(harness.ended).not.toBeNull();
  walk(harness.sent, MIB, true);
  harness.session.closed();
  expect(harness.done).toBe(true);
  expect(harness.session.heldBytes).toBe(0);
  return harness;
}

it("the sessions are served to their ends, as long as they are not mutated", async () => {
  const given = {
    oneByOne: true,
    portions: [1000],
    answers: "at once",
    tlsMode: "optional",
  } as const;
  const ends: (string | null)[] = [];
  for (const messages of RECORDED) {
    ends.push((await runSession({ ...given, messages }, new SlabPool())).ended);
  }
  const left = "disconnected by the client";
  expect(ends).toEqual([left, left, left, left, left, "aborted by the client", left]);
});

it("no mutation of a session makes the parsers throw, hang or hold memory", async () => {
  const property = fc.asyncProperty(
    fc.record(sessions),
    async (given) => void (await runSession(given, new SlabPool())),
  );
  await fc.assert(property, parameters());
});

it("nor does it where memory is scarce", async () => {
  let scarce = 0;
  const property = fc.asyncProperty(
    fc.record(sessions),
    fc.constantFrom(0, 20 * KIB, MIB, 2 * MIB),
    async (given, bytes) => {
      const pool = new SlabPool(bytes);
      const take = pool.take.bind(pool);
      pool.take = (wanted) => {
        const slab = take(wanted);
        if (pool.scarce) scarce++;
        return slab;
      };
      await runSession(given, pool);
      expect(pool.heldBytes).toBe(0);
    },
  );
  await fc.assert(property, parameters());
  expect(scarce).toBeGreaterThan(0);
});

it("nor does it over a socket, and others are served as before", async () => {
  const arena = await Arena.open({ tls: pskEndpoint().tls, limits: { handshakeMs: 60_000 } });
  const property = fc.asyncProperty(
    mutated,
    portions,
    fc.constantFrom("half-closes", "vanishes"),
    async (messages, portions, how) => {
      const one = await arena.client();
      const received: Buffer[] = [];
      one.socket.on("data", (chunk: Buffer) => received.push(chunk));
      const bytes = Buffer.concat(messages);
      for (let sent = 0, i = 0; sent < bytes.length; i++) {
        const portion = bytes.subarray(sent, sent + portions[i % portions.length]!);
        sent += portion.length;
        one.send(portion);
        if (i % 3 === 0) await new Promise(setImmediate);
      }
      if (how === "half-closes") {
        one.end();
        const hangs = sleep(HANG_MS, "hangs", { ref: false });
        expect(await Promise.race([one.closed, hangs])).not.toBe("hangs");
        walk(Buffer.concat(received), arena.device.sizeBytes, false);
      } else one.destroy();
      await arena.othersAreServed();
    },
  );
  await fc.assert(property, parameters());
});

/** Whatever touches an offset beyond `limit` fails, some time later. */
function failsAbove(limit: number): (call: Call) => Promise<void> {
  return async ({ offset, length }) => {
    await Promise.resolve();
    if (offset + length > limit) throw new Error("broken");
  };
}
