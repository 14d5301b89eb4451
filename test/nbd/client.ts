/**
 * A client that does exactly what it is told, down to single bytes: the other side of the wire for
 * tests. Nothing here uses the server's own codec.
 */
import net from "node:net";

export interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

export interface Reply {
  readonly cookie: bigint;
  readonly error: number;
  /** What a READ returned. */
  readonly data: Buffer;
}

export interface RequestFields {
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number;
  readonly payload?: Uint8Array;
  readonly cookie?: bigint;
  readonly magic?: number;
}

export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;
export const REPLY = { ACK: 1, SERVER: 2, INFO: 3, META_CONTEXT: 4 } as const;
export const ERROR_REPLY = {
  UNSUP: 0x80000001,
  INVALID: 0x80000003,
  UNKNOWN: 0x80000006,
  SHUTDOWN: 0x80000007,
  TOO_BIG: 0x80000009,
  EXT_HEADER_REQD: 0x8000000a,
} as const;
export const COMMAND = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;
export const FUA = 1;
export const NO_HOLE = 2;
export const DF = 4;
export const REQ_ONE = 8;
export const FAST_ZERO = 16;
export const PAYLOAD_LEN = 32;

const OPTION_MAGIC = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;

export function encodeOption(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

/** The data of INFO and GO. */
export function encodeInfoData(name: string | Buffer, infos: readonly number[] = []): Buffer {
  const nameBytes = Buffer.from(name as string);
  const data = Buffer.alloc(6 + nameBytes.length + 2 * infos.length);
  data.writeUInt32BE(nameBytes.length, 0);
  nameBytes.copy(data, 4);
  data.writeUInt16BE(infos.length, 4 + nameBytes.length);
  infos.forEach((info, i) => data.writeUInt16BE(info, 6 + nameBytes.length + 2 * i));
  return data;
}

export function encodeFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(flags);
  return bytes;
}

export function encodeRequest(fields: RequestFields): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(fields.magic ?? REQUEST_MAGIC, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.command, 6);
  header.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeUInt32BE(fields.length ?? fields.payload?.length ?? 0, 24);
  return Buffer.concat([header, fields.payload ?? Buffer.alloc(0)]);
}

/** Received bytes, handed out in the sizes asked for. */
class Inbox {
  readonly #chunks: Buffer[] = [];
  #length = 0;
  #ended = false;
  #waiting: (() => void) | null = null;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    this.#waiting?.();
  }

  end(): void {
    this.#ended = true;
    this.#waiting?.();
  }

  /** Rejects if the other side closes before `bytes` are here. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#length < bytes) {
      if (this.#ended) throw new Error(`closed after ${this.#length} of ${bytes} bytes`);
      await new Promise<void>((resolve) => (this.#waiting = resolve));
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks.length = 0;
    this.#length = all.length - bytes;
    if (this.#length > 0) this.#chunks.push(all.subarray(bytes));
    return all.subarray(0, bytes);
  }
}

export class RawClient {
  /** Resolves when the server has closed. */
  readonly closed: Promise<void>;
  readonly socket: net.Socket;
  readonly #inbox = new Inbox();
  readonly #readLengths = new Map<bigint, number>();
  readonly #replies = new Map<bigint, Reply>();
  #nextCookie = 1n;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#inbox.push(chunk));
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => {
      const ended = () => {
        this.#inbox.end();
        resolve();
      };
      socket.once("end", ended);
      socket.once("close", ended);
    });
  }

  /** `where` is a Unix socket's path or a TCP address. */
  static connect(where: string | { host: string; port: number }): Promise<RawClient> {
    const socket = net.connect(
      typeof where === "string"
        ? { path: where, allowHalfOpen: true }
        : { ...where, allowHalfOpen: true },
    );
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", () => resolve(new RawClient(socket)));
    });
  }

  /** A client on a connection that is made already. */
  static over(socket: net.Socket): RawClient {
    return new RawClient(socket);
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  receive(bytes: number): Promise<Buffer> {
    return this.#inbox.take(bytes);
  }

  /** Reads the greeting and sends the client's flags; returns the server's. */
  async greet(flags = 3): Promise<number> {
    const greeting = await this.receive(18);
    if (greeting.toString("latin1", 0, 16) !== "NBDMAGICIHAVEOPT") throw new Error("no greeting");
    this.send(encodeFlags(flags));
    return greeting.readUInt16BE(16);
  }

  /** Sends an option and returns its replies, the final one last. */
  async option(option: number, data?: Uint8Array): Promise<OptionReply[]> {
    this.send(encodeOption(option, data));
    return this.optionReplies(option);
  }

  async optionReplies(option: number): Promise<OptionReply[]> {
    const replies: OptionReply[] = [];
    for (;;) {
      const header = await this.receive(20);
      if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw new Error("no option reply");
      if (header.readUInt32BE(8) !== option) throw new Error("reply to another option");
      const type = header.readUInt32BE(12);
      replies.push({ type, data: await this.receive(header.readUInt32BE(16)) });
      if (type === REPLY.ACK || type >= 0x80000000) return replies;
    }
  }

  /** Greets and chooses an export with GO; returns its size and transmission flags. */
  async negotiate(name = ""): Promise<{ sizeBytes: bigint; flags: number }> {
    await this.greet();
    const replies = await this.option(OPTION.GO, encodeInfoData(name));
    const info = replies.find(
      ({ type, data }) => type === REPLY.INFO && data.readUInt16BE(0) === 0,
    );
    if (info === undefined) throw new Error(replies[0]?.data.toString());
    return { sizeBytes: info.data.readBigUInt64BE(2), flags: info.data.readUInt16BE(10) };
  }

  /** Sends a request; returns its cookie. */
  request(fields: RequestFields): bigint {
    const cookie = fields.cookie ?? this.#nextCookie++;
    if (fields.command === COMMAND.READ) this.#readLengths.set(cookie, fields.length ?? 0);
    this.send(encodeRequest({ ...fields, cookie }));
    return cookie;
  }

  /** The next reply, in the order they come. */
  async nextReply(): Promise<Reply> {
    const header = await this.receive(16);
    if (header.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) throw new Error("no simple reply");
    const error = header.readUInt32BE(4);
    const cookie = header.readBigUInt64BE(8);
    const length = error === 0 ? (this.#readLengths.get(cookie) ?? 0) : 0;
    this.#readLengths.delete(cookie);
    return { cookie, error, data: await this.receive(length) };
  }

  /** The reply to this request, whatever comes before it. */
  async reply(cookie: bigint): Promise<Reply> {
    for (;;) {
      const found = this.#replies.get(cookie);
      if (found !== undefined) {
        this.#replies.delete(cookie);
        return found;
      }
      const next = await this.nextReply();
      this.#replies.set(next.cookie, next);
    }
  }

  async exchange(fields: RequestFields): Promise<Reply> {
    return this.reply(this.request(fields));
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const { error, data } = await this.exchange({ command: COMMAND.READ, offset, length });
    if (error !== 0) throw new Error(`READ failed: ${error}`);
    return data;
  }

  async write(offset: number, payload: Uint8Array): Promise<void> {
    const { error } = await this.exchange({ command: COMMAND.WRITE, offset, payload });
    if (error !== 0) throw new Error(`WRITE failed: ${error}`);
  }

  /** No more requests: half-closes. */
  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}
