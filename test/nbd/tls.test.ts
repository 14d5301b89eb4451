/** TLS on the wire: who gets it, what it forgets, and that it serves as plain connections do. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type tls from "node:tls";
import { describe, expect, it } from "vitest";
import {
  COMMAND,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  ERROR_REPLY,
  OPTION,
  RawClient,
  REPLY,
} from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, until } from "./serving.ts";
import { SessionHarness } from "./session-harness.ts";
import { ALICE, BOB, handshake, keyLine, pskEndpoint, startTls } from "./tls-client.ts";

const KIB = 1024;
const MIB = 2 ** 20;
const POLICY = 0x80000002;
const TLS_REQD = 0x80000005;
const STRUCTURED_REPLY = 8;
const SET_META_CONTEXT = 10;

const data = () => [exportOf(new MemoryDevice(4 * MIB))];
const serveTls = (options: object = {}) => serve(data(), { tls: pskEndpoint().tls, ...options });
const typeOf = (replies: readonly { type: number }[]) => replies.at(-1)?.type;

/** Everything behind TLS: negotiates `data`, writes and reads it back. */
async function expectServed(client: RawClient): Promise<void> {
  const replies = await client.option(OPTION.GO, encodeInfoData("data"));
  expect(typeOf(replies)).toBe(REPLY.ACK);
  const payload = randomBytes(3 * KIB);
  await client.write(1000, payload);
  expect(await client.read(1000, payload.length)).toEqual(payload);
}

describe("a server without TLS", () => {
  it("refuses STARTTLS by policy, says so, and goes on", async () => {
    const { client } = await serve(data());
    const one = await client();
    await one.greet();
    const [refusal] = await one.option(OPTION.STARTTLS);
    expect(refusal?.type).toBe(POLICY);
    expect(refusal?.data.toString()).toContain("TLS");
    await expectServed(one);
  });

  it("cannot listen where TLS is required", async () => {
    const { server } = await serve(data());
    await expect(server.listen("nbds://127.0.0.1:0")).rejects.toMatchObject({ code: "usage" });
  });
});

describe("a server that offers TLS", () => {
  it.each(["TLSv1.2", "TLSv1.3"] as const)("serves over %s, and tells it", async (version) => {
    const { server, client } = await serveTls();
    const only = { minVersion: version, maxVersion: version, ciphers: "kECDHEPSK:@SECLEVEL=0" };
    const secured = await startTls(await client(), ALICE, only);
    await expectServed(secured);
    expect((secured.socket as tls.TLSSocket).getProtocol()).toBe(version);
    expect(server.connections()).toMatchObject([{ export: "data", tls: true }]);
  });

  it("serves clients that want none, and tells that too", async () => {
    const { server, client } = await serveTls();
    const plain = await client();
    await plain.greet();
    await expectServed(plain);
    expect(server.connections()).toMatchObject([{ tls: false }]);
  });

  it("does not speak TLS 1.1", async () => {
    const { client } = await serveTls();
    const old = { minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0" };
    await expect(startTls(await client(), ALICE, old as never)).rejects.toThrow();
  });

  it("refuses STARTTLS with data, and a second one", async () => {
    const { client } = await serveTls();
    const one = await client();
    await one.greet();
    expect(typeOf(await one.option(OPTION.STARTTLS, Buffer.alloc(1)))).toBe(ERROR_REPLY.INVALID);
    expect(typeOf(await one.option(OPTION.STARTTLS))).toBe(REPLY.ACK);
    const secured = await handshake(one, ALICE);
    expect(typeOf(await secured.option(OPTION.STARTTLS))).toBe(ERROR_REPLY.INVALID);
    await expectServed(secured);
  });

  it("lets a client take leave: requests in flight are answered behind a half-close", async () => {
    const device = new MemoryDevice(MIB);
    const { client } = await serve([exportOf(device)], { tls: pskEndpoint().tls });
    const secured = await startTls(await client());
    await secured.option(OPTION.GO, encodeInfoData("data"));
    let open = () => {};
    device.gate = () => new Promise((resolve) => (open = resolve));
    const pending = secured.request({ command: COMMAND.READ, length: 512 });
    secured.end();
    await until(() => device.calls.length === 1);
    open();
    expect((await secured.reply(pending)).error).toBe(0);
    await secured.closed;
  });

  it("moves much data both ways, in requests of every size", async () => {
    const { client } = await serveTls();
    const secured = await startTls(await client());
    await secured.option(OPTION.GO, encodeInfoData("data"));
    for (const bytes of [1, 16 * KIB, 16 * KIB + 1, 256 * KIB, MIB + 3, 3 * MIB]) {
      const payload = randomBytes(bytes);
      await secured.write(77, payload);
      expect((await secured.read(77, bytes)).equals(payload)).toBe(true);
    }
    const cookies = Array.from({ length: 200 }, (_, i) =>
      secured.request({ command: COMMAND.READ, offset: i * 4 * KIB, length: 64 * KIB }),
    );
    for (const cookie of cookies) expect((await secured.reply(cookie)).error).toBe(0);
  });
});

describe("a server that requires TLS", () => {
  it("answers TLS_REQD to every option before it but ABORT, unknown ones too", async () => {
    const { client } = await serveTls({ tlsRequired: true });
    const one = await client();
    await one.greet();
    const name = encodeInfoData("data");
    const options: [number, Buffer?][] = [
      [OPTION.LIST],
      [OPTION.INFO, name],
      [OPTION.GO, name],
      [STRUCTURED_REPLY],
      [SET_META_CONTEXT, Buffer.alloc(8)],
      [0x7654321, Buffer.alloc(100)],
    ];
    for (const [option, bytes] of options) {
      const replies = await one.option(option, bytes);
      expect(replies.map(({ type }) => type)).toEqual([TLS_REQD]);
    }
    expect(typeOf(await one.option(OPTION.ABORT))).toBe(REPLY.ACK);
    await one.closed;
  });

  it("ends at EXPORT_NAME before it, without a byte", async () => {
    const { client } = await serveTls({ tlsRequired: true });
    const one = await client();
    await one.greet();
    one.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from("data")));
    await one.closed;
    await expect(one.receive(1)).rejects.toThrow("closed after 0");
  });

  it("serves behind it, EXPORT_NAME too, and TLS_REQD is never answered there", async () => {
    const { client } = await serveTls({ tlsRequired: true });
    await expectServed(await startTls(await client()));
    const other = await startTls(await client());
    expect(typeOf(await other.option(0x7654321))).toBe(ERROR_REPLY.UNSUP);
    other.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from("data")));
    expect((await other.receive(10)).readBigUInt64BE(0)).toBe(BigInt(4 * MIB));
    expect(await other.read(0, 4)).toEqual(Buffer.alloc(4));
  });

  it("may require it of one listener only: at an nbds URI", async () => {
    const { server, client } = await serveTls();
    const uri = await server.listen("nbds://127.0.0.1:0");
    expect(uri).toMatch(/^nbds:\/\/127\.0\.0\.1:\d+$/);
    const strict = await RawClient.connect({ host: "127.0.0.1", port: Number(new URL(uri).port) });
    await strict.greet();
    expect(typeOf(await strict.option(OPTION.LIST))).toBe(TLS_REQD);
    strict.destroy();
    const plain = await client();
    await plain.greet();
    await expectServed(plain);
  });
});

