/** Who may connect and who gives way, as rules; and then as clients see it. */
import { statSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { admit, AllowList } from "../../src/nbd/access.ts";
import { DEFAULT_LIMITS } from "../../src/nbd/limits.ts";
import { COMMAND, encodeInfoData, OPTION, RawClient } from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, temporaryFolder, until } from "./serving.ts";

const MIB = 2 ** 20;
const EPERM = 1;

describe("an allow list", () => {
  const cases: [rule: string, inside: string[], outside: string[]][] = [
    ["10.0.0.7", ["10.0.0.7", "::ffff:10.0.0.7"], ["10.0.0.70", "10.0.0.8", "10.0.0", "110.0.0.7"]],
    [
      "10.0.0.0/8",
      ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
      ["11.0.0.0", "9.255.255.255"],
    ],
    ["192.168.1.77/24", ["192.168.1.0", "192.168.1.255"], ["192.168.2.0", "192.168.10.1"]],
    ["172.16.0.0/12", ["172.31.255.255"], ["172.32.0.0", "172.15.255.255", "172.1.6.0"]],
    ["0.0.0.0/0", ["1.2.3.4"], ["::1", "fe80::1"]],
    ["::1", ["::1", "0:0:0:0:0:0:0:1"], ["::2", "127.0.0.1"]],
    ["fd00::/8", ["fd12:3456::1", "fdff::"], ["fe00::", "fc00::"]],
    ["fe80::/10", ["fe80::1%eth0", "febf::"], ["fec0::", "10.0.0.1"]],
    ["::ffff:10.0.0.0/104", ["10.1.1.1"], ["11.1.1.1"]],
  ];
  it.each(cases)("of %s lets in what lies in it and nothing else", (rule, inside, outside) => {
    const list = new AllowList([rule]);
    expect(inside.filter((address) => !list.allows(address))).toEqual([]);
    expect(outside.filter((address) => list.allows(address))).toEqual([]);
  });

  it("compares numbers, at every length of a network", () => {
    const bits = fc.integer({ min: 0, max: 32 });
    const octets = fc.tuple(...Array.from({ length: 4 }, () => fc.nat(255)));
    const numberOf = (parts: number[]) => parts.reduce((sum, part) => sum * 256 + part, 0);
    fc.assert(
      fc.property(octets, octets, bits, (rule, address, length) => {
        const size = 2 ** (32 - length);
        const same = Math.floor(numberOf(rule) / size) === Math.floor(numberOf(address) / size);
        const list = new AllowList([`${rule.join(".")}/${length}`]);
        expect(list.allows(address.join("."))).toBe(same);
      }),
    );
  });

  it("of nothing lets in nobody, and what is no address is never let in", () => {
    expect(new AllowList([]).allows("127.0.0.1")).toBe(false);
    const everybody = new AllowList(["0.0.0.0/0", "::/0"]);
    expect(["", "localhost", "1.2.3", "%"].filter((text) => everybody.allows(text))).toEqual([]);
  });

  it.each([
    "",
    "10.0.0.0/33",
    "::/129",
    "10.0.0",
    "host",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "1.2.3.4/8/8",
  ])('does not take "%s"', (entry) => {
    const usage = expect.objectContaining({ code: "usage" }) as Error;
    expect(() => new AllowList([entry])).toThrowError(usage);
  });
});

describe("one client more", () => {
  const limits = { ...DEFAULT_LIMITS, connections: 6, connectionsPerAddress: 3, negotiating: 4 };
  const guests = (text: string) =>
    text
      .split(" ")
      .filter(Boolean)
      .map((word) => ({
        address: word[0] === "u" ? null : word[0]!,
        negotiating: word.endsWith("?"),
        word,
      }));
  const cases: [present: string, address: string | null, outcome: string][] = [
    ["", "a", "comes in"],
    ["a a b", "a", "comes in"],
    ["a a a", "a", "connectionsPerAddress"],
    ["a a1? a2?", "a", "for a1?"],
    ["a a a", "b", "comes in"],
    ["u u u u", null, "comes in"],
    ["a1? b2? c3? d4?", "e", "for a1?"],
    ["u1? u2? u3? u4?", null, "for u1?"],
    ["v1? a2? a3? a4?", "a", "for a2?"],
    ["v1? a2? a3? a4?", "b", "for a2?"],
    ["v1? u2? u3? u4?", null, "for u2?"],
    ["u1? a2? a3? b4?", null, "for u1?"],
    ["v1? b2? a3? a4?", "b", "for b2?"],
    ["v1? w2? a3? b4?", "a", "for a3?"],
    ["v1? a2? b c d a3?", "e", "for a2?"],
    ["v1? a a a2? b c", "e", "for v1?"],
    ["a b c d e f", "g", "connections"],
    ["a b c d e f1?", "g", "for f1?"],
    ["a a a b1? c d", "a", "connectionsPerAddress"],
  ];
  it.each(cases)("where there are [%s], from %s: %s", (present, address, outcome) => {
    const admission = admit(address, guests(present), limits);
    const said = !admission.admitted
      ? admission.reason
      : admission.displaced === null
        ? "comes in"
        : `for ${admission.displaced.word}`;
    expect(said).toBe(outcome);
  });
});

