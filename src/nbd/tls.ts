/**
 * TLS on sockets that clients have asked it for. Certificates, their checks and the handshake are
 * node:tls's; which versions and what proof of identity, is said here.
 */
import { constants, randomBytes } from "node:crypto";
import type net from "node:net";
import tls from "node:tls";
import type { Logger } from "pino";
import { readTlsFiles, type TlsFiles, type TlsSource } from "./tls-files.ts";

/** Called at most once each, and only one of them. */
export interface SecuringEvents {
  /** The handshake is done and the client is whom it says; the socket is not read yet. */
  readonly onSecured: (socket: tls.TLSSocket) => void;
  /** The handshake failed, and the socket is closed. */
  readonly onFailed: (reason: string) => void;
}

/** No client needs to change keys midway, or to come back without a full handshake. */
const NO_SECOND_HANDSHAKE = constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET;
/** An unknown client gets a key as well, which does not fit: it cannot tell names from keys. */
const UNKNOWN_CLIENT_KEY_BYTES = 32;

export class TlsEndpoint {
  readonly #source: TlsSource;
  readonly #logger: Logger;
  /** Never listens: connections are given to it. */
  readonly #server: tls.Server;
  readonly #securing = new WeakMap<net.Socket, SecuringEvents>();
  #files: TlsFiles;

  /** Throws "tls-invalid" if the files are not as they must be. */
  constructor(source: TlsSource, logger: Logger) {
    this.#source = source;
    this.#logger = logger;
    this.#files = readTlsFiles(source);
    this.#server = tls.createServer({
      ...this.#context(),
      ...(source.kind === "x509" && source.verifyPeer
        ? { requestCert: true, rejectUnauthorized: true }
        : {}),
      ...(source.kind === "psk"
        ? { pskCallback: (_: tls.TLSSocket, name: string) => this.#keyOf(name) }
        : {}),
    });
    this.#server.on("secureConnection", (socket) => {
      this.#take(socket)?.onSecured(socket);
    });
    this.#server.on("tlsClientError", (error, socket) => {
      this.#take(socket)?.onFailed(String(socket.authorizationError ?? error.message));
      socket.destroy();
    });
    this.#report();
  }

  /** Begins the handshake on `raw`, of which nothing more may be read or written otherwise. */
  secure(raw: net.Socket, events: SecuringEvents): void {
    this.#securing.set(raw, events);
    this.#server.emit("connection", raw);
  }

  /**
   * Reads the files again: for connections from now on. Throws "tls-invalid"; what was read before
   * stays in force then.
   */
  reload(): void {
    const files = readTlsFiles(this.#source);
    this.#files = files;
    this.#server.setSecureContext(this.#context());
    this.#report();
  }

  #context(): tls.SecureContextOptions {
    const { context } = this.#files;
    return { minVersion: "TLSv1.2", secureOptions: NO_SECOND_HANDSHAKE, ...context };
  }

  #keyOf(name: string): Buffer {
    return this.#files.keys.get(name) ?? randomBytes(UNKNOWN_CLIENT_KEY_BYTES);
  }

  /** Whose events these are. node:tls keeps the socket below under a name without a type. */
  #take(socket: tls.TLSSocket): SecuringEvents | undefined {
    const raw = (socket as unknown as { _parent: net.Socket })._parent;
    const events = this.#securing.get(raw);
    this.#securing.delete(raw);
    return events;
  }

  #report(): void {
    const { keys, validTo, warnings } = this.#files;
    const what = this.#source.kind === "x509" ? { validTo } : { keys: keys.size };
    this.#logger.info(what, "TLS: read the files");
    for (const warning of warnings) this.#logger.warn(`TLS: ${warning}`);
    if (validTo !== null && validTo.getTime() < Date.now())
      this.#logger.warn({ validTo }, "TLS: the server's certificate has expired");
  }
}

/** So much is encrypted and buffered at a time, so that no client holds up others by it. */
const SLICE_BYTES = 256 * 2 ** 10;

/** Writes all chunks, a slice at a time, and calls `sent` when they are no longer needed. */
export function sendInSlices(
  socket: net.Socket,
  chunks: readonly Uint8Array[],
  sent: () => void,
): void {
  const slices = slicesOf(chunks);
  const next = (error?: Error | null): void => {
    const slice = error ? undefined : slices.next().value;
    if (slice === undefined) return sent();
    socket.cork();
    slice.forEach((part, index) => socket.write(part, index < slice.length - 1 ? undefined : next));
    socket.uncork();
  };
  next();
}

/** The chunks' bytes in the same order, in lists of at most {@link SLICE_BYTES}. */
function* slicesOf(chunks: readonly Uint8Array[]): Generator<Uint8Array[], undefined> {
  let slice: Uint8Array[] = [];
  let room = SLICE_BYTES;
  for (const chunk of chunks) {
    for (let start = 0; start < chunk.length;) {
      const part = chunk.subarray(start, start + room);
      slice.push(part);
      start += part.length;
      room -= part.length;
      if (room > 0) continue;
      yield slice;
      slice = [];
      room = SLICE_BYTES;
    }
  }
  if (slice.length > 0) yield slice;
}
