/** Clients that hold memory and make no headway: one by one they are bounded, together too. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "../../src/nbd/limits.ts";
import { type Holder, MemoryGuard } from "../../src/nbd/memory-guard.ts";
import { SlabAccount, SlabPool } from "../../src/nbd/slab.ts";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  OPTION,
  type RawClient,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, until } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const { READ, WRITE } = COMMAND;

describe("the pool", () => {
  it("is scarce while more is handed out than should be, whoever holds it", () => {
    const pool = new SlabPool(4 * MIB);
    const [one, other] = [new SlabAccount(pool), new SlabAccount(pool)];
    const slabs = [one.take(MIB), other.take(2 * MIB)];
    expect(other.scarce).toBe(false);
    const third = one.take(MIB);
    expect([pool.scarce, one.scarce, other.scarce]).toEqual([true, true, true]);
    one.release(third);
    expect(other.scarce).toBe(false);
    one.release(slabs[0]!);
    other.release(slabs[1]!);
    expect(pool.heldBytes).toBe(0);
    one.release(one.take(MIB)); // one that was used before
    expect(pool.heldBytes).toBe(0);
  });
});

describe("the guard", () => {
  const holder = (fields: Partial<Holder>): Holder => ({
    heldBytes: 8 * MIB,
    headway: 0,
    served: false,
    ...fields,
  });
  /** Who has to go at each of ten looks, as indices. */
  function looks(holders: () => readonly Holder[], held = 2 * MIB): number[][] {
    const pool = new SlabPool(MIB);
    pool.take(held);
    const guard = new MemoryGuard<Holder>(pool, DEFAULT_LIMITS);
    return Array.from({ length: 10 }, () => {
      const all = holders();
      return guard.look(all).map((one) => all.indexOf(one));
    });
  }

  it("looks four times before it finds a client stuck", () => {
    const stuck = holder({});
    expect(looks(() => [stuck]).map(({ length }) => length)).toEqual([
      0, 0, 0, 0, 1, 1, 1, 1, 1, 1,
    ]);
    expect(new MemoryGuard(new SlabPool(), DEFAULT_LIMITS).periodMs * 4).toBe(10_000);
  });

  it("spares who makes headway, holds little, or waits for the device", () => {
    let headway = 0;
    const moving = {
      ...holder({}),
      get headway() {
        return headway++;
      },
    };
    const idle = holder({ heldBytes: MIB + 4096 });
    const waiting = holder({ served: true });
    expect(looks(() => [moving, idle, waiting]).flat()).toEqual([]);
  });

  it("hurries nobody while there is plenty", () => {
    expect(looks(() => [holder({})], 4 * KIB).flat()).toEqual([]);
  });

  it("begins anew when there was plenty in between", () => {
    const pool = new SlabPool(MIB);
    const guard = new MemoryGuard<Holder>(pool, DEFAULT_LIMITS);
    const stuck = holder({});
    let slab = pool.take(2 * MIB);
    for (let i = 0; i < 4; i++) expect(guard.look([stuck])).toEqual([]);
    pool.give(slab);
    guard.look([stuck]);
    slab = pool.take(2 * MIB);
    for (let i = 0; i < 4; i++) expect(guard.look([stuck])).toEqual([]);
    expect(guard.look([stuck])).toEqual([stuck]);
  });
});

describe("a client that asks for much and reads nothing", () => {
  it("has little of it made ready; the rest when it has taken that", () => {
    const harness = new SessionHarness([exportOf(new MemoryDevice(MIB))]);
    const name = encodeOption(OPTION.GO, encodeInfoData("data"));
    harness.feed(Buffer.concat([encodeFlags(3), name]));
    const before = harness.sent.length;
    harness.reading = false;
    const requests = Array.from({ length: 64 }, () =>
      encodeRequest({ command: READ, length: MIB }),
    );
    const rest = harness.feed(Buffer.concat(requests));
    expect(harness.session.heldBytes).toBeLessThan(12 * MIB);
    harness.reading = true;
    harness.confirm();
    harness.feed(rest);
    expect(harness.sent.length - before).toBe(64 * (MIB + 16));
  });
});

/** What clients do who only take memory. */
const MISDEEDS: Readonly<Record<string, (client: RawClient) => void>> = {
  "reads none of its replies": (client) => {
    client.socket.pause();
    for (let i = 0; i < 64; i++) client.request({ command: READ, length: MIB });
  },
  "reads a byte at a time": (client) => {
    client.socket.pause();
    const timer = setInterval(() => void client.socket.read(1), 20);
    client.socket.once("close", () => clearInterval(timer));
    for (let i = 0; i < 64; i++) client.request({ command: READ, length: MIB });
  },
  "sends half of a payload": (client) =>
    client.send(
      encodeRequest({ command: WRITE, length: 24 * MIB, payload: Buffer.alloc(12 * MIB) }),
    ),
};

describe.each(Object.keys(MISDEEDS))("a client that %s", (what) => {
  it("is let be while there is memory", async () => {
    const { server, client } = await serve([exportOf(new MemoryDevice(32 * MIB))], {
      limits: { stallMs: 100, closeMs: 100 },
    });
    const one = await client("data");
    MISDEEDS[what]!(one);
    await sleep(400);
    expect(server.connections()).toHaveLength(1);
  });

  it("has to go when others need it, and those are served meanwhile and after", async () => {
    const { server, client } = await serve([exportOf(new MemoryDevice(32 * MIB))], {
      limits: { memoryBytes: 4 * MIB, stallMs: 200, closeMs: 100 },
    });
    const good = await client("data");
    const bad = await client("data");
    MISDEEDS[what]!(bad);
    for (let i = 0; i < 30; i++) {
      await good.write(i * 64 * KIB, Buffer.alloc(64 * KIB, i));
      expect((await good.read(i * 64 * KIB, 1))[0]).toBe(i);
      await sleep(20);
    }
    await until(() => server.connections().length === 1);
    await good.read(0, MIB);
  });
});
