/** An NBD server: exports, listeners, and the connections they accept. */
import type net from "node:net";
import type { Logger } from "pino";
import { NbdRaidError } from "../errors.ts";
import { admit, type AllowList } from "./access.ts";
import type { Export } from "./block-device.ts";
import {
  Connection,
  type ConnectionContext,
  type ConnectionStatus,
  type Timers,
} from "./connection.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import {
  listenAt,
  listenDescriptor,
  type Listener,
  type ListenerEvents,
  PRIVATE_SOCKET,
  type SocketAccess,
} from "./listener.ts";
import { MemoryGuard } from "./memory-guard.ts";
import { Reported } from "./reported.ts";
import { SlabPool } from "./slab.ts";
import type { TlsMode } from "./starttls.ts";
import type { TlsEndpoint } from "./tls.ts";
import { type ExportTraffic, Traffic } from "./traffic.ts";
import { formatUri, parseUri } from "./uri.ts";

export interface NbdServerOptions {
  /** At least one; a single one is also the default export. */
  readonly exports: readonly Export[];
  readonly logger: Logger;
  readonly limits?: Partial<Limits>;
  readonly timers?: Timers;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** Called with the descriptor of each Unix socket accepted, to enlarge its buffers. */
  readonly tuneSocket?: (fd: number) => void;
  /** Without: every address may connect. */
  readonly allow?: AllowList;
  /** Of the Unix sockets that the server makes. */
  readonly socketAccess?: SocketAccess;
  /** Without: no client gets TLS. */
  readonly tls?: TlsEndpoint;
  /** Every listener requires TLS, not only those at `nbds` URIs. */
  readonly tlsRequired?: boolean;
}

const SYSTEM_TIMERS: Timers = { setTimeout, clearTimeout };

export class NbdServer {
  readonly #context: ConnectionContext;
  readonly #listeners: Listener[] = [];
  readonly #connections = new Set<Connection>();
  readonly #memoryGuard: MemoryGuard<Connection>;
  /** Of connections that have ended. */
  readonly #past: ReadonlyMap<string, Traffic>;
  #look: NodeJS.Timeout | null = null;
  readonly #reported: Reported;
  readonly #tlsRequired: boolean;
  readonly #allow: AllowList | null;
  readonly #socketAccess: SocketAccess;
  #closing: Promise<void> | null = null;
  /** Connections that wait for their server to be ready; null: none has to. */
  #held: (() => void)[] | null = null;

