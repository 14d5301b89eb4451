/** Bytes to values and back. Pure; the callers check lengths and meanings. */
import {
  BlockSize,
  EXTENDED_REQUEST_MAGIC,
  GREETING_BYTES,
  GREETING_MAGIC,
  HandshakeFlag,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  REQUEST_MAGIC,
  TransmissionFlag,
} from "./constants.ts";
import type { Export } from "./block-device.ts";
import { contextsOf, type Negotiated } from "./negotiated.ts";

/** A transmission request. One object is filled again and again: copy what must last. */
export interface Request {
  flags: number;
  command: number;
  /** The cookie is opaque and only echoed: two halves, as signed integers. */
  cookieHigh: number;
  cookieLow: number;
  /** The offset as it came: extended replies echo it. */
  offsetHigh: number;
  offsetLow: number;
  /** Exact below 2^53; larger ones are rounded, and still larger than any device. */
  offset: number;
  length: number;
}

export function emptyRequest(): Request {
  return {
    flags: 0,
    command: 0,
    cookieHigh: 0,
    cookieLow: 0,
    offsetHigh: 0,
    offsetLow: 0,
    offset: 0,
    length: 0,
  };
}

/** Fills `into` from the 28 bytes at `at`; false if they do not start a request. */
export function decodeRequest(view: DataView, at: number, into: Request): boolean {
  if (view.getUint32(at) !== REQUEST_MAGIC) return false;
  decodeCommon(view, at, into);
  into.length = view.getUint32(at + 24);
  return true;
}

/** The same for the 32 bytes of a request with an extended header. */
export function decodeExtendedRequest(view: DataView, at: number, into: Request): boolean {
  if (view.getUint32(at) !== EXTENDED_REQUEST_MAGIC) return false;
  decodeCommon(view, at, into);
  into.length = view.getUint32(at + 24) * 2 ** 32 + view.getUint32(at + 28);
  return true;
}

function decodeCommon(view: DataView, at: number, into: Request): void {
  into.flags = view.getUint16(at + 4);
  into.command = view.getUint16(at + 6);
  into.cookieHigh = view.getInt32(at + 8);
  into.cookieLow = view.getInt32(at + 12);
  into.offsetHigh = view.getInt32(at + 16);
  into.offsetLow = view.getInt32(at + 20);
  into.offset = (into.offsetHigh >>> 0) * 2 ** 32 + (into.offsetLow >>> 0);
}

export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(GREETING_BYTES);
  writePair(bytes, 0, GREETING_MAGIC);
  writePair(bytes, 8, OPTION_MAGIC);
  bytes.writeUInt16BE(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES, 16);
  return bytes;
}

export interface OptionHeader {
  readonly option: number;
  readonly length: number;
}

/** The 16 bytes at `at`, or null if they do not start an option. */
export function decodeOptionHeader(view: DataView, at: number): OptionHeader | null {
  const magic =
    view.getUint32(at) === OPTION_MAGIC[0] && view.getUint32(at + 4) === OPTION_MAGIC[1];
  if (!magic) return null;
  return { option: view.getUint32(at + 8), length: view.getUint32(at + OPTION_HEADER_BYTES - 4) };
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array): Buffer {
  const bytes = Buffer.alloc(OPTION_REPLY_HEADER_BYTES + data.length);
  writePair(bytes, 0, OPTION_REPLY_MAGIC);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.length, 16);
  bytes.set(data, OPTION_REPLY_HEADER_BYTES);
  return bytes;
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO: name length, name, count, that many info types. */
export function decodeInfoRequest(data: Buffer): { name: Buffer; infos: number[] } | null {
  if (data.length < 6) return null;
  const nameLength = data.readUInt32BE(0);
  if (nameLength > data.length - 6) return null;
  const countAt = 4 + nameLength;
  const count = data.readUInt16BE(countAt);
  if (data.length !== countAt + 2 + 2 * count) return null;
  const infos = Array.from({ length: count }, (_, i) => data.readUInt16BE(countAt + 2 + 2 * i));
  return { name: data.subarray(4, countAt), infos };
}

/** The data of NBD_REP_SERVER. */
export function encodeListEntry(name: string, description: string): Buffer {
  const nameBytes = Buffer.from(name);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(nameBytes.length);
  return Buffer.concat([length, nameBytes, Buffer.from(description)]);
}

/** The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: a name, and queries. */
export function decodeMetaRequest(data: Buffer): { name: Buffer; queries: Buffer[] } | null {
  const name = lengthAndBytes(data, 0);
  if (name === null || name.end + 4 > data.length) return null;
  const count = data.readUInt32BE(name.end);
  const queries: Buffer[] = [];
  let at = name.end + 4;
  // Each takes four bytes at least, so that the data bounds the loop.
  for (let i = 0; i < count; i++) {
    const query = lengthAndBytes(data, at);
    if (query === null) return null;
    queries.push(query.bytes);
    at = query.end;
  }
  return at === data.length ? { name: name.bytes, queries } : null;
}

function lengthAndBytes(data: Buffer, at: number): { bytes: Buffer; end: number } | null {
  if (at + 4 > data.length) return null;
  const end = at + 4 + data.readUInt32BE(at);
  return end > data.length ? null : { bytes: data.subarray(at + 4, end), end };
}

/** The data of NBD_REP_META_CONTEXT. */
export function encodeMetaContext(id: number, name: string): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(id);
  return Buffer.concat([head, Buffer.from(name)]);
}

/** Size and transmission flags, as in NBD_INFO_EXPORT and the reply to NBD_OPT_EXPORT_NAME. */
export function encodeExport(exported: Export, negotiated: Negotiated): Buffer {
  const bytes = Buffer.alloc(10);
  bytes.writeBigUInt64BE(BigInt(exported.device.sizeBytes), 0);
  bytes.writeUInt16BE(transmissionFlags(exported, negotiated), 8);
  return bytes;
}

export function encodeBlockSize(): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE(BlockSize.MINIMUM, 0);
  bytes.writeUInt32BE(BlockSize.PREFERRED, 4);
  bytes.writeUInt32BE(BlockSize.PAYLOAD_MAX, 8);
  return bytes;
}

/** The data of NBD_REP_INFO: `type` (see {@link Info}) and its body. */
export function encodeInfo(type: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type);
  return Buffer.concat([head, body]);
}

function transmissionFlags(exported: Export, negotiated: Negotiated): number {
  const { structured, extended } = negotiated;
  const filters = extended && contextsOf(negotiated, exported).length > 0;
  return (
    TransmissionFlag.HAS_FLAGS |
    (exported.device.readOnly || exported.readOnly === true ? TransmissionFlag.READ_ONLY : 0) |
    TransmissionFlag.SEND_FLUSH |
    TransmissionFlag.SEND_FUA |
    TransmissionFlag.SEND_TRIM |
    TransmissionFlag.SEND_WRITE_ZEROES |
    (structured || extended ? TransmissionFlag.SEND_DF : 0) |
    TransmissionFlag.CAN_MULTI_CONN |
    TransmissionFlag.SEND_CACHE |
    TransmissionFlag.SEND_FAST_ZERO |
    (filters ? TransmissionFlag.BLOCK_STATUS_PAYLOAD : 0)
  );
}

function writePair(bytes: Buffer, at: number, [high, low]: readonly [number, number]): void {
  bytes.writeUInt32BE(high, at);
  bytes.writeUInt32BE(low, at + 4);
}
