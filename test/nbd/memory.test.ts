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
    movedBytes: 0,
    owing: true,
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

  /** Moves so many bytes from one look to the next. */
  const moving = (bytesALook: number, fields: Partial<Holder> = {}): Holder => {
    let movedBytes = 0;
    return {
      ...holder(fields),
      get movedBytes() {
        return (movedBytes += bytesALook);
      },
    };
  };

  it("spares who makes headway, holds little, owes nothing, or waits for the device", () => {
    const all = [
      moving(64 * KIB),
      holder({ heldBytes: 128 * KIB }),
      holder({ owing: false }),
      holder({ served: true }),
    ];
    expect(looks(() => all).flat()).toEqual([]);
  });

  it("takes 64 KiB in four looks, and a thirty-second of what is held, for headway, and no less", () => {
    const slow = moving(16 * KIB + 1, { heldBytes: MIB });
    const tooSlow = moving(16 * KIB - 1, { heldBytes: MIB });
    const large = moving(256 * KIB + 1, { heldBytes: 32 * MIB });
    const tooLarge = moving(200 * KIB, { heldBytes: 32 * MIB });
    const found = new Set(looks(() => [slow, tooSlow, large, tooLarge], 200 * MIB).flat());
    expect([...found].toSorted()).toEqual([1, 3]);
  });

  it("drops the largest first, and only until there is enough", () => {
    const all = [2, 9, 5, 7].map((mib) => holder({ heldBytes: mib * MIB }));
    // 16 MiB are held of 1 MiB, and a small request more should fit: 15 and a bit have to go.
    expect(looks(() => all, 14 * MIB)[4]).toEqual([1, 3]);
    expect(looks(() => all, 2 * MIB)[4]).toEqual([1]);
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

describe("the line for memory", () => {
  /** Accounts that note when they are called. */
  function line(maxBytes: number, count: number) {
    const pool = new SlabPool(maxBytes);
    const called: number[] = [];
    const accounts = Array.from(
      { length: count },
      (_, i) => new SlabAccount(pool, () => called.push(i)),
    );
    return { pool, called, accounts };
  }

  it("is served in order, one beyond the limit at a time, whoever comes and whoever leaves", () => {
    const { pool, called, accounts } = line(4 * MIB, 5);
    const [holds, beyond, waits, gives, last] = accounts as [
      SlabAccount,
      SlabAccount,
      SlabAccount,
      SlabAccount,
      SlabAccount,
    ];
    expect(holds.admit(2 * MIB)).toBe(true);
    const two = holds.take(2 * MIB);
    expect(beyond.admit(32 * MIB)).toBe(true); // nobody else is
    const large = beyond.take(32 * MIB);
    expect(waits.admit(MIB)).toBe(false);
    expect(gives.admit(MIB)).toBe(false);
    expect(last.admit(16 * KIB)).toBe(false); // it would not fit, and others came first
    expect(pool.scarce).toBe(true);
    holds.release(two);
    expect(called).toEqual([]); // 32 MiB are held still
    beyond.release(large);
    expect(called).toEqual([2]);
    expect(last.admit(16 * KIB)).toBe(false); // not its turn
    expect(waits.admit(MIB)).toBe(true);
    expect(called).toEqual([2, 3]);
    gives.leave();
    expect(called).toEqual([2, 3, 4]);
    expect(last.admit(16 * KIB)).toBe(true);
    expect(pool.scarce).toBe(false);
  });

  it("keeps no more free slabs than may be held", () => {
    const pool = new SlabPool(4 * MIB);
    const account = new SlabAccount(pool);
    const slab = account.take(32 * MIB);
    account.release(slab);
    const other = account.take(32 * MIB);
    expect(other).not.toBe(slab);
    account.release(other);
    const small = account.take(MIB);
    account.release(small);
    expect(account.take(MIB)).toBe(small);
  });
});

describe("many clients that ask for 32 MiB each", () => {
  const LIMIT = 64 * MIB;
  const go = Buffer.concat([encodeFlags(3), encodeOption(OPTION.GO, encodeInfoData("data"))]);

  /** Two dozen sessions of one pool, each of which has sent `request`, and reads nothing. */
  function crowd(request: Uint8Array) {
    const pool = new SlabPool(LIMIT);
    const device = new MemoryDevice(32 * MIB);
    const sessions = Array.from({ length: 24 }, () => {
      const harness = new SessionHarness([exportOf(device)], {}, "off", pool);
      harness.feed(go);
      harness.reading = false;
      harness.feed(request);
      return harness;
    });
    return { pool, sessions };
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve));

  it.each([
    ["READs that nobody takes", encodeRequest({ command: READ, length: 32 * MIB })],
    [
      "WRITEs that stop midway",
      encodeRequest({ command: WRITE, length: 32 * MIB, payload: Buffer.alloc(MIB) }).subarray(
        0,
        MIB,
      ),
    ],
  ])("hold what there is, one request and their own small part: %s", async (_, request) => {
    const { pool, sessions } = crowd(request);
    for (let i = 0; i < 5; i++) await turn();
    expect(pool.heldBytes).toBeLessThan(LIMIT + 33 * MIB + sessions.length * 256 * KIB);
    expect(pool.missingBytes).toBeGreaterThan(0);
    for (const { session } of sessions) session.closed();
    for (const harness of sessions) {
      harness.reading = true;
      harness.confirm();
    }
    expect(pool.heldBytes).toBe(0);
    expect(pool.scarce).toBe(false);
  });

  it("are all answered in the end, those that read", async () => {
    const { pool, sessions } = crowd(encodeRequest({ command: READ, length: 32 * MIB }));
    const answered = (): number => sessions.filter(({ sentBytes }) => sentBytes > 32 * MIB).length;
    for (let before = -1; answered() < sessions.length;) {
      expect(answered()).toBeGreaterThan(before);
      before = answered();
      for (const harness of sessions) {
        harness.reading = true;
        harness.confirm();
      }
      await turn();
      await turn();
    }
    for (const harness of sessions) harness.confirm();
    for (const { session } of sessions) session.closed();
    expect(pool.heldBytes).toBe(0);
  });
});

describe("honest clients under a small limit", () => {
  it("all get their large requests done, read and written, and large ones beside small ones", async () => {
    const device = new MemoryDevice(16 * MIB);
    const { client } = await serve([exportOf(device)], {
      limits: { memoryBytes: 2 * MIB, stallMs: 20_000 },
    });
    const work = async (index: number): Promise<void> => {
      const one = await client("data");
      const payload = Buffer.alloc(MIB, 1 + index);
      for (const bytes of [MIB, 300 * KIB, 4 * KIB]) {
        await one.write(index * MIB, payload.subarray(0, bytes));
        const cookies = Array.from({ length: 4 }, () =>
          one.request({ command: READ, offset: index * MIB, length: bytes }),
        );
        for (const cookie of cookies) {
          expect((await one.reply(cookie)).data.equals(payload.subarray(0, bytes))).toBe(true);
        }
      }
      expect((await one.read(0, 8 * MIB)).length).toBe(8 * MIB);
    };
    await Promise.all(Array.from({ length: 12 }, (_, index) => work(index)));
  });

  /** Uploads 4 MiB while another client waits for memory; true if it was let finish. */
  async function upload(pieceBytes: number): Promise<boolean> {
    const { client } = await serve([exportOf(new MemoryDevice(8 * MIB))], {
      limits: { memoryBytes: 4 * MIB, stallMs: 600, closeMs: 100 },
    });
    const slow = await client("data");
    const request = encodeRequest({ command: WRITE, length: 4 * MIB, cookie: 7n });
    slow.send(Buffer.concat([request, Buffer.alloc(128 * KIB)]));
    await sleep(50);
    const waiting = await client("data");
    const read = waiting.read(0, 4 * MIB);
    let gone = false;
    void slow.closed.then(() => (gone = true));
    for (let sent = 128 * KIB; sent < 4 * MIB && !gone; sent += pieceBytes) {
      slow.send(Buffer.alloc(pieceBytes));
      await sleep(40);
    }
    expect(await read).toHaveLength(4 * MIB);
    return !gone;
  }

  it("may take their time over a message while others wait, as long as it goes on", async () => {
    expect(await upload(128 * KIB)).toBe(true);
  });

  it("are rid of one that only drips", async () => {
    expect(await upload(16)).toBe(false);
  });

  it("are served with all they pipeline beside a hundred that are idle", async () => {
    const device = new MemoryDevice(4 * MIB);
    const { client } = await serve([exportOf(device)], { limits: { memoryBytes: 16 * MIB } });
    for (let i = 0; i < 100; i++) {
      const idle = await client("data");
      await idle.write(0, Buffer.alloc(4 * KIB));
    }
    const one = await client("data");
    let open = () => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    device.gate = () => opened;
    device.calls.length = 0;
    const cookies = Array.from({ length: 64 }, (_, i) =>
      one.request({ command: READ, offset: i * 4 * KIB, length: 4 * KIB }),
    );
    await until(() => device.calls.length === 64);
    open();
    for (const cookie of cookies) expect((await one.reply(cookie)).error).toBe(0);
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
