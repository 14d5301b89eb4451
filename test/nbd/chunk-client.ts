/**
 * The other side of structured replies and extended headers: takes chunks apart, and throws at
 * whatever the protocol forbids a server. Nothing here uses the server's own codec.
 */
import {
  COMMAND,
  encodeInfoData,
  encodeRequest,
  ERROR_REPLY,
  OPTION,
  PAYLOAD_LEN,
  type RawClient,
  REPLY,
  type RequestFields,
} from "./client.ts";

export type Mode = "structured" | "extended";

export const CHUNK = {
  NONE: 0,
  DATA: 1,
  HOLE: 2,
  STATUS: 5,
  STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;

export interface WideRequest extends Omit<RequestFields, "length"> {
  readonly length?: number | bigint;
}

export interface ChunkError {
  readonly errno: number;
  readonly text: string;
  /** Null: of the request as a whole. */
  readonly offset: number | null;
}

export interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

export interface ChunkedReply {
  readonly cookie: bigint;
  /** Types, in the order they came. */
  readonly types: readonly number[];
  readonly errors: readonly ChunkError[];
  /** Content chunks, by offset. */
  readonly parts: readonly {
    readonly offset: number;
    readonly hole: number;
    data: Buffer | null;
  }[];
  /** By context id. */
  readonly statuses: ReadonlyMap<number, readonly StatusExtent[]>;
  /** The first error's number, or 0. */
  readonly errno: number;
}

interface Chunk {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly payload: Buffer;
}

const STRUCTURED_MAGIC = 0x668e33ef;
const SIMPLE_MAGIC = 0x67446698;
const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

export function encodeExtendedRequest(fields: WideRequest): Buffer {
  const header = Buffer.alloc(32);
  header.writeUInt32BE(fields.magic ?? EXTENDED_REQUEST_MAGIC, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.command, 6);
  header.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeBigUInt64BE(BigInt(fields.length ?? fields.payload?.length ?? 0), 24);
  return Buffer.concat([header, fields.payload ?? Buffer.alloc(0)]);
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function encodeMetaData(name: string, queries: readonly string[]): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(queries.length);
  return Buffer.concat([withLength(name), count, ...queries.map(withLength)]);
}

function withLength(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export class ChunkClient {
  readonly raw: RawClient;
  readonly mode: Mode;
  /** Transmission flags as GO told them. */
  flags = 0;
  /** The id of each context that was selected. */
  readonly contexts = new Map<string, number>();
  readonly #requests = new Map<bigint, WideRequest>();
  readonly #collecting = new Map<bigint, Chunk[]>();
  readonly #replies = new Map<bigint, ChunkedReply>();
  #nextCookie = 1n;

  private constructor(raw: RawClient, mode: Mode) {
    this.raw = raw;
    this.mode = mode;
  }

  /** Negotiates the mode, the contexts given, and the export. */
  static async negotiate(
    raw: RawClient,
    mode: Mode,
    contexts: readonly string[] = [],
    name = "data",
  ): Promise<ChunkClient> {
    const client = new ChunkClient(raw, mode);
    await raw.greet();
    const option = mode === "extended" ? OPTION.EXTENDED_HEADERS : OPTION.STRUCTURED_REPLY;
    final(await raw.option(option));
    if (contexts.length > 0) {
      const replies = await raw.option(OPTION.SET_META_CONTEXT, encodeMetaData(name, contexts));
      final(replies);
      for (const { data } of replies.slice(0, -1)) {
        client.contexts.set(data.toString("utf8", 4), data.readUInt32BE(0));
      }
    }
    const replies = await raw.option(OPTION.GO, encodeInfoData(name));
    final(replies);
    const info = replies.find(({ data }) => data.length === 12 && data.readUInt16BE(0) === 0);
    client.flags = info?.data.readUInt16BE(10) ?? 0;
    return client;
  }

  /** The request as it goes over the wire in this mode; a WRITE has its flag added. */
  encode(fields: WideRequest): Buffer {
    if (this.mode === "structured") {
      return encodeRequest({
        ...fields,
        length: Number(fields.length ?? fields.payload?.length ?? 0),
      });
    }
    const payload = fields.payload === undefined ? 0 : PAYLOAD_LEN;
    return encodeExtendedRequest({ ...fields, flags: (fields.flags ?? 0) | payload });
  }

  request(fields: WideRequest): bigint {
    const cookie = fields.cookie ?? this.#nextCookie++;
    this.#requests.set(cookie, fields);
    this.raw.send(this.encode({ ...fields, cookie }));
    return cookie;
  }

  async exchange(fields: WideRequest): Promise<ChunkedReply> {
    return this.reply(this.request(fields));
  }

  /** All chunks of the reply to this request, whatever comes between them. */
  async reply(cookie: bigint): Promise<ChunkedReply> {
    for (;;) {
      const found = this.#replies.get(cookie);
      if (found !== undefined) {
        this.#replies.delete(cookie);
        return found;
      }
      await this.#take();
    }
  }

  /** READs and puts the chunks together; throws at an error. */
  async read(offset: number, length: number, flags = 0): Promise<Buffer> {
    const reply = await this.exchange({ command: COMMAND.READ, offset, length, flags });
    if (reply.errno !== 0) throw new Error(`READ failed: ${reply.errors[0]?.text}`);
    return assembled(reply, offset, length);
  }

  async write(offset: number, payload: Uint8Array): Promise<void> {
    const { errno, errors } = await this.exchange({ command: COMMAND.WRITE, offset, payload });
    if (errno !== 0) throw new Error(`WRITE failed: ${errors[0]?.text}`);
  }

  async #take(): Promise<void> {
    const chunk = await this.#chunk();
    const { cookie } = chunk;
    const request = this.#requests.get(cookie);
    if (request === undefined) throw new Error("a chunk for no request");
    const chunks = [...(this.#collecting.get(cookie) ?? []), chunk];
    this.#collecting.set(cookie, chunks);
    if ((chunk.flags & ~1) !== 0) throw new Error("unknown chunk flags");
    if (chunk.type === CHUNK.NONE && (chunk.flags & 1) === 0) throw new Error("NONE is the last");
    if ((chunk.flags & 1) === 0) return;
    this.#collecting.delete(cookie);
    this.#requests.delete(cookie);
    this.#replies.set(cookie, judge(cookie, chunks, request, this.mode));
  }

  /** The next chunk; a simple reply, where it is allowed, counts as NONE or ERROR. */
  async #chunk(): Promise<Chunk> {
    if (this.mode === "extended") {
      const header = await this.raw.receive(32);
      if (header.readUInt32BE(0) !== EXTENDED_REPLY_MAGIC) throw new Error("no extended reply");
      const cookie = header.readBigUInt64BE(8);
      const asked = BigInt(this.#requests.get(cookie)?.offset ?? 0);
      if (header.readBigUInt64BE(16) !== asked) throw new Error("not the offset asked for");
      const payload = await this.raw.receive(Number(header.readBigUInt64BE(24)));
      return { flags: header.readUInt16BE(4), type: header.readUInt16BE(6), cookie, payload };
    }
    const header = await this.raw.receive(16);
    const cookie = header.readBigUInt64BE(8);
    if (header.readUInt32BE(0) === SIMPLE_MAGIC) {
      if (this.#requests.get(cookie)?.command === COMMAND.READ) throw new Error("a simple READ");
      if (header.readUInt32BE(4) !== 0) throw new Error("errors have a text");
      return { flags: 1, type: CHUNK.NONE, cookie, payload: Buffer.alloc(0) };
    }
    if (header.readUInt32BE(0) !== STRUCTURED_MAGIC) throw new Error("no structured reply");
    const payload = await this.raw.receive((await this.raw.receive(4)).readUInt32BE(0));
    return { flags: header.readUInt16BE(4), type: header.readUInt16BE(6), cookie, payload };
  }
}

/** The data of a READ; throws if some of it is missing. */
export function assembled(reply: ChunkedReply, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let covered = 0;
  for (const part of reply.parts) {
    if (part.data !== null) part.data.copy(bytes, part.offset - offset);
    covered += part.data?.length ?? part.hole;
  }
  if (covered !== length) throw new Error(`${covered} of ${length} bytes`);
  return bytes;
}

function final(replies: Awaited<ReturnType<RawClient["option"]>>): void {
  const last = replies.at(-1);
  if (last?.type !== REPLY.ACK) throw new Error(`refused: ${last?.data.toString()}`);
}

/** True for an error reply to an option. */
export function isRefusal(type: number | undefined): boolean {
  return type !== undefined && type >= ERROR_REPLY.UNSUP;
}

function judge(
  cookie: bigint,
  chunks: readonly Chunk[],
  request: WideRequest,
  mode: Mode,
): ChunkedReply {
  const parts: { offset: number; hole: number; data: Buffer | null }[] = [];
  const errors: ChunkError[] = [];
  const statuses = new Map<number, StatusExtent[]>();
  for (const { type, payload } of chunks) {
    if (type === CHUNK.DATA) {
      if (payload.length < 9) throw new Error("a data chunk has data");
      parts.push({ offset: offsetAt(payload, 0), hole: 0, data: payload.subarray(8) });
    } else if (type === CHUNK.HOLE) {
      if (payload.length !== 12) throw new Error("a hole has 12 bytes");
      const hole = payload.readUInt32BE(8);
      if (hole === 0) throw new Error("a hole is not empty");
      parts.push({ offset: offsetAt(payload, 0), hole, data: null });
    } else if (type === CHUNK.ERROR || type === CHUNK.ERROR_OFFSET) {
      errors.push(errorOf(payload, type === CHUNK.ERROR_OFFSET));
    } else if (type === (mode === "extended" ? CHUNK.STATUS_EXT : CHUNK.STATUS)) {
      const [id, extents] = mode === "extended" ? wideStatus(payload) : status(payload);
      if (statuses.has(id)) throw new Error("one status chunk a context");
      statuses.set(id, extents);
    } else if (type !== CHUNK.NONE) {
      throw new Error(`chunk type ${type}`);
    }
  }
  if (request.command === COMMAND.READ) checkParts(parts, request);
  const types = chunks.map(({ type }) => type);
  return { cookie, types, errors, parts, statuses, errno: errors[0]?.errno ?? 0 };
}

/** Content chunks lie in the range that was asked for, and do not overlap. */
function checkParts(
  parts: { offset: number; hole: number; data: Buffer | null }[],
  request: WideRequest,
): void {
  const offset = Number(request.offset ?? 0);
  const end = offset + Number(request.length ?? 0);
  if (parts.length > 1 && ((request.flags ?? 0) & 4) !== 0)
    throw new Error("DF: one chunk at most");
  let at = offset;
  for (const part of parts.toSorted((a, b) => a.offset - b.offset)) {
    if (part.offset < at) throw new Error("chunks overlap, or lie outside");
    at = part.offset + (part.data?.length ?? part.hole);
  }
  if (at > end) throw new Error("a chunk goes beyond the request");
}

function errorOf(payload: Buffer, hasOffset: boolean): ChunkError {
  const length = payload.readUInt16BE(4);
  const tail = hasOffset ? 8 : 0;
  if (payload.length !== 6 + length + tail || length > 4096) throw new Error("an error's lengths");
  const errno = payload.readUInt32BE(0);
  if (errno === 0) throw new Error("an error without a number");
  const text = payload.toString("utf8", 6, 6 + length);
  return { errno, text, offset: hasOffset ? offsetAt(payload, 6 + length) : null };
}

function status(payload: Buffer): [number, StatusExtent[]] {
  if (payload.length < 12 || payload.length % 8 !== 4) throw new Error("a status chunk's length");
  const extents = Array.from({ length: (payload.length - 4) / 8 }, (_, i) => ({
    length: payload.readUInt32BE(4 + 8 * i),
    flags: payload.readUInt32BE(8 + 8 * i),
  }));
  return [payload.readUInt32BE(0), nonempty(extents)];
}

function wideStatus(payload: Buffer): [number, StatusExtent[]] {
  const count = payload.readUInt32BE(4);
  if (count === 0 || payload.length !== 8 + 16 * count) throw new Error("a status chunk's length");
  const extents = Array.from({ length: count }, (_, i) => ({
    length: offsetAt(payload, 8 + 16 * i),
    flags: offsetAt(payload, 16 + 16 * i),
  }));
  return [payload.readUInt32BE(0), nonempty(extents)];
}

function nonempty(extents: StatusExtent[]): StatusExtent[] {
  if (extents.some(({ length }) => length === 0)) throw new Error("an empty extent");
  return extents;
}

function offsetAt(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64BE(at));
}
