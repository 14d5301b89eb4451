/**
 * One client from greeting to goodbye, without its socket: bytes come in by {@link Session.landing}
 * and {@link Session.received}, replies leave by the transport. The phases parse; this decides
 * when to parse, when to stop reading, and when to part.
 */
import { assert } from "../errors.ts";
import type { TransmissionContext } from "./answers.ts";
import type { Export } from "./block-device.ts";
import { Handshake } from "./handshake.ts";
import type { Limits } from "./limits.ts";
import { ReceiveBuffer } from "./receive-buffer.ts";
import { ReplyQueue, type Send } from "./reply-queue.ts";
import { SlabAccount, type SlabPool } from "./slab.ts";
import type { TlsMode } from "./starttls.ts";
import { Transmission } from "./transmission.ts";

/** What a session needs of the socket below it. */
export interface Transport {
  readonly send: Send;
  /** Deliver nothing until `resume`; bytes already on their way may still come. */
  pause(): void;
  resume(): void;
  /**
   * From the next byte on, both ways, the client is behind TLS: {@link Session.secured} is called
   * when that stands. Nothing is received or sent until then.
   */
  startTls(): void;
  /** Everything was sent: say goodbye. `reason` is for the log. */
  end(reason: string): void;
}

export interface SessionContext {
  readonly exports: readonly Export[];
  readonly pool: SlabPool;
  readonly limits: Limits;
  readonly tlsMode: TlsMode;
  readonly onDeviceError: TransmissionContext["onDeviceError"];
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** An export was chosen. */
  readonly onNegotiated: () => void;
  /** The transport is gone and the device has finished all that this client asked for. */
  readonly onDone: () => void;
}

const HANDSHAKE_SLAB_BYTES = 16 * 2 ** 10;
const TRANSMISSION_SLAB_BYTES = 2 ** 20;
/** So long a client's requests are served in one turn of the event loop; then others come first. */
const TURN_MS = 2;

export class Session {
  readonly #context: SessionContext;
  readonly #transport: Transport;
  readonly #account: SlabAccount;
  readonly #input: ReceiveBuffer;
  readonly #replies: ReplyQueue;
  #phase: Handshake | Transmission;
  #ending: string | null = null;
  #inputEnded = false;
  #parted = false;
  #shuttingDown = false;
  #paused = false;
  #closed = false;
  #turnPending = false;
  /** What was received goes on to be served in the next turn: others come first. */
  #yielding = false;
  /** The client was promised TLS, and has it not yet. */
  #securing = false;

