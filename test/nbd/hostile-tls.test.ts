/**
 * Hostile input around STARTTLS. Each attack goes over a raw socket to a running server, and other
 * clients are none the worse for it. Certificates are a matter of test/interop/tls.test.ts.
 */
import { expect } from "vitest";
import { type Arena, attacks, type Attack } from "./arena.ts";
import { encodeMetaData } from "./chunk-client.ts";
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
import { ALICE, BOB, handshake, pskEndpoint, startTls } from "./tls-client.ts";

const { ABORT, EXPORT_NAME, GO, INFO, LIST, SET_META_CONTEXT, STARTTLS, STRUCTURED_REPLY } = OPTION;
const TLS_REQD = 0x80000005;

type Row = readonly [name: string, attack: Attack];

/** The type of the final reply. */
async function answer(one: RawClient, option: number, data?: Uint8Array): Promise<number> {
  return (await one.option(option, data)).at(-1)?.type ?? 0;
}

async function greeted(arena: Arena): Promise<RawClient> {
  const one = await arena.client();
  await one.greet();
  return one;
}

/** Promised TLS, and has not begun with it. */
async function promised(arena: Arena): Promise<RawClient> {
  const one = await greeted(arena);
  expect(await answer(one, STARTTLS)).toBe(REPLY.ACK);
  return one;
}

async function isDropped(one: RawClient): Promise<void> {
  await one.closed;
  await expect(one.receive(1)).rejects.toThrow("closed after 0");
}

/** Everything behind TLS. */
async function isServed(one: RawClient): Promise<void> {
  expect(await answer(one, GO, encodeInfoData("data"))).toBe(REPLY.ACK);
  expect(await one.read(0, 4)).toEqual(Buffer.alloc(4));
}

/** At a listener that requires TLS, and greeted. */
async function strict(arena: Arena): Promise<RawClient> {
  const uri = await arena.serving.server.listen("nbds://127.0.0.1:0");
  const one = await RawClient.connect({ host: "127.0.0.1", port: Number(new URL(uri).port) });
  await one.greet();
  return one;
}

const slips: [what: string, slip: Buffer][] = [
  ["STRUCTURED_REPLY", encodeOption(STRUCTURED_REPLY)],
  ["the first byte of an option", encodeOption(STRUCTURED_REPLY).subarray(0, 1)],
  ["GO", encodeOption(GO, encodeInfoData("data"))],
  ["a second STARTTLS", encodeOption(STARTTLS)],
  [
    "GO and a WRITE",
    Buffer.concat([
      encodeOption(GO, encodeInfoData("data")),
      encodeRequest({ command: COMMAND.WRITE, payload: Buffer.alloc(512, 0xee) }),
    ]),
  ],
];

/** Where a TLS handshake may stop: before its first byte, in a record's header, in a record. */
const stalls = ["", "160301", "16030100c8010000c40303"].map((hex) => Buffer.from(hex, "hex"));

/** What comes in plain text after the promise; no reply but a TLS alert follows. */
const plain: [what: string, bytes: Buffer][] = [
  ["an option", encodeOption(GO, encodeInfoData("data"))],
  ["a request", encodeRequest({ command: COMMAND.WRITE, payload: Buffer.alloc(512, 0xee) })],
  ["zeroes", Buffer.alloc(100_000)],
];

