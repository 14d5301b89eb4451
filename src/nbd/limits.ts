/** What one client, or all of them, may take. Every queue and buffer of the wire is bounded. */
export interface Limits {
  /** Connections at a time, those still negotiating included; more are closed on accept. */
  readonly connections: number;
  /** From accept to the end of negotiation. */
  readonly handshakeMs: number;
  /** Requests of one connection that wait for the device or for their reply to be sent. */
  readonly requestsInFlight: number;
  /**
   * Buffer memory of one connection, payloads received and replies not sent. Above it the socket
   * is not read. One largest message (32 MiB) may come on top.
   */
  readonly bytesInFlight: number;
  /** How long `close` waits for clients that do not read their last replies. */
  readonly closeMs: number;
}

export const DEFAULT_LIMITS: Limits = {
  connections: 256,
  handshakeMs: 10_000,
  requestsInFlight: 256,
  bytesInFlight: 64 * 2 ** 20,
  closeMs: 5_000,
};

/** Options a client may send before it chooses an export. */
export const OPTIONS_MAX = 1000;
/** The longest option data that is kept; of longer ones the data is skipped. */
export const OPTION_DATA_BYTES_MAX = 64 * 2 ** 10;
/** A longer option cannot be meant: the connection is dropped. */
export const OPTION_SKIP_BYTES_MAX = 32 * 2 ** 20;
/** A WRITE too long to be served is skipped and refused up to here; beyond, dropped. */
export const WRITE_SKIP_BYTES_MAX = 64 * 2 ** 20;
