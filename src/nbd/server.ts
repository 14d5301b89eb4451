/** An NBD server: exports, listeners, and the connections they accept. */
import type net from "node:net";
import type { Logger } from "pino";
import { NbdRaidError } from "../errors.ts";
import type { Export } from "./block-device.ts";
import {
  Connection,
  type ConnectionContext,
  type ConnectionStatus,
  type Timers,
} from "./connection.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import { listenAt, listenDescriptor, type Listener, type ListenerEvents } from "./listener.ts";
import { SlabPool } from "./slab.ts";
import { formatUri, parseUri } from "./uri.ts";

export interface NbdServerOptions {
  /** At least one; a single one is also the default export. */
  readonly exports: readonly Export[];
  readonly logger: Logger;
  readonly limits?: Partial<Limits>;
  readonly timers?: Timers;
  /** Called with the descriptor of each Unix socket accepted, to enlarge its buffers. */
  readonly tuneSocket?: (fd: number) => void;
}

const SYSTEM_TIMERS: Timers = { setTimeout, clearTimeout };

export class NbdServer {
  readonly #context: ConnectionContext;
  readonly #listeners: Listener[] = [];
  readonly #connections = new Set<Connection>();
  readonly #reported = new Set<string>();
  readonly #listenerEvents: ListenerEvents = {
    onAccept: (accepted) => this.#accept(accepted),
    onError: (error) => this.#warnOnce("accept", { err: error }, "cannot accept connections"),
  };
  #closing: Promise<void> | null = null;
  /** Connections that wait for their server to be ready; null: none has to. */
  #held: net.Socket[] | null = null;

  constructor(options: NbdServerOptions) {
    const { exports, logger, limits, timers = SYSTEM_TIMERS, tuneSocket = () => {} } = options;
    this.#context = {
      exports,
      logger,
      limits: { ...DEFAULT_LIMITS, ...limits },
      timers,
      tuneSocket,
      pool: new SlabPool(),
      onDeviceError: (...details) => this.#reportDeviceError(...details),
    };
  }

  /**
   * Listens on `nbd://HOST:PORT` or `nbd+unix:///?socket=PATH`; returns the URI as it became (port
   * 0 is a number now). Throws "address-in-use" or "address-invalid".
   */
  async listen(uri: string): Promise<string> {
    const { address, exportName } = parseUri(uri);
    if (exportName !== "") {
      throw new NbdRaidError("address-invalid", `a listener serves every export: ${uri}`);
    }
    return this.#add(await listenAt(address, this.#listenerEvents));
  }

  /** Takes over a listening socket (see `inheritedDescriptors`); returns its URI. */
  async listenFd(fd: number): Promise<string> {
    return this.#add(await listenDescriptor(fd, this.#listenerEvents));
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
      for (const accepted of held) this.#accept(accepted);
    };
  }

  /** Clients that have chosen an export. */
  connections(): ConnectionStatus[] {
    return [...this.#connections].flatMap((connection) => connection.status() ?? []);
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
    for (const accepted of this.#held ?? []) accepted.destroy();
    const connections = [...this.#connections];
    for (const connection of connections) connection.shutDown();
    const timer = timers.setTimeout(() => {
      for (const connection of connections) connection.destroy();
    }, limits.closeMs);
    await Promise.all(connections.map((connection) => connection.done));
    timers.clearTimeout(timer);
  }

  #add(listener: Listener): string {
    this.#listeners.push(listener);
    return formatUri(listener.address);
  }

  #accept(accepted: net.Socket): void {
    const { limits, logger } = this.#context;
    if (this.#closing !== null) return void accepted.destroy();
    if (this.#held !== null) return void this.#held.push(accepted);
    if (this.#connections.size >= limits.connections) {
      accepted.destroy();
      return this.#warnOnce("connections", { limit: limits.connections }, "too many connections");
    }
    const connection = new Connection(accepted, this.#context);
    logger.debug({ peer: connection.peer }, "connection accepted");
    this.#connections.add(connection);
    void connection.done.then(() => this.#connections.delete(connection));
  }

  #reportDeviceError(exportName: string, command: string, error: unknown): void {
    const code = error instanceof NbdRaidError ? error.code : "io-error";
    const details = { export: exportName, command, code, err: error };
    this.#warnOnce(`${exportName} ${command} ${code}`, details, "request failed");
  }

  /** A failing device fails every request, and clients try again: once a kind is enough. */
  #warnOnce(kind: string, details: object, message: string): void {
    if (this.#reported.has(kind)) return;
    this.#reported.add(kind);
    this.#context.logger.warn(details, message);
  }
}
