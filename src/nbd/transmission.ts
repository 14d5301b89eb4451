/**
 * The transmission phase: parses requests where they landed, judges them, and asks the device.
 * Replies are made by {@link Answers}. Knows no socket.
 */
import { Errno } from "../errors.ts";
import { Answers, type TransmissionContext } from "./answers.ts";
import type { Export } from "./block-device.ts";
import { decodeStatusPayload } from "./block-status.ts";
import { decodeExtendedRequest, decodeRequest, emptyRequest, type Request } from "./codec.ts";
import {
  BlockSize,
  Command,
  CommandFlag,
  EXTENDED_REQUEST_BYTES,
  REQUEST_BYTES,
} from "./constants.ts";
import { READY_BYTES_MAX, WRITE_SKIP_BYTES_MAX } from "./limits.ts";
import type { MetaContext } from "./meta-contexts.ts";
import { contextsOf, type Negotiated } from "./negotiated.ts";
import type { ReceiveBuffer } from "./receive-buffer.ts";
import { replyFormatOf, type Origin } from "./reply-format.ts";
import { SMALL_BYTES } from "./slab.ts";
import {
  refusalOf,
  sessionRules,
  statusRefusal,
  type Refusal,
  type SessionRules,
} from "./validate.ts";

const SHUTTING_DOWN: Refusal = { errno: Errno.ESHUTDOWN, text: "the server is shutting down" };
const NOT_FAST: Refusal = {
  errno: Errno.ENOTSUP,
  text: "WRITE_ZEROES may take as long as a WRITE here: nothing was done",
};
const STRANGE_CONTEXTS: Refusal = {
  errno: Errno.EINVAL,
  text: "BLOCK_STATUS names a context that is not selected, or one twice",
};

/** What a READ's reply has besides its data, mostly. */
const REPLY_HEADROOM = 64;
const COMMAND_COUNT = Math.max(...Object.values(Command)) + 1;

export class Transmission {
  readonly exported: Export;
  /** Payload bytes of the READs and WRITEs the device was asked for. */
  readBytes = 0;
  writtenBytes = 0;
  /** Requests the device was asked for, by the number of their command. */
  readonly requests: number[] = new Array<number>(COMMAND_COUNT).fill(0);
  readonly #context: TransmissionContext;
  readonly #answers: Answers;
  readonly #contexts: readonly MetaContext[];
  readonly #rules: SessionRules;
  readonly #headerBytes: number;
  /** A longer payload is not even skipped. Clients with extended headers know the limit. */
  readonly #payloadMax: number;
  readonly #request = emptyRequest();
  #stalled = false;
  #shuttingDown = false;
  #over: string | null = null;
  /** The answer to a request whose payload is being skipped. */
  #refused: Buffer | null = null;

  constructor(exported: Export, negotiated: Negotiated, context: TransmissionContext) {
    this.exported = exported;
    this.#context = context;
    this.#contexts = contextsOf(negotiated, exported);
    const { sizeBytes } = exported.device;
    const readOnly = exported.device.readOnly || exported.readOnly === true;
    this.#rules = sessionRules({ sizeBytes, readOnly }, negotiated, this.#contexts.length);
    this.#headerBytes = negotiated.extended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
    this.#payloadMax = negotiated.extended ? BlockSize.PAYLOAD_MAX : WRITE_SKIP_BYTES_MAX;
    const nameOf = (command: number): string => this.#rules.commands[command]?.name ?? "";
    this.#answers = new Answers(exported, replyFormatOf(negotiated), nameOf, context);
  }

  /** Requests the device has not finished. */
  get inFlight(): number {
    return this.#answers.inFlight;
  }

  /** True if a limit was met: requests wait unparsed until replies have left. */
  get stalled(): boolean {
    return this.#stalled;
  }

  /** Why no more requests are taken, or null. */
  get over(): string | null {
    return this.#over;
  }

  /** From now on requests are answered with ESHUTDOWN. */
  shutDown(): void {
    this.#shuttingDown = true;
  }

  /** Nothing more is parsed: the rest of a payload that is refused will not come. */
  inputEnded(): void {
    this.#answerRefused();
  }

