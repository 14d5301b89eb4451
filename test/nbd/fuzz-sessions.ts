/**
 * Sessions as clients send them, with each kind of headers and each way out of the handshake; how
 * they are mutated; and what is sent in return, taken apart.
 */
import fc from "fast-check";
import { encodeExtendedRequest, encodeMetaData, type WideRequest } from "./chunk-client.ts";
import {
  COMMAND,
  DF,
  encodeFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  FAST_ZERO,
  OPTION,
  PAYLOAD_LEN,
  REPLY,
  REQ_ONE,
} from "./client.ts";

const MIB = 2 ** 20;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = COMMAND;

const HAGGLING = [
  encodeFlags(3),
  encodeOption(OPTION.LIST),
  encodeOption(77, Buffer.alloc(300)),
  encodeOption(OPTION.INFO, encodeInfoData("nothing", [1, 2])),
  encodeOption(OPTION.INFO, encodeInfoData("data", [0, 1, 2, 3])),
];
const CONTEXTS = [
  encodeOption(OPTION.LIST_META_CONTEXT, encodeMetaData("data", ["base:", "x-nbd-raid:"])),
  encodeOption(
    OPTION.SET_META_CONTEXT,
    encodeMetaData("data", ["base:allocation", "x-nbd-raid:regions"]),
  ),
];
const GO = encodeOption(OPTION.GO, encodeInfoData("data", [3]));

/** The requests of every session, in its own headers. */
function requests(encode: (fields: WideRequest) => Buffer): Buffer[] {
  return [
    encode({ command: READ, offset: 4096, length: 4096, cookie: 1n }),
    encode({ command: WRITE, offset: 0, payload: Buffer.alloc(8192, 5), cookie: 2n }),
    encode({ command: FLUSH, cookie: 3n }),
    encode({ command: TRIM, offset: 512, length: 1024, cookie: 4n }),
    encode({ command: WRITE_ZEROES, flags: 3, offset: 0, length: 65536, cookie: 5n }),
    encode({ command: CACHE, length: MIB, cookie: 6n }),
    encode({ command: WRITE, offset: 100, payload: Buffer.alloc(100_000, 6), cookie: 7n }),
    encode({ command: READ, offset: MIB - 1, length: 1, cookie: 8n }),
  ];
}

/** What needs chunks in the replies. */
function chunkedRequests(encode: (fields: WideRequest) => Buffer): Buffer[] {
  return [
    encode({ command: READ, offset: 0, length: 300_000, cookie: 9n }),
    encode({ command: READ, flags: DF, offset: 0, length: 300_000, cookie: 10n }),
    encode({ command: BLOCK_STATUS, length: 300_000, cookie: 11n }),
    encode({ command: BLOCK_STATUS, flags: REQ_ONE, offset: 512, length: 512, cookie: 12n }),
    encode({ command: WRITE_ZEROES, flags: FAST_ZERO, length: 512, cookie: 13n }),
  ];
}

const compact = (fields: WideRequest): Buffer =>
  encodeRequest({ ...fields, length: Number(fields.length ?? fields.payload?.length ?? 0) });
const extended = (fields: WideRequest): Buffer =>
  encodeExtendedRequest({
    ...fields,
    flags: (fields.flags ?? 0) | (fields.payload === undefined ? 0 : PAYLOAD_LEN),
  });
const FILTER = Buffer.from("0000000000010000" + "00000001" + "00000002", "hex");

const EXPORT_NAME = encodeOption(OPTION.EXPORT_NAME, Buffer.from("data"));
const ABORT = encodeOption(OPTION.ABORT);
const STARTTLS = encodeOption(OPTION.STARTTLS);

