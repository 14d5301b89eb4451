/** The socket below a session: reads into its buffers, writes its replies, times it out. */
import net from "node:net";
import type { Logger } from "pino";
import { assert } from "../errors.ts";
import type { Limits } from "./limits.ts";
import { Session, type SessionContext } from "./session.ts";
import type { TlsMode } from "./starttls.ts";
import { sendInSlices, type TlsEndpoint } from "./tls.ts";
import type { Transmission } from "./transmission.ts";

/** Timers are handed in. */
export interface Timers {
  setTimeout(callback: () => void, ms: number): NodeJS.Timeout;
  clearTimeout(timer: NodeJS.Timeout): void;
}

export interface ConnectionContext {
  readonly exports: SessionContext["exports"];
  readonly pool: SessionContext["pool"];
  readonly onDeviceError: SessionContext["onDeviceError"];
  readonly limits: Limits;
  readonly timers: Timers;
  readonly logger: Logger;
  /** Called with the descriptor of each Unix socket, to enlarge its buffers. */
  readonly tuneSocket: (fd: number) => void;
  /** Null: no client gets TLS. */
  readonly tls: TlsEndpoint | null;
}

/** As `connections` of the status document. */
export interface ConnectionStatus {
  export: string;
  peer: string;
  tls: boolean;
  inFlight: number;
  readBytes: number;
  writtenBytes: number;
}

/** The part of Node's stream handle that is used; it has no public type. */
interface Handle {
  readonly fd: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Of those, what the kernel has not taken yet. */
  readonly writeQueueSize: number;
}

/** After the goodbye a client gets this long to hang up: closing at once could lose replies. */
const LINGER_MS = 500;

export class Connection {
  /** Resolves when the socket is closed and the device has finished what was asked of it. */
  readonly done: Promise<void>;
  readonly peer: string;
  /** Null: a Unix socket. */
  readonly address: string | null;
  /** What the client is heard and answered by: what it connected to, later TLS on top of that. */
  #socket: net.Socket;
  #secured = false;
  /** What TLS is on top of, too. */
  readonly #handle: Handle;
  readonly #session: Session;
  readonly #context: ConnectionContext;
  #timer: NodeJS.Timeout;
  readonly #onInputEnd = () => this.#session.inputEnded();
  readonly #onError = (error: Error) =>
    this.#context.logger.debug({ peer: this.peer, err: error }, "connection lost");

  /** Takes over the handle of `accepted`, which must be paused. */
  constructor(accepted: net.Socket, tlsMode: TlsMode, context: ConnectionContext) {
    this.#context = context;
    const { localAddress, remoteAddress, remotePort } = accepted;
    const { handshakeMs, keepAliveMs } = context.limits;
    const isTcp = localAddress !== undefined;
    this.peer = isTcp ? `${remoteAddress}:${remotePort}` : "unix";
    this.address = isTcp ? (remoteAddress ?? "") : null;
    let onDone = () => {};
    this.done = new Promise((resolve) => (onDone = resolve));
    this.#session = new Session(this.#transport(), {
      exports: context.exports,
      pool: context.pool,
      limits: context.limits,
      now: () => performance.now(),
      tlsMode,
      onDeviceError: context.onDeviceError,
      onNegotiated: () => {
        context.timers.clearTimeout(this.#timer);
        this.#dropWhenIdle();
      },
      onDone,
    });
    const handle = (this.#handle = detachHandle(accepted));
    this.#socket = this.#wrap(handle);
    this.#timer = this.#destroyAfter(handshakeMs, "handshake timed out");
    if (isTcp) this.#socket.setNoDelay(true).setKeepAlive(keepAliveMs > 0, keepAliveMs);
    else context.tuneSocket(handle.fd);
    this.#session.start();
  }

  get heldBytes(): number {
    return this.#session.heldBytes;
  }