  /** Takes one request from `input`; false if none is whole, a limit is met, or it is over. */
  step(input: ReceiveBuffer): boolean {
    if (this.#over !== null || input.skipping) return false;
    this.#answerRefused();
    const headerBytes = this.#headerBytes;
    if (input.availableBytes < headerBytes) return this.#wait(input, headerBytes);
    const request = this.#request;
    const decode = this.#rules.extended ? decodeExtendedRequest : decodeRequest;
    if (!decode(input.slab.view, input.head, request)) return this.#end("not a request");
    if (request.command === Command.DISC) return this.#end("disconnected by the client");
    const payload = this.#payloadBytes(request);
    if (payload > this.#payloadMax) return this.#end("absurd payload length");
    const refusal = this.#shuttingDown ? SHUTTING_DOWN : refusalOf(request, this.#rules);
    this.#stalled = !this.#admits(request, refusal === null, headerBytes + payload, input);
    if (this.#stalled) return false;

    if (refusal !== null) {
      this.#refuse(request, refusal, payload);
    } else {
      const total = headerBytes + payload;
      if (input.availableBytes < total) return this.#wait(input, total);
      this.#serve(request, input);
    }
    input.skip(headerBytes + payload);
    return true;
  }

  /** What follows the header. With extended headers a flag says so. */
  #payloadBytes({ command, flags, length }: Request): number {
    const { extended } = this.#rules;
    const has = extended ? (flags & CommandFlag.PAYLOAD_LEN) !== 0 : command === Command.WRITE;
    return has ? length : 0;
  }

  /** Answered once its payload has come: a client may not expect an answer while it sends. */
  #refuse(origin: Origin, refusal: Refusal, payload = 0): void {
    const reply = this.#answers.refusal(origin, refusal);
    if (payload === 0) this.#answers.put(reply);
    else this.#refused = reply;
  }

  #answerRefused(): void {
    if (this.#refused !== null) this.#answers.put(this.#refused);
    this.#refused = null;
  }

  /**
   * False: the request waits. Either for this client's own requests and replies, or in line for
   * memory (see `SlabPool`), which only large ones do: a small one that is alone always passes.
   */
  #admits(request: Request, served: boolean, total: number, input: ReceiveBuffer): boolean {
    const { account, replies } = this.#context;
    const reply = served && request.command === Command.READ ? request.length + REPLY_HEADROOM : 0;
    const alone = this.#answers.inFlight === 0 && replies.idle;
    if (!alone && this.#isBusy(request, reply)) {
      account.leave(); // whoever cannot go on keeps no one else waiting
      return false;
    }
    const payload = served && input.availableBytes < total ? input.needs(total) : 0;
    const needed = replies.needs(reply) + payload;
    if (needed <= SMALL_BYTES) {
      account.leave();
      return alone || !account.scarce;
    }
    if (!account.admit(needed)) return false;
    if (payload > 0) input.reserve(payload);
    return true;
  }

  #isBusy({ command }: Request, reply: number): boolean {
    const { account, replies, limits } = this.#context;
    const { inFlight, statusUnderWay } = this.#answers;
    return (
      inFlight + replies.pieces >= limits.requestsInFlight ||
      account.heldBytes + reply > limits.bytesInFlight ||
      replies.readyBytes >= READY_BYTES_MAX ||
      // Each may be a long walk, for a request of a few bytes.
      (command === Command.BLOCK_STATUS && statusUnderWay)
    );
  }

  #serve(request: Request, input: ReceiveBuffer): void {
    const { offset, length, flags } = request;
    const { device } = this.exported;
    const fua = (flags & CommandFlag.FUA) !== 0;
    this.requests[request.command]!++;
    switch (request.command) {
      case Command.READ:
        this.readBytes += length;
        return this.#answers.read(request);
      case Command.WRITE:
        return this.#write(request, fua, input);
      case Command.FLUSH:
        return this.#answers.later(request, device.flush());
      case Command.TRIM:
        return this.#ranged(request, () => device.trim(offset, length, fua));
      case Command.CACHE:
        return this.#ranged(request, () => device.cache(offset, length));
      case Command.WRITE_ZEROES:
        return this.#zero(request, fua);
      case Command.BLOCK_STATUS:
        return this.#blockStatus(request, input);
    }
  }

  #write(request: Request, fua: boolean, input: ReceiveBuffer): void {
    const { length, offset } = request;
    const { device } = this.exported;
    const { slab } = input;
    const start = input.head + this.#headerBytes;
    const from = slab.bytes.subarray(start, start + length);
    this.writtenBytes += length;
    if (length === 0 || device.tryWrite(from, offset, fua)) {
      this.#answers.ok(request);
    } else {
      slab.references++;
      this.#answers.later(request, device.write(from, offset, fua), slab);
    }
  }

  #zero(request: Request, fua: boolean): void {
    const { offset, length, flags } = request;
    const { device } = this.exported;
    const allocate = (flags & CommandFlag.NO_HOLE) !== 0;
    const fast = (flags & CommandFlag.FAST_ZERO) !== 0;
    if (fast && length > 0 && !device.zeroesFast(offset, length, allocate)) {
      return this.#refuse(request, NOT_FAST);
    }
    this.#ranged(request, () => device.zero(offset, length, allocate, fua));
  }

  /** An empty range is done already. */
  #ranged(request: Request, work: () => Promise<void>): void {
    if (request.length === 0) this.#answers.ok(request);
    else this.#answers.later(request, work());
  }

  #blockStatus(request: Request, input: ReceiveBuffer): void {
    const { offset, length, flags } = request;
    if ((flags & CommandFlag.PAYLOAD_LEN) === 0) {
      return void this.#answers.blockStatus(request, { length, contexts: this.#contexts });
    }
    const start = input.head + this.#headerBytes;
    const payload = input.slab.bytes.subarray(start, start + length);
    const asked = decodeStatusPayload(payload, this.#contexts);
    if (asked === null) return this.#refuse(request, STRANGE_CONTEXTS);
    const refusal = statusRefusal(offset, asked.length, this.#rules);
    if (refusal !== null) return this.#refuse(request, refusal);
    void this.#answers.blockStatus(request, asked);
  }

  #wait(input: ReceiveBuffer, bytes: number): false {
    input.want(bytes);
    this.#stalled = false;
    return false;
  }

  #end(reason: string): false {
    this.#over = reason;
    this.#stalled = false;
    return false;
  }
}
