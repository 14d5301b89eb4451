/**
 * The handshake as a state machine: fed with received bytes, it puts its replies and says how it
 * ended. Knows no socket and no clock.
 */
import type { Export } from "./block-device.ts";
import { decodeOptionHeader, encodeExport, encodeGreeting, encodeOptionReply } from "./codec.ts";
import { CLIENT_FLAGS_BYTES, HandshakeFlag, Option, OPTION_HEADER_BYTES } from "./constants.ts";
import { OPTION_DATA_BYTES_MAX, OPTION_SKIP_BYTES_MAX, OPTIONS_MAX } from "./limits.ts";
import { NOTHING_NEGOTIATED, type Negotiated } from "./negotiated.ts";
import type { Answer } from "./option-answer.ts";
import { OPTION_HANDLERS, shuttingDown, UNSUPPORTED } from "./options.ts";
import type { ReceiveBuffer } from "./receive-buffer.ts";
import { tlsAnswer, type TlsState } from "./starttls.ts";

/**
 * How a handshake ended: with an export, with TLS (behind which another one goes on, see
 * {@link Handshake.secured}), or with a reason to close the connection.
 */
export type Outcome =
  | { readonly chosen: Export; readonly negotiated: Negotiated }
  | { readonly startTls: true }
  | { readonly close: string };

const EXPORT_NAME_ZEROES = 124;
const KNOWN_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES;

export class Handshake {
  readonly #exports: readonly Export[];
  readonly #put: (bytes: Uint8Array) => void;
  readonly #tls: TlsState;
  #clientFlags: number | null = null;
  #options = 0;
  #negotiated = NOTHING_NEGOTIATED;
  #shuttingDown = false;
  #outcome: Outcome | null = null;

  constructor(exports: readonly Export[], tls: TlsState, put: (bytes: Uint8Array) => void) {
    this.#exports = exports;
    this.#tls = tls;
    this.#put = put;
  }

  /** The first thing a client hears. */
  greet(): void {
    this.#put(encodeGreeting());
  }

  /**
   * The handshake that goes on behind TLS: a new one, so that nothing negotiated before it can
   * count. The flags are kept, for no client can send them again. They are not greeted again.
   */
  secured(): Handshake {
    const after = new Handshake(this.#exports, { ...this.#tls, secured: true }, this.#put);
    after.#clientFlags = this.#clientFlags;
    return after;
  }

  /** Null while it goes on. */
  get outcome(): Outcome | null {
    return this.#outcome;
  }

  /** From now on options are answered with ERR_SHUTDOWN. */
  shutDown(): void {
    this.#shuttingDown = true;
  }

  /** Takes one message from `input`; false if none is whole, or the handshake is over. */
  step(input: ReceiveBuffer): boolean {
    if (this.#outcome !== null) return false;
    return this.#clientFlags === null ? this.#takeFlags(input) : this.#takeOption(input);
  }

  /** Without FIXED_NEWSTYLE the client may still haggle; with an unknown bit it MUST be dropped. */
  #takeFlags(input: ReceiveBuffer): boolean {
    if (!arrived(input, CLIENT_FLAGS_BYTES)) return false;
    const flags = input.slab.view.getUint32(input.head);
    input.skip(CLIENT_FLAGS_BYTES);
    this.#clientFlags = flags;
    if ((flags & ~KNOWN_FLAGS) !== 0) this.#outcome = { close: "unknown client flags" };
    return true;
  }

  #takeOption(input: ReceiveBuffer): boolean {
    if (!arrived(input, OPTION_HEADER_BYTES)) return false;
    const header = decodeOptionHeader(input.slab.view, input.head);
    if (header === null) return this.#close("not an option");
    const { option, length } = header;
    if (length > OPTION_SKIP_BYTES_MAX) return this.#close("absurd option length");
    const handler = OPTION_HANDLERS.get(option);
    const total = OPTION_HEADER_BYTES + length;
    const kept = handler !== undefined && length <= OPTION_DATA_BYTES_MAX;
    if (kept && !arrived(input, total)) return false;
    if (++this.#options > OPTIONS_MAX) return this.#close("too many options");
    const data = kept ? dataOf(input, total) : null;
    const haggling = { exports: this.#exports, negotiated: this.#negotiated };
    const answer = this.#shuttingDown
      ? shuttingDown(option)
      : (tlsAnswer(option, length, this.#tls) ?? handler?.(data, haggling));
    this.#answer(option, answer ?? UNSUPPORTED);
    input.skip(total);
    return true;
  }

  #answer(option: number, answer: Answer): void {
    const { replies, chosen, startTls, close } = answer;
    const negotiated = answer.negotiated ?? this.#negotiated;
    this.#negotiated = negotiated;
    for (const { type, data } of replies) this.#put(encodeOptionReply(option, type, data));
    if (chosen !== undefined && option === Option.EXPORT_NAME) this.#putExport(chosen);
    if (chosen !== undefined) this.#outcome = { chosen, negotiated };
    if (startTls !== undefined) this.#outcome = { startTls };
    if (close !== undefined) this.#outcome = { close };
  }

  /** NBD_OPT_EXPORT_NAME has a reply of its own, with 124 zeroes for clients from before. */
  #putExport(chosen: Export): void {
    const noZeroes = ((this.#clientFlags ?? 0) & HandshakeFlag.NO_ZEROES) !== 0;
    this.#put(encodeExport(chosen, this.#negotiated));
    if (!noZeroes) this.#put(Buffer.alloc(EXPORT_NAME_ZEROES));
  }

  #close(reason: string): false {
    this.#outcome = { close: reason };
    return false;
  }
}

function arrived(input: ReceiveBuffer, bytes: number): boolean {
  input.want(bytes);
  return input.availableBytes >= bytes;
}

function dataOf(input: ReceiveBuffer, total: number): Buffer {
  return input.slab.bytes.subarray(input.head + OPTION_HEADER_BYTES, input.head + total);
}