describe("what came before TLS", () => {
  it("is forgotten: structured replies and contexts are to be asked for again", async () => {
    const { client } = await serveTls();
    const one = await client();
    await one.greet();
    expect(typeOf(await one.option(STRUCTURED_REPLY))).toBe(REPLY.ACK);
    expect(typeOf(await one.option(OPTION.STARTTLS))).toBe(REPLY.ACK);
    const secured = await handshake(one, ALICE);
    const contexts = Buffer.concat([
      Buffer.from([0, 0, 0, 4]),
      Buffer.from("data"),
      Buffer.alloc(4),
    ]);
    expect(typeOf(await secured.option(SET_META_CONTEXT, contexts))).toBe(ERROR_REPLY.INVALID);
    await expectServed(secured); // by simple replies, which the client of this test reads
  });

  it("does not count if it was slipped in behind STARTTLS: the connection ends", async () => {
    const slips = [
      encodeOption(STRUCTURED_REPLY),
      encodeOption(OPTION.GO, encodeInfoData("data")),
      encodeOption(STRUCTURED_REPLY).subarray(0, 1),
      encodeRequest({ command: COMMAND.WRITE, payload: Buffer.alloc(16, 0xee) }),
    ];
    for (const slip of slips) {
      const device = new MemoryDevice(MIB);
      const { client } = await serve([exportOf(device)], { tls: pskEndpoint().tls });
      const one = await client();
      await one.receive(18);
      one.send(Buffer.concat([encodeFlags(3), encodeOption(OPTION.STARTTLS), slip]));
      await one.closed;
      expect(device.calls).toEqual([]);
      expect(device.bytes.every((byte) => byte === 0)).toBe(true);
    }
  });

  it("does not count at whatever byte the packets are cut", () => {
    const slip = encodeOption(OPTION.LIST);
    const plain = Buffer.concat([encodeFlags(3), encodeOption(OPTION.STARTTLS)]);
    for (let cut = 1; cut < plain.length; cut++) {
      const harness = new SessionHarness(data(), {}, "optional");
      harness.reading = false; // the answer to STARTTLS is still on its way
      harness.feed(plain.subarray(0, cut));
      harness.feed(Buffer.concat([plain.subarray(cut), slip]));
      harness.reading = true;
      harness.confirm();
      expect({ securing: harness.securing, ended: harness.ended }).toEqual({
        securing: false,
        ended: "plain text behind STARTTLS",
      });
    }
  });

  it("plain text after the answer fails the TLS handshake, and nothing of it is done", async () => {
    const { server, client } = await serveTls();
    const one = await client();
    await one.greet();
    expect(typeOf(await one.option(OPTION.STARTTLS))).toBe(REPLY.ACK);
    one.send(encodeOption(OPTION.GO, encodeInfoData("data")));
    await one.closed;
    expect(server.connections()).toEqual([]);
  });
});

