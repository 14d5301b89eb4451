/** A session without a socket: bytes go in in any portions, what it sends is collected. */
import type { Export } from "../../src/nbd/block-device.ts";
import { DEFAULT_LIMITS, type Limits } from "../../src/nbd/limits.ts";
import { Session } from "../../src/nbd/session.ts";
import { SlabPool } from "../../src/nbd/slab.ts";
import type { TlsMode } from "../../src/nbd/starttls.ts";

export class SessionHarness {
  readonly session: Session;
  /** False: what is sent stays unconfirmed, as by a client that does not read. */
  reading = true;
  paused = false;
  /** Why the session said goodbye. */
  ended: string | null = null;
  /** The client was promised TLS: a test that plays it calls `session.secured`. */
  securing = false;
  done = false;
  /** How long each request takes to serve; not 0: the session's turns come to an end. */
  requestMs = 0;
  timeMs = 0;
  readonly #sent: Buffer[] = [];
  readonly #unconfirmed: (() => void)[] = [];
  #landing: Uint8Array;

  constructor(
    exports: readonly Export[],
    limits: Partial<Limits> = {},
    tlsMode: TlsMode = "off",
    pool = new SlabPool(),
  ) {
    this.session = new Session(
      {
        send: (chunks, sent) => {
          for (const chunk of chunks) this.#sent.push(Buffer.from(chunk));
          this.#unconfirmed.push(sent);
        },
        pause: () => (this.paused = true),
        resume: () => (this.paused = false),
        startTls: () => (this.securing = true),
        end: (reason) => (this.ended = reason),
      },
      {
        exports,
        pool,
        limits: { ...DEFAULT_LIMITS, ...limits },
        tlsMode,
        now: () => (this.timeMs += this.requestMs),
        onDeviceError: () => {},
        onNegotiated: () => {},
        onDone: () => (this.done = true),
      },
    );
    this.session.start();
    this.#landing = this.session.landing();
    this.confirm();
  }

  /** Everything sent so far, in order. */
  get sent(): Buffer {
    return Buffer.concat(this.#sent);
  }

  get sentBytes(): number {
    return this.#sent.reduce((sum, { length }) => sum + length, 0);
  }

  /** Confirms what was sent, and what is sent because of that. */
  confirm(): void {
    while (this.reading) {
      const sent = this.#unconfirmed.shift();
      if (sent === undefined) return;
      sent();
    }
  }

  /** TLS stands: what comes and goes from now on is behind it. */
  secured(): void {
    this.securing = false;
    this.session.secured();
    this.#landing = this.session.landing();
    this.confirm();
  }

  /** One read of the socket: as much as fits the landing. Returns how many bytes it took. */
  read(bytes: Uint8Array): number {
    if (this.#landing.length === 0) throw new Error("a landing has room");
    const portion = bytes.subarray(0, this.#landing.length);
    this.#landing.set(portion);
    this.session.received(portion.length);
    this.#landing = this.session.landing();
    this.confirm();
    return portion.length;
  }

  /** Reads `bytes` until they are taken or the session stops reading; returns what is left. */
  feed(bytes: Uint8Array): Uint8Array {
    let rest = bytes;
    while (rest.length > 0 && !this.paused) rest = rest.subarray(this.read(rest));
    return rest;
  }
}
