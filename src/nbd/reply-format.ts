/**
 * What replies look like, by what was negotiated: simple, structured, or with extended headers.
 * Pure encoders. Texts of errors reach the client in the latter two.
 */
import type { Errno } from "../errors.ts";
import type { Request } from "./codec.ts";
import {
  ChunkFlag,
  ChunkType,
  EXTENDED_CHUNK_BYTES,
  EXTENDED_REPLY_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRING_BYTES_MAX,
  STRUCTURED_CHUNK_BYTES,
  STRUCTURED_REPLY_MAGIC,
} from "./constants.ts";

/** What a reply repeats of its request: halves of 64-bit numbers, as signed integers. */
export type Origin = Pick<Request, "cookieHigh" | "cookieLow" | "offsetHigh" | "offsetLow">;

export interface ReplyFormat {
  /** Not null: replies come in chunks. A READ may be answered by several. */
  readonly chunks: ChunkFormat | null;
  /** The length of success without data. */
  readonly okBytes: number;
  encodeOk(view: DataView, at: number, origin: Origin): void;
  /** The length of what stands before the data of a READ that is answered whole. */
  readonly readBytes: number;
  encodeRead(view: DataView, at: number, origin: Origin, length: number): void;
  /** A whole reply. */
  error(origin: Origin, errno: Errno, text: string): Buffer;
  /** The request that a reply of this format, written before, was for. */
  originOf(view: DataView, at: number): Origin;
}

/** One chunk of a reply; `length` is that of the payload behind the header. */
export interface ChunkFormat {
  readonly headerBytes: number;
  encodeHeader(
    view: DataView,
    at: number,
    origin: Origin,
    flags: number,
    type: number,
    length: number,
  ): void;
  /** BLOCK_STATUS chunks have 64-bit lengths and flags. */
  readonly wideStatus: boolean;
}

/** The payload of OFFSET_DATA begins with its offset. */
export const CHUNK_OFFSET_BYTES = 8;
export const HOLE_PAYLOAD_BYTES = 12;
const ERROR_PAYLOAD_BYTES = 6;

const structuredChunks: ChunkFormat = {
  headerBytes: STRUCTURED_CHUNK_BYTES,
  wideStatus: false,
  encodeHeader(view, at, origin, flags, type, length) {
    view.setUint32(at, STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, type);
    view.setInt32(at + 8, origin.cookieHigh);
    view.setInt32(at + 12, origin.cookieLow);
    view.setUint32(at + 16, length);
  },
};

const extendedChunks: ChunkFormat = {
  headerBytes: EXTENDED_CHUNK_BYTES,
  wideStatus: true,
  encodeHeader(view, at, origin, flags, type, length) {
    view.setUint32(at, EXTENDED_REPLY_MAGIC);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, type);
    view.setInt32(at + 8, origin.cookieHigh);
    view.setInt32(at + 12, origin.cookieLow);
    view.setInt32(at + 16, origin.offsetHigh);
    view.setInt32(at + 20, origin.offsetLow);
    view.setUint32(at + 24, 0);
    view.setUint32(at + 28, length);
  },
};

/** The header of a simple reply. */
function encodeSimple(view: DataView, at: number, origin: Origin, errno: number): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, errno);
  view.setInt32(at + 8, origin.cookieHigh);
  view.setInt32(at + 12, origin.cookieLow);
}

/** Offsets are not repeated: zero. */
function cookieOf(view: DataView, at: number): Origin {
  return {
    cookieHigh: view.getInt32(at + 8),
    cookieLow: view.getInt32(at + 12),
    offsetHigh: 0,
    offsetLow: 0,
  };
}

const SIMPLE: ReplyFormat = {
  chunks: null,
  okBytes: SIMPLE_REPLY_BYTES,
  encodeOk: (view, at, origin) => encodeSimple(view, at, origin, 0),
  readBytes: SIMPLE_REPLY_BYTES,
  encodeRead: (view, at, origin) => encodeSimple(view, at, origin, 0),
  error(origin, errno) {
    const bytes = Buffer.alloc(SIMPLE_REPLY_BYTES);
    encodeSimple(viewOf(bytes), 0, origin, errno);
    return bytes;
  },
  originOf: cookieOf,
};

/** Success without data stays a simple reply, which the protocol allows and is shorter. */
const STRUCTURED: ReplyFormat = {
  chunks: structuredChunks,
  okBytes: SIMPLE_REPLY_BYTES,
  encodeOk: (view, at, origin) => encodeSimple(view, at, origin, 0),
  readBytes: STRUCTURED_CHUNK_BYTES + CHUNK_OFFSET_BYTES,
  encodeRead: (view, at, origin, length) =>
    encodeDataChunk(structuredChunks, view, at, origin, length),
  error: (origin, errno, text) =>
    errorChunk(structuredChunks, origin, ChunkFlag.DONE, errno, text, null),
  originOf: cookieOf,
};

const EXTENDED: ReplyFormat = {
  chunks: extendedChunks,
  okBytes: EXTENDED_CHUNK_BYTES,
  encodeOk: (view, at, origin) =>
    extendedChunks.encodeHeader(view, at, origin, ChunkFlag.DONE, ChunkType.NONE, 0),
  readBytes: EXTENDED_CHUNK_BYTES + CHUNK_OFFSET_BYTES,
  encodeRead: (view, at, origin, length) =>
    encodeDataChunk(extendedChunks, view, at, origin, length),
  error: (origin, errno, text) =>
    errorChunk(extendedChunks, origin, ChunkFlag.DONE, errno, text, null),
  originOf: (view, at) => ({
    cookieHigh: view.getInt32(at + 8),
    cookieLow: view.getInt32(at + 12),
    offsetHigh: view.getInt32(at + 16),
    offsetLow: view.getInt32(at + 20),
  }),
};

/** Extended headers take precedence over structured replies. */
export function replyFormatOf(negotiated: { structured: boolean; extended: boolean }): ReplyFormat {
  if (negotiated.extended) return EXTENDED;
  return negotiated.structured ? STRUCTURED : SIMPLE;
}

/** The only content chunk of a reply, at the request's own offset: what precedes its data. */
function encodeDataChunk(
  format: ChunkFormat,
  view: DataView,
  at: number,
  origin: Origin,
  length: number,
): void {
  const payload = CHUNK_OFFSET_BYTES + length;
  format.encodeHeader(view, at, origin, ChunkFlag.DONE, ChunkType.OFFSET_DATA, payload);
  view.setInt32(at + format.headerBytes, origin.offsetHigh);
  view.setInt32(at + format.headerBytes + 4, origin.offsetLow);
}

/** An ERROR chunk, or ERROR_OFFSET: then `offset` is where the error was met. */
export function errorChunk(
  format: ChunkFormat,
  origin: Origin,
  flags: number,
  errno: Errno,
  text: string,
  offset: number | null,
): Buffer {
  const message = Buffer.from(text).subarray(0, STRING_BYTES_MAX);
  const tail = offset === null ? 0 : CHUNK_OFFSET_BYTES;
  const length = ERROR_PAYLOAD_BYTES + message.length + tail;
  const bytes = Buffer.alloc(format.headerBytes + length);
  const type = offset === null ? ChunkType.ERROR : ChunkType.ERROR_OFFSET;
  format.encodeHeader(viewOf(bytes), 0, origin, flags, type, length);
  let at = bytes.writeUInt32BE(errno, format.headerBytes);
  at = bytes.writeUInt16BE(message.length, at);
  at += message.copy(bytes, at);
  if (offset !== null) bytes.writeBigUInt64BE(BigInt(offset), at);
  return bytes;
}

export function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