describe("a TLS handshake", () => {
  it.each([
    ["a wrong key", { ...ALICE, psk: Buffer.alloc(32, 1) }],
    ["an unknown name", BOB],
    ["no name", { identity: "", psk: ALICE.psk }],
  ])("with %s fails, alike in each version, and others are served", async (_what, key) => {
    const { client } = await serveTls();
    const errors: string[] = [];
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const options = { maxVersion, ciphers: "kECDHEPSK:TLS_AES_128_GCM_SHA256" };
      const failing = startTls(await client(), key, options);
      errors.push(
        await failing.then(
          () => "served",
          (error: Error & { code: string }) => error.code,
        ),
      );
    }
    expect(errors).not.toContain("served");
    await expectServed(await startTls(await client()));
  });

  it("an unknown name and a wrong key look the same", async () => {
    const { client } = await serveTls();
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const options = { maxVersion, ciphers: "kECDHEPSK:TLS_AES_128_GCM_SHA256" };
      const codes: string[] = [];
      for (const key of [BOB, { ...ALICE, psk: Buffer.alloc(32, 1) }]) {
        const failing = startTls(await client(), key, options);
        codes.push(
          await failing.then(
            () => "",
            (error: Error & { code: string }) => error.code,
          ),
        );
      }
      expect(codes[0]).toBe(codes[1]);
      expect(codes[0]).not.toBe("");
    }
  });

  it("that stalls is ended by the limit on the whole handshake", async () => {
    const { client } = await serveTls({ limits: { handshakeMs: 80 } });
    const one = await client();
    await one.greet();
    await one.option(OPTION.STARTTLS);
    one.send(Buffer.from([22, 3, 1])); // the beginning of a TLS record
    await one.closed;
  });

  it("given up at any byte harms nobody", async () => {
    const { server, client } = await serveTls();
    const other = await startTls(await client());
    await other.option(OPTION.GO, encodeInfoData("data"));
    const hello = Buffer.concat([
      Buffer.from([22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]),
      randomBytes(194),
    ]);
    for (let bytes = 0; bytes < hello.length; bytes += 11) {
      const one = await client();
      await one.greet();
      await one.option(OPTION.STARTTLS);
      one.send(hello.subarray(0, bytes));
      if (bytes % 2 === 0) one.destroy();
      else one.end();
      expect(await other.read(0, 16)).toEqual(Buffer.alloc(16));
    }
    await until(() => server.connections().length === 1);
  });

  it("that the client resets before it reads the answer harms nobody", async () => {
    const { server, client } = await serveTls();
    const port = Number(new URL(await server.listen("nbd://127.0.0.1:0")).port);
    const hasty = Buffer.concat([encodeFlags(3), encodeOption(OPTION.STARTTLS)]);
    for (let round = 0; round < 60; round++) {
      const one = await RawClient.connect({ host: "127.0.0.1", port });
      await new Promise<void>((sent) => one.socket.write(hasty, () => sent()));
      if (round % 3 > 0) await sleep(round % 3);
      one.socket.resetAndDestroy();
    }
    await expectServed(await startTls(await client()));
  });

  it("under way when the server closes does not keep it", async () => {
    const { server, client } = await serveTls();
    const one = await client();
    await one.greet();
    await one.option(OPTION.STARTTLS);
    const began = performance.now();
    await server.close();
    expect(performance.now() - began).toBeLessThan(3000);
  });
});

describe("a client behind TLS that does not read", () => {
  it("is bounded in what it holds, and keeps no one else waiting", async () => {
    const { server, client } = await serveTls({ limits: { bytesInFlight: 2 * MIB, closeMs: 100 } });
    const deaf = await startTls(await client());
    await deaf.option(OPTION.GO, encodeInfoData("data"));
    const other = await startTls(await client());
    await other.option(OPTION.GO, encodeInfoData("data"));
    deaf.socket.pause();
    for (let i = 0; i < 500; i++) deaf.request({ command: COMMAND.READ, length: 256 * KIB });
    await sleep(50);
    for (let i = 0; i < 50; i++) await other.read(0, 4 * KIB);
    expect(server.connections()[0]?.readBytes).toBeLessThan(16 * MIB);
    await server.close();
  });
});

describe("keys read again", () => {
  it("count for clients to come; who is in stays in", async () => {
    const { tls, file } = pskEndpoint();
    const { client } = await serve(data(), { tls });
    const alice = await startTls(await client());
    await alice.option(OPTION.GO, encodeInfoData("data"));
    writeFileSync(file, keyLine(BOB));
    tls.reload();
    await expect(startTls(await client(), ALICE)).rejects.toThrow();
    await expectServed(await startTls(await client(), BOB));
    expect(await alice.read(0, 1)).toBeDefined();
  });

  it("that are no good change nothing", async () => {
    const { tls, file } = pskEndpoint();
    const { client } = await serve(data(), { tls });
    writeFileSync(file, "nonsense\n");
    expect(() => tls.reload()).toThrow(expect.objectContaining({ code: "tls-invalid" }));
    await expectServed(await startTls(await client(), ALICE));
  });
});