attacks(
  "5. STARTTLS",
  [
    [
      "with data, and then a second one behind TLS",
      async (arena) => {
        const one = await greeted(arena);
        expect(await answer(one, STARTTLS, Buffer.alloc(1))).toBe(ERROR_REPLY.INVALID);
        expect(await answer(one, STARTTLS)).toBe(REPLY.ACK);
        const secured = await handshake(one, ALICE);
        expect(await answer(secured, STARTTLS)).toBe(ERROR_REPLY.INVALID);
        await isServed(secured);
      },
    ],
    ...slips.map(([what, slip]): Row => [
      `with ${what} slipped in behind it, in plain text`,
      async (arena) => {
        const one = await arena.client();
        await one.receive(18);
        one.send(Buffer.concat([encodeFlags(3), encodeOption(STARTTLS), slip]));
        expect((await one.optionReplies(STARTTLS)).at(-1)?.type).toBe(REPLY.ACK);
        await isDropped(one);
        expect(arena.device.bytes.includes(0xee)).toBe(false);
      },
    ]),
    ...plain.map(([what, bytes]): Row => [
      `and ${what} in plain text after the answer`,
      async (arena) => {
        const one = await promised(arena);
        one.send(bytes);
        await one.closed;
        expect(arena.device.bytes.includes(0xee)).toBe(false);
        expect(arena.serving.server.connections()).toHaveLength(1);
      },
    ]),
    [
      "and a TLS handshake that stalls, wherever it does",
      async (arena) => {
        const stalled = await Promise.all(stalls.map(() => promised(arena)));
        stalled.forEach((one, i) => one.send(stalls[i]!));
        await arena.othersAreServed();
        for (const one of stalled) await isDropped(one);
      },
    ],
    ...[BOB, { ...ALICE, psk: Buffer.alloc(32, 1) }].map((key, index): Row => [
      `with ${index === 0 ? "an unknown name" : "a wrong key"}`,
      async (arena) => {
        const one = await greeted(arena);
        expect(await answer(one, STARTTLS)).toBe(REPLY.ACK);
        await expect(handshake(one, key)).rejects.toThrow();
        await one.closed;
      },
    ]),
    [
      "and gone in the midst of the TLS handshake",
      async (arena) => {
        for (const bytes of stalls) {
          const one = await promised(arena);
          await new Promise<void>((sent) => one.socket.write(bytes, () => sent()));
          one.destroy();
        }
      },
    ],
    [
      "after SET_META_CONTEXT: what was negotiated before it is gone",
      async (arena) => {
        const one = await greeted(arena);
        const contexts = encodeMetaData("data", ["base:allocation"]);
        expect(await answer(one, STRUCTURED_REPLY)).toBe(REPLY.ACK);
        expect(await answer(one, SET_META_CONTEXT, contexts)).toBe(REPLY.ACK);
        expect(await answer(one, STARTTLS)).toBe(REPLY.ACK);
        const secured = await handshake(one, ALICE);
        expect(await answer(secured, SET_META_CONTEXT, contexts)).toBe(ERROR_REPLY.INVALID);
        expect(await answer(secured, STRUCTURED_REPLY)).toBe(REPLY.ACK);
        expect(await answer(secured, GO, encodeInfoData("data"))).toBe(REPLY.ACK);
        secured.request({ command: COMMAND.BLOCK_STATUS, length: 512 });
        const reply = await secured.receive(26);
        expect([reply.readUInt16BE(6), reply.readUInt32BE(20)]).toEqual([0x8001, 22]);
      },
    ],
    [
      "required, and EXPORT_NAME before it",
      async (arena) => {
        const one = await strict(arena);
        one.send(encodeOption(EXPORT_NAME, Buffer.from("data")));
        await isDropped(one);
      },
    ],
    [
      "required, and every other option before it",
      async (arena) => {
        const one = await strict(arena);
        const data = encodeInfoData("data");
        for (const option of [LIST, INFO, GO, STRUCTURED_REPLY, SET_META_CONTEXT, 0x7654321]) {
          expect(await answer(one, option, option === LIST ? undefined : data)).toBe(TLS_REQD);
        }
        expect(await answer(one, ABORT)).toBe(REPLY.ACK);
        await isDropped(one);
      },
    ],
    [
      "that is as it should be, to show that there is TLS",
      async (arena) => isServed(await startTls(await arena.client())),
    ],
  ],
  () => ({ tls: pskEndpoint().tls, limits: { handshakeMs: 1500 } }),
);
