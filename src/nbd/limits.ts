/** What one client, or all of them, may take. Every queue and buffer of the wire is bounded. */
export interface Limits {
  /**
   * Connections at a time, those still negotiating included. One more takes the place of one that
   * is still negotiating (see `admit`); if there is none it is closed on accept.
   */
  readonly connections: number;
  /** The same, of one TCP address. Those of Unix sockets are not counted here. */
  readonly connectionsPerAddress: number;
  /** Connections that have not chosen an export yet; one more takes the place of one of them. */
  readonly negotiating: number;
  /** From accept to the end of negotiation, TLS included. */
  readonly handshakeMs: number;
  /** A client that neither sends nor takes a byte for so long is dropped; 0: it may be idle. */
  readonly idleMs: number;
  /** A TCP client that is silent for so long is probed, and dropped if it is gone; 0: never. */
  readonly keepAliveMs: number;
  /** Requests of one connection that wait for the device or for their reply to be sent. */
  readonly requestsInFlight: number;
  /**
   * Buffer memory of one connection, payloads received and replies not sent. Above it the socket
   * is not read. One largest message (32 MiB) may come on top.
   */
  readonly bytesInFlight: number;
  /**
   * Buffer memory of all connections. One large request may come on top, and two small buffers of
   * each connection; whoever asks for more waits in line (see `SlabPool`).
   */
  readonly memoryBytes: number;
  /** While others wait for memory: a client that holds some, and stands still for so long, goes. */
  readonly stallMs: number;
  /** How long `close` waits for clients that do not read their last replies. */
  readonly closeMs: number;
}

export const DEFAULT_LIMITS: Limits = {
  connections: 512,
  connectionsPerAddress: 256,
  negotiating: 256,
  handshakeMs: 10_000,
  idleMs: 0,
  keepAliveMs: 60_000,
  requestsInFlight: 256,
  bytesInFlight: 64 * 2 ** 20,
  memoryBytes: 2 ** 30,
  stallMs: 10_000,
  closeMs: 5_000,
};

/**
 * Above this much that is ready to be sent, no more requests of the client are served: work that is
 * done at once would hold up others in one long turn, for a client that may not even read.
 */
export const READY_BYTES_MAX = 4 * 2 ** 20;
/** Options a client may send before it chooses an export. */
export const OPTIONS_MAX = 1000;
/** The longest option data that is kept; of longer ones the data is skipped. */
export const OPTION_DATA_BYTES_MAX = 64 * 2 ** 10;
/** A longer option cannot be meant: the connection is dropped. */
export const OPTION_SKIP_BYTES_MAX = 32 * 2 ** 20;
/** A WRITE too long to be served is skipped and refused up to here; beyond, dropped. */
export const WRITE_SKIP_BYTES_MAX = 64 * 2 ** 20;