  constructor(options: NbdServerOptions) {
    const { exports, logger, limits, timers = SYSTEM_TIMERS, tuneSocket = () => {} } = options;
    const { tls = null, tlsRequired = false, allow = null } = options;
    this.#reported = new Reported(options.now ?? (() => performance.now()));
    this.#tlsRequired = tlsRequired;
    this.#allow = allow;
    this.#socketAccess = options.socketAccess ?? PRIVATE_SOCKET;
    const allLimits = { ...DEFAULT_LIMITS, ...limits };
    const pool = new SlabPool(allLimits.memoryBytes);
    this.#memoryGuard = new MemoryGuard(pool, allLimits);
    this.#past = new Map(exports.map(({ name }) => [name, new Traffic()]));
    this.#context = {
      exports,
      logger,
      limits: allLimits,
      timers,
      tuneSocket,
      tls,
      pool,
      onDeviceError: (...details) => this.#reportDeviceError(...details),
    };
  }

  /**
   * Listens on `nbd://HOST:PORT` or `nbd+unix:///?socket=PATH`, or `nbds` either way if its clients
   * must use TLS; returns the URI as it became (port 0 is a number now, and `nbds` says that TLS is
   * required here). Throws "address-in-use", "address-invalid" or, without TLS, "usage".
   */
  async listen(uri: string): Promise<string> {
    const { address, exportName, tls } = parseUri(uri);
    if (exportName !== "") {
      throw new NbdRaidError("address-invalid", `a listener serves every export: ${uri}`);
    }
    const mode = this.#tlsMode(tls, uri);
    return this.#add(await listenAt(address, this.#socketAccess, this.#listenerEvents(mode)), mode);
  }

  /** Takes over a listening socket (see `inheritedDescriptors`); returns its URI. */
  async listenFd(fd: number): Promise<string> {
    const mode = this.#tlsMode(false, `descriptor ${fd}`);
    return this.#add(await listenDescriptor(fd, this.#listenerEvents(mode)), mode);
  }

  /**
   * Listeners may be made, but connections wait until the returned function is called: what can
   * be refused (a port in use) is found out before anything is written.
   */
  hold(): () => void {
    this.#held = [];
    return () => {
      const held = this.#held ?? [];
      this.#held = null;
      for (const admit of held) admit();
    };
  }

  /** Clients that have chosen an export. */
  connections(): ConnectionStatus[] {
    return [...this.#connections].flatMap((connection) => connection.status() ?? []);
  }

  /** What clients have asked of each export since the server was made. */
  traffic(): ExportTraffic[] {
    const totals = new Map([...this.#past].map(([name, past]) => [name, new Traffic(past)]));
    for (const { transmission } of this.#connections) {
      if (transmission !== null) totals.get(transmission.exported.name)?.add(transmission);
    }
    return [...totals].map(([name, total]) => total.describe(name));
  }

  /**
   * Accepts no more, answers what is in flight and ESHUTDOWN to what still comes, and closes.
   * Clients that do not take their answers are dropped after `limits.closeMs`; the devices' own
   * work is always waited for.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    const { timers, limits } = this.#context;
    for (const listener of this.#listeners) listener.close();
    if (this.#look !== null) timers.clearTimeout(this.#look);
    for (const admit of this.#held ?? []) admit(); // and closes it at once
    this.#held = null;
    const connections = [...this.#connections];
    for (const connection of connections) connection.shutDown();
    const timer = timers.setTimeout(() => {
      for (const connection of connections) connection.destroy();
    }, limits.closeMs);
    await Promise.all(connections.map((connection) => connection.done));
    timers.clearTimeout(timer);
  }

  #tlsMode(required: boolean, listener: string): TlsMode {
    if (!required && !this.#tlsRequired) return this.#context.tls === null ? "off" : "optional";
    if (this.#context.tls !== null) return "required";
    throw new NbdRaidError("usage", `TLS at ${listener} needs certificates or keys`);
  }

  #listenerEvents(mode: TlsMode): ListenerEvents {
    return {
      onAccept: (accepted) => this.#accept(accepted, mode),
      onError: (error) => this.#warnOnce("accept", { err: error }, "cannot accept connections"),
    };
  }

  #add(listener: Listener, mode: TlsMode): string {
    this.#listeners.push(listener);
    return formatUri(listener.address, "", mode === "required");
  }

  #accept(accepted: net.Socket, mode: TlsMode): void {
    if (this.#closing !== null) return void accepted.destroy();
    if (this.#held !== null && this.#held.length < this.#context.limits.connections)
      return void this.#held.push(() => this.#accept(accepted, mode));
    if (this.#held !== null) return void accepted.destroy();
    if (!this.#makesRoomFor(accepted)) return void accepted.destroy();
    const connection = new Connection(accepted, mode, this.#context);
    this.#context.logger.debug({ peer: connection.peer }, "connection accepted");
    this.#connections.add(connection);
    void connection.done.then(() => this.#forget(connection));
    this.#watchMemory();
  }

  #forget(connection: Connection): void {
    const { transmission } = connection;
    const counted = this.#connections.delete(connection) && transmission !== null;
    if (counted) this.#past.get(transmission.exported.name)?.add(transmission);
  }

  /** As long as there are connections. */
  #watchMemory(): void {
    const { timers, logger } = this.#context;
    this.#look ??= timers.setTimeout(() => {
      this.#look = null;
      for (const connection of this.#memoryGuard.look(this.#connections)) {
        const { peer, heldBytes } = connection;
        logger.warn({ peer, heldBytes }, "client dropped: it holds memory that others need");
        connection.destroy();
      }
      if (this.#connections.size > 0) this.#watchMemory();
    }, this.#memoryGuard.periodMs);
    this.#look.unref();
  }

  /** False: it is closed before it hears a word. */
  #makesRoomFor({ localAddress, remoteAddress = "" }: net.Socket): boolean {
    const { limits, logger } = this.#context;
    const address = localAddress === undefined ? null : remoteAddress;
    if (address !== null && this.#allow?.allows(address) === false) {
      logger.debug({ address }, "connection not allowed");
      this.#warnOnce("allow", { address }, "an address that is not allowed tried to connect");
      return false;
    }
    const admission = admit(address, this.#connections, limits);
    if (!admission.admitted) {
      const { reason } = admission;
      this.#warnOnce(reason, { address, limit: reason }, "too many connections");
      return false;
    }
    const { displaced } = admission;
    if (displaced === null) return true;
    this.#warnOnce("negotiating", {}, "too many connections that choose no export");
    logger.debug({ peer: displaced.peer }, "connection gives way");
    this.#connections.delete(displaced);
    displaced.destroy();
    return true;
  }

  #reportDeviceError(exportName: string, command: string, error: unknown): void {
    const code = error instanceof NbdRaidError ? error.code : "io-error";
    const details = { export: exportName, command, code, err: error };
    this.#warnOnce(`${exportName} ${command} ${code}`, details, "request failed");
  }

  /** Once in a while: see {@link Reported}. */
  #warnOnce(kind: string, details: object, message: string): void {
    if (this.#reported.isNews(kind)) this.#context.logger.warn(details, message);
  }
}