  get movedBytes(): number {
    if (this.#socket.destroyed) return 0;
    const { bytesRead, bytesWritten, writeQueueSize } = this.#handle;
    return bytesRead + bytesWritten - writeQueueSize;
  }

  get owing(): boolean {
    return this.#session.owing;
  }

  get served(): boolean {
    return (this.#session.transmission?.inFlight ?? 0) > 0;
  }

  get negotiating(): boolean {
    return this.#session.transmission === null;
  }

  /** Null while the client negotiates. */
  status(): ConnectionStatus | null {
    const transmission = this.#session.transmission;
    if (transmission === null) return null;
    const { exported, inFlight, readBytes, writtenBytes } = transmission;
    return {
      export: exported.name,
      peer: this.peer,
      tls: this.#secured,
      inFlight,
      readBytes,
      writtenBytes,
    };
  }

  /** What the client has asked of its export so far; null while it negotiates. */
  get transmission(): Transmission | null {
    return this.#session.transmission;
  }

  /** Answers what is in flight and closes; see {@link done}. */
  shutDown(): void {
    this.#session.shutDown();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Reads land where the session wants them, without a stream's buffering. */
  #wrap(handle: Handle): net.Socket {
    const session = this.#session;
    const options = {
      handle,
      allowHalfOpen: true,
      onread: {
        buffer: () => session.landing(),
        callback: (bytes: number) => {
          session.received(bytes);
          return true;
        },
      },
    };
    const socket = new net.Socket(options);
    socket.on("end", this.#onInputEnd).on("error", this.#onError);
    socket.on("close", () => {
      this.#context.timers.clearTimeout(this.#timer);
      session.closed();
    });
    return socket;
  }

  #transport() {
    return {
      send: (chunks: readonly Uint8Array[], sent: () => void) => this.#send(chunks, sent),
      pause: () => void this.#socket.pause(),
      resume: () => void this.#socket.resume(),
      startTls: () => this.#startTls(),
      end: (reason: string) => this.#part(reason),
    };
  }

  /** The socket below goes on to be closed with the client, and is not read any more. */
  #startTls(): void {
    const { tls, logger } = this.#context;
    assert(tls !== null, "a client is promised TLS only where there is any");
    const raw = this.#socket.off("end", this.#onInputEnd);
    if (raw.destroyed) return; // while the answer was on its way
    tls.secure(raw, {
      onSecured: (socket) => {
        logger.debug(
          { peer: this.peer, protocol: socket.getProtocol(), cipher: socket.getCipher().name },
          "TLS stands",
        );
        socket.on("end", this.#onInputEnd).on("error", this.#onError);
        this.#socket = socket;
        this.#secured = true;
        this.#session.secured();
        socket.on("data", (bytes: Buffer) => this.#deliver(bytes));
      },
      onFailed: (reason) => logger.debug({ peer: this.peer, reason }, "TLS handshake failed"),
    });
  }

  #deliver(bytes: Buffer): void {
    for (let start = 0; start < bytes.length;) {
      const landing = this.#session.landing();
      const taken = bytes.copy(landing, 0, start);
      this.#session.received(taken);
      start += taken;
    }
  }

  #send(chunks: readonly Uint8Array[], sent: () => void): void {
    // While node:stream gives up the writes behind one that failed, it would call back twice for
    // those that begin meanwhile.
    if (this.#socket.errored !== null || this.#socket.destroyed) return void setImmediate(sent);
    if (this.#secured) return sendInSlices(this.#socket, chunks, sent);
    const last = chunks.length - 1;
    if (last > 0) this.#socket.cork();
    chunks.forEach((chunk, index) => this.#socket.write(chunk, index === last ? sent : undefined));
    if (last > 0) this.#socket.uncork();
  }

  /** What the device is still at is not the client's silence. */
  #dropWhenIdle(): void {
    const { limits, logger } = this.#context;
    if (limits.idleMs === 0) return;
    const socket = this.#socket;
    socket.setTimeout(limits.idleMs).on("timeout", () => {
      if (this.served) return void socket.setTimeout(limits.idleMs);
      logger.debug({ peer: this.peer, reason: "idle" }, "connection dropped");
      socket.destroy();
    });
  }

  #part(reason: string): void {
    const { logger, timers } = this.#context;
    logger.debug({ peer: this.peer, reason }, "connection ends");
    timers.clearTimeout(this.#timer);
    this.#timer = this.#destroyAfter(LINGER_MS, "the client does not hang up");
    this.#socket.end();
  }

  #destroyAfter(ms: number, reason: string): NodeJS.Timeout {
    const { logger, timers } = this.#context;
    return timers.setTimeout(() => {
      logger.debug({ peer: this.peer, reason }, "connection dropped");
      this.#socket.destroy();
    }, ms);
  }
}

/** Leaves `accepted` empty: its handle has one owner, and the listener counts it as gone. */
function detachHandle(accepted: net.Socket): Handle {
  const owner = accepted as unknown as { _handle: Handle | null };
  const handle = owner._handle;
  if (handle === null) throw new Error("an accepted socket has a handle");
  owner._handle = null;
  accepted.destroy();
  return handle;
}