  constructor(transport: Transport, context: SessionContext) {
    this.#context = context;
    this.#transport = transport;
    this.#account = new SlabAccount(context.pool, () => this.#turn());
    this.#input = new ReceiveBuffer(this.#account, HANDSHAKE_SLAB_BYTES);
    const send: Send = (chunks, sent) => transport.send(chunks, sent);
    this.#replies = new ReplyQueue(this.#account, send, () => this.#advance());
    const tls = { mode: context.tlsMode, secured: false };
    const handshake = new Handshake(context.exports, tls, (bytes) => this.#replies.put(bytes));
    handshake.greet();
    this.#phase = handshake;
  }

  /** Greets the client. */
  start(): void {
    this.#replies.flush();
  }

  /** TLS stands: what was negotiated so far is forgotten, and the rest is negotiated behind it. */
  secured(): void {
    assert(this.#phase instanceof Handshake, "TLS is a matter of the handshake");
    this.#phase = this.#phase.secured();
    this.#securing = false;
    this.#advance();
  }

  /** Null while the client negotiates. */
  get transmission(): Transmission | null {
    return this.#phase instanceof Transmission ? this.#phase : null;
  }

  /** Buffer memory held for this client. */
  get heldBytes(): number {
    return this.#account.heldBytes;
  }

  /** It is for the client to go on: to take replies, or to send the rest of a message. */
  get owing(): boolean {
    if (!this.#replies.idle) return true;
    return !this.#stalled && this.#input.availableBytes > 0;
  }

  /** Where the next bytes must land; asked for before each read. */
  landing(): Uint8Array {
    return this.#input.landing();
  }

  /** `bytes` have arrived at the last landing. */
  received(bytes: number): void {
    this.#input.received(bytes);
    this.#advance();
  }

  /** The client sends no more: what it asked for is still answered. */
  inputEnded(): void {
    this.#inputEnded = true;
    this.#advance();
  }

  /** Finishes and answers what is in flight, refuses the rest, and parts. */
  shutDown(): void {
    this.#shuttingDown = true;
    this.#phase.shutDown();
    this.#advance();
  }

  /** The transport is gone, for whatever reason: nothing can be received or sent any more. */
  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#end("closed");
    this.#input.release();
    this.#finishIfDone();
  }

  /** Parses what can be, sends what is ready. Called whenever either may have changed. */
  #advance(): void {
    if (!this.#closed) this.#parse();
    this.#replies.flush();
    if (this.#closed) return this.#finishIfDone();
    this.#control();
    this.#partIfDone();
  }

  #parse(): void {
    if (this.#ending !== null || this.#yielding) return;
    if (this.#phase instanceof Handshake) this.#negotiate(this.#phase);
    if (this.#phase instanceof Transmission) this.#transmit(this.#phase);
    if (this.#inputEnded && !this.#stalled) this.#end("end of input");
  }

  #transmit(transmission: Transmission): void {
    const { now } = this.#context;
    const end = now() + TURN_MS;
    while (transmission.step(this.#input)) {
      if (now() < end) continue;
      this.#yielding = true;
      this.#turn();
      break;
    }
    if (transmission.over !== null) this.#end(transmission.over);
  }

  /** True while received requests or options wait for replies to leave, or for others' turns. */
  get #stalled(): boolean {
    if (this.#yielding) return true;
    return this.#phase instanceof Handshake ? !this.#replies.idle : this.#phase.stalled;
  }

  /** One option at a time: a client waits for the reply, so what is pipelined can wait too. */
  #negotiate(handshake: Handshake): void {
    while (this.#replies.idle && handshake.step(this.#input));
    const { outcome } = handshake;
    if (outcome === null) return;
    if ("close" in outcome) return this.#end(outcome.close);
    if ("startTls" in outcome) return this.#startTls();
    this.#input.resize(TRANSMISSION_SLAB_BYTES);
    this.#phase = new Transmission(outcome.chosen, outcome.negotiated, {
      account: this.#account,
      replies: this.#replies,
      limits: this.#context.limits,
      onLateReply: () => this.#turn(),
      onDeviceError: this.#context.onDeviceError,
    });
    this.#context.onNegotiated();
  }

  /**
   * A client waits for the answer to STARTTLS. Whatever came right behind it was put there by
   * somebody in between (CVE-2021-3716), and may not even be dropped silently: it ends here.
   */
  #startTls(): void {
    if (this.#input.availableBytes > 0) return this.#end("plain text behind STARTTLS");
    if (this.#securing || !this.#replies.idle) return;
    this.#securing = true;
    this.#transport.startTls();
  }

  /** Replies that become ready in one turn of the event loop leave together. */
  #turn(): void {
    if (this.#turnPending) return;
    this.#turnPending = true;
    setImmediate(() => {
      this.#turnPending = false;
      this.#yielding = false;
      this.#advance();
    });
  }

  /** Bytes that still come are dropped. */
  #end(reason: string): void {
    if (this.#ending !== null) return;
    this.#ending = reason;
    this.#account.leave();
    this.transmission?.inputEnded();
    this.#input.skip(Infinity);
  }

  /** Stops reading at a limit, and goes on after. */
  #control(): void {
    if (this.#securing) return;
    const pause = this.#ending === null && this.#stalled;
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#transport.pause();
    else this.#transport.resume();
  }

  #partIfDone(): void {
    if (this.#ending === null && !this.#shuttingDown) return;
    if (
      this.#yielding ||
      this.#parted ||
      (this.transmission?.inFlight ?? 0) > 0 ||
      !this.#replies.idle
    )
      return;
    this.#parted = true;
    const reason = this.#ending ?? "shutting down";
    this.#end(reason);
    this.#transport.end(reason);
  }

  #finishIfDone(): void {
    if ((this.transmission?.inFlight ?? 0) === 0) this.#context.onDone();
  }
}