/** A server on a TCP port of the loopback, and clients of it from any loopback address. */
async function serveTcp(options: Parameters<typeof serve>[1] = {}) {
  const { server, client } = await serve([exportOf(new MemoryDevice(MIB))], options);
  const port = Number(new URL(await server.listen("nbd://127.0.0.1:0")).port);
  const connect = async (localAddress: string) => {
    const socket = net.connect({ host: "127.0.0.1", port, localAddress, allowHalfOpen: true });
    onTestFinished(() => void socket.destroy());
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return RawClient.over(socket);
  };
  return { server, connect, client };
}

describe("a server with an allow list", () => {
  it("closes to others before a byte, so that they learn nothing, and serves its own", async () => {
    const { connect } = await serveTcp({ allow: new AllowList(["127.0.0.2"]) });
    const stranger = await connect("127.0.0.1");
    await expect(stranger.receive(1)).rejects.toThrow("closed after 0");
    await (await connect("127.0.0.2")).negotiate("data");
  });

  it("does not ask it of Unix sockets", async () => {
    const { client } = await serveTcp({ allow: new AllowList([]) });
    await client("data");
  });
});

describe("too many connections", () => {
  it("of one address do not keep others out", async () => {
    const { connect } = await serveTcp({ limits: { connectionsPerAddress: 2 } });
    for (let i = 0; i < 2; i++) await (await connect("127.0.0.1")).negotiate();
    await expect((await connect("127.0.0.1")).receive(1)).rejects.toThrow("closed after 0");
    await (await connect("127.0.0.2")).negotiate();
  });

  it("that only connect keep nobody out: the oldest gives way", async () => {
    const { connect, server } = await serveTcp({ limits: { negotiating: 8 } });
    const silent = await Promise.all(Array.from({ length: 8 }, () => connect("127.0.0.1")));
    await Promise.all(silent.map((one) => one.receive(18)));
    await (await connect("127.0.0.1")).negotiate();
    await silent[0]!.closed;
    expect(server.connections()).toHaveLength(1);
    await silent[7]!.option(OPTION.LIST).catch(() => undefined);
    expect(silent[7]!.socket.destroyed).toBe(false);
  });

  it("and only connect, from one address, do not break off a handshake of another", async () => {
    const { connect } = await serveTcp({ limits: { negotiating: 8 } });
    const slow = await connect("127.0.0.2");
    await slow.greet();
    for (let i = 0; i < 50; i++) await (await connect("127.0.0.1")).receive(18);
    await slow.option(OPTION.GO, encodeInfoData("data"));
    await slow.read(0, 1);
  });

  it("that come before the server is ready wait, but no more of them than may come in", async () => {
    const { connect, server } = await serveTcp({ limits: { connections: 3 } });
    const admit = server.hold();
    const early = await Promise.all(Array.from({ length: 6 }, () => connect("127.0.0.1")));
    const greeted = early.map((one) =>
      one.receive(18).then(
        () => true,
        () => false,
      ),
    );
    await sleep(100);
    admit();
    expect((await Promise.all(greeted)).filter(Boolean)).toHaveLength(3);
  });

  it("a thousand at once slow nobody down, and are forgotten when they go", async () => {
    const { connect, server } = await serveTcp();
    const served = await connect("127.0.0.2");
    await served.negotiate();
    const flood = await Promise.all(Array.from({ length: 1000 }, () => connect("127.0.0.1")));
    const began = performance.now();
    const late = await connect("127.0.0.1");
    await late.negotiate();
    for (let i = 0; i < 20; i++) await served.read(0, 4096);
    expect(performance.now() - began).toBeLessThan(2000);
    for (const one of flood) one.destroy();
    late.destroy();
    await until(() => server.connections().length === 1);
  });
});