/** A session of each kind of headers, each way out of the handshake, and TLS asked for. */
export const RECORDED: readonly Buffer[][] = [
  [...HAGGLING, GO, ...requests(compact), compact({ command: DISC })],
  [
    ...HAGGLING,
    encodeOption(OPTION.STRUCTURED_REPLY),
    ...CONTEXTS,
    GO,
    ...requests(compact),
    ...chunkedRequests(compact),
    compact({ command: DISC }),
  ],
  [
    ...HAGGLING,
    encodeOption(OPTION.EXTENDED_HEADERS),
    ...CONTEXTS,
    GO,
    ...requests(extended),
    ...chunkedRequests(extended),
    extended({ command: BLOCK_STATUS, payload: FILTER, cookie: 14n }),
    extended({ command: TRIM, length: 2n ** 40n, cookie: 15n }),
    extended({ command: DISC }),
  ],
  [...HAGGLING, EXPORT_NAME, ...requests(compact), compact({ command: DISC })],
  [
    encodeFlags(1),
    encodeOption(OPTION.STRUCTURED_REPLY),
    ...CONTEXTS,
    EXPORT_NAME,
    ...requests(compact),
    ...chunkedRequests(compact),
    compact({ command: DISC }),
  ],
  [...HAGGLING, encodeOption(OPTION.STRUCTURED_REPLY), ...CONTEXTS, ABORT],
  [
    ...HAGGLING,
    encodeOption(OPTION.STRUCTURED_REPLY),
    STARTTLS,
    encodeOption(OPTION.EXTENDED_HEADERS),
    ...CONTEXTS,
    STARTTLS,
    GO,
    ...requests(extended),
    ...chunkedRequests(extended),
    extended({ command: DISC }),
  ],
];
const MESSAGES_MAX = Math.max(...RECORDED.map((messages) => messages.length));

export type Mutation = (messages: Buffer[]) => Buffer[];

const at = fc.nat(MESSAGES_MAX - 1);
export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
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

/** Bytes that arrive together, over and over: some few, or many. */
export const portions = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 200_000 })),
  { minLength: 1, maxLength: 8 },
);

const MAGIC = {
  option: 0x0003e889,
  simple: 0x67446698,
  structured: 0x668e33ef,
  extended: 0x6e8a278c,
};

/** The rest of the reply to EXPORT_NAME, for clients that did not say that they need none of it. */
const EXPORT_ZEROES = Buffer.alloc(124);

/**
 * Goes from reply to reply of an export of `sizeBytes`, and throws unless it ends where the last
 * one does. READs without chunks, whose replies do not tell their length, end the walk; so does
 * TLS if `intoTls` is false.
 */
export function walk(sent: Buffer, sizeBytes: number, intoTls: boolean): void {
  let chunked = false;
  let at = 18;
  while (at < sent.length) {
    switch (sent.readUInt32BE(at)) {
      case MAGIC.option: {
        const option = sent.readUInt32BE(at + 8);
        const isHeaders = option === OPTION.STRUCTURED_REPLY || option === OPTION.EXTENDED_HEADERS;
        const isAck = sent.readUInt32BE(at + 12) === REPLY.ACK;
        if (isHeaders && isAck) chunked = true;
        if (option === OPTION.STARTTLS && isAck) {
          if (!intoTls) return;
          chunked = false;
        }
        at += 20 + sent.readUInt32BE(at + 16);
        break;
      }
      case MAGIC.structured:
        at += 20 + sent.readUInt32BE(at + 16);
        break;
      case MAGIC.extended:
        at += 32 + Number(sent.readBigUInt64BE(at + 24));
        break;
      case MAGIC.simple:
        if (!chunked) return;
        at += 16;
        break;
      default: {
        const isExport = sent.readBigUInt64BE(at) === BigInt(sizeBytes);
        if (!isExport) throw new Error(`no reply at byte ${at} of ${sent.length}`);
        at += 10;
        if (sent.subarray(at, at + 124).equals(EXPORT_ZEROES)) at += 124;
      }
    }
  }
  if (at !== sent.length) throw new Error(`the last reply ends at ${at} of ${sent.length}`);
}