describe("a client that says nothing", () => {
  it("after it has chosen an export is kept, by default", async () => {
    expect(DEFAULT_LIMITS.idleMs).toBe(0);
    const { client } = await serve([exportOf(new MemoryDevice(MIB))], {
      limits: { handshakeMs: 30 },
    });
    const one = await client("data");
    await sleep(120);
    await one.read(0, 1);
  });

  it("is dropped after the idle time, if there is one; one that asks in time is not", async () => {
    const { client } = await serve([exportOf(new MemoryDevice(MIB))], { limits: { idleMs: 150 } });
    const silent = await client("data");
    const busy = await client("data");
    let dropped = false;
    void silent.closed.then(() => (dropped = true));
    for (let i = 0; i < 20; i++) {
      await sleep(20);
      await busy.read(0, 1);
    }
    expect(dropped).toBe(true);
  });

  it("because the device still works for it is not idle", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)], { limits: { idleMs: 1000 } });
    const one = await client("data");
    device.gate = () => sleep(2500);
    expect((await one.exchange({ command: COMMAND.READ, length: 512 })).error).toBe(0);
  });

  it("or takes nothing of its replies is dropped after the idle time too", async () => {
    const { server, client } = await serve([exportOf(new MemoryDevice(MIB))], {
      limits: { idleMs: 100 },
    });
    const deaf = await client("data");
    deaf.socket.pause();
    for (let i = 0; i < 200; i++) deaf.request({ command: COMMAND.READ, length: MIB });
    await until(() => server.connections().length === 0);
  });
});

describe("a read-only export", () => {
  it("says so and refuses to be written, while another of the server is written", async () => {
    const devices = [new MemoryDevice(MIB), new MemoryDevice(MIB)] as const;
    const { client } = await serve([
      { ...exportOf(devices[0], "archive"), readOnly: true },
      exportOf(devices[1], "data"),
    ]);
    const reader = await client();
    expect((await reader.negotiate("archive")).flags & 2).toBe(2);
    for (const command of [COMMAND.WRITE, COMMAND.TRIM, COMMAND.WRITE_ZEROES]) {
      const payload = command === COMMAND.WRITE ? { payload: Buffer.alloc(8, 1) } : { length: 8 };
      expect((await reader.exchange({ command, ...payload })).error).toBe(EPERM);
    }
    expect(await reader.read(0, 8)).toEqual(Buffer.alloc(8));
    expect(devices[0].calls).toEqual([]);
    await (await client("data")).write(0, Buffer.alloc(8, 1));
  });
});

describe("many exports", () => {
  it("are listed with their descriptions, and each serves its own bytes", async () => {
    const names = Array.from({ length: 50 }, (_, i) => `disk ${i}`);
    const exports = names.map((name, i) => {
      const device = new MemoryDevice(4096);
      device.bytes.fill(i);
      return exportOf(device, name, `number ${i}`);
    });
    const { client } = await serve(exports);
    const one = await client();
    await one.greet();
    const replies = await one.option(OPTION.LIST);
    const listed = replies.slice(0, -1).map(({ data }) => {
      const length = data.readUInt32BE(0);
      return [data.toString("utf8", 4, 4 + length), data.toString("utf8", 4 + length)];
    });
    expect(listed).toEqual(names.map((name, i) => [name, `number ${i}`]));
    for (const [i, name] of names.entries())
      expect(await (await client(name)).read(0, 1)).toEqual(Buffer.of(i));
  });

  it("of which none has the name asked for: ERR_UNKNOWN, in words, and there is no default", async () => {
    const { client } = await serve([
      exportOf(new MemoryDevice(MIB), "a"),
      exportOf(new MemoryDevice(MIB), "b"),
    ]);
    const one = await client();
    await one.greet();
    for (const [name, words] of [
      ["c", 'no export named "c"'],
      ["", "no default export"],
    ] as const) {
      const [refusal] = await one.option(OPTION.GO, encodeInfoData(name));
      expect(refusal?.type).toBe(0x80000006);
      expect(refusal?.data.toString()).toContain(words);
    }
    await one.option(OPTION.GO, encodeInfoData("b"));
    await one.read(0, 1);
  });
});

describe("a Unix socket", () => {
  it("is its user's alone, whatever the umask, unless more is given", async () => {
    const umask = process.umask(0);
    onTestFinished(() => void process.umask(umask));
    const { path: file } = await serve([exportOf(new MemoryDevice(MIB))]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(0);
  });

  it("gets the mode and the owner it is to have", async () => {
    const gid = process.getgid?.() ?? 0;
    const folder = temporaryFolder();
    const { server } = await serve([exportOf(new MemoryDevice(MIB))], {
      socketAccess: { mode: 0o660, uid: process.getuid?.() ?? 0, gid },
    });
    const file = path.join(folder, "s");
    await server.listen(`nbd+unix:///?socket=${file}`);
    expect(statSync(file)).toMatchObject({ uid: process.getuid?.(), gid });
    expect(statSync(file).mode & 0o777).toBe(0o660);
  });
});
