/**
 * The transmission phase: parses requests where they landed, asks the device, and builds the
 * replies. What the device does at once is answered at once; the rest is answered when it is done,
 * in whatever order. Knows no socket.
 */
import { Errno, errnoOf } from "../errors.ts";
import type { Export } from "./block-device.ts";
import {
  decodeRequest,
  emptyRequest,
  encodeReplyError,
  encodeSimpleReply,
  type Request,
} from "./codec.ts";
import { Command, CommandFlag, REQUEST_BYTES, SIMPLE_REPLY_BYTES } from "./constants.ts";
import { WRITE_SKIP_BYTES_MAX, type Limits } from "./limits.ts";
import type { ReceiveBuffer } from "./receive-buffer.ts";
import type { Piece, ReplyQueue } from "./reply-queue.ts";
import type { Slab, SlabAccount } from "./slab.ts";
import { COMMAND_RULES, validateRequest } from "./validate.ts";

export interface TransmissionContext {
  readonly account: SlabAccount;
  readonly replies: ReplyQueue;
  readonly limits: Limits;
  /** A request that did not finish at once has its reply queued now. */
  readonly onLateReply: () => void;
  /** The device could not do it, and why. */
  readonly onDeviceError: (exportName: string, command: string, error: unknown) => void;
}

export class Transmission {
  readonly exported: Export;
  /** Payload bytes of the READs and WRITEs the device was asked for. */
  readBytes = 0;
  writtenBytes = 0;
  readonly #context: TransmissionContext;
  readonly #request = emptyRequest();
  #inFlight = 0;
  #stalled = false;
  #shuttingDown = false;
  #over: string | null = null;
  /** The answer to a WRITE whose payload is being skipped. */
  #refused: Piece | null = null;

  constructor(exported: Export, context: TransmissionContext) {
    this.exported = exported;
    this.#context = context;
  }

  /** Requests the device has not finished. */
  get inFlight(): number {
    return this.#inFlight;
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
    if (input.availableBytes < REQUEST_BYTES) return this.#wait(input, REQUEST_BYTES);
    const request = this.#request;
    if (!decodeRequest(input.slab.view, input.head, request)) return this.#end("not a request");
    if (request.command === Command.DISC) return this.#end("disconnected by the client");
    this.#stalled = this.#overloaded(request);
    if (this.#stalled) return false;

    const payload = request.command === Command.WRITE ? request.length : 0;
    if (payload > WRITE_SKIP_BYTES_MAX) return this.#end("absurd payload length");
    const error = this.#shuttingDown
      ? Errno.ESHUTDOWN
      : validateRequest(request, this.exported.device);
    if (error !== Errno.OK) {
      this.#refuse(request, error, payload);
    } else {
      const total = REQUEST_BYTES + payload;
      if (input.availableBytes < total) return this.#wait(input, total);
      this.#serve(request, input);
    }
    input.skip(REQUEST_BYTES + payload);
    return true;
  }

  /** Answered once its payload has come: a client may not expect an answer while it sends. */
  #refuse(request: Request, error: Errno, payload: number): void {
    if (payload === 0) return this.#reply(request, error);
    const { replies } = this.#context;
    const piece = replies.reserve(SIMPLE_REPLY_BYTES);
    encodeSimpleReply(piece.slab.view, piece.start, request, error);
    this.#refused = piece;
  }

  #answerRefused(): void {
    if (this.#refused !== null) this.#context.replies.queue(this.#refused);
    this.#refused = null;
  }

  /** A single request is always let through, however large: else it would wait for ever. */
  #overloaded({ command, length }: Request): boolean {
    const { account, replies, limits } = this.#context;
    if (this.#inFlight === 0 && replies.idle) return false;
    const reply = command === Command.READ ? length : 0;
    return (
      this.#inFlight + replies.pieces >= limits.requestsInFlight ||
      account.heldBytes + reply > limits.bytesInFlight
    );
  }

  #serve(request: Request, input: ReceiveBuffer): void {
    const { offset, length, flags } = request;
    const { device } = this.exported;
    const fua = (flags & CommandFlag.FUA) !== 0;
    switch (request.command) {
      case Command.READ:
        return this.#read(request);
      case Command.WRITE:
        return this.#write(request, fua, input);
      case Command.FLUSH:
        return this.#later(request, device.flush());
      case Command.TRIM:
        return this.#ranged(request, () => device.trim(offset, length, fua));
      case Command.CACHE:
        return this.#ranged(request, () => device.cache(offset, length));
      case Command.WRITE_ZEROES: {
        const allocate = (flags & CommandFlag.NO_HOLE) !== 0;
        return this.#ranged(request, () => device.zero(offset, length, allocate, fua));
      }
    }
  }

  #read(request: Request): void {
    const { length, offset } = request;
    const { replies } = this.#context;
    const { device } = this.exported;
    const bytes = SIMPLE_REPLY_BYTES + length;
    const slab = replies.room(bytes);
    const start = replies.position;
    const into = slab.bytes.subarray(start + SIMPLE_REPLY_BYTES, start + bytes);
    encodeSimpleReply(slab.view, start, request, Errno.OK);
    this.readBytes += length;
    if (length === 0 || device.tryRead(into, offset)) {
      replies.commit(bytes);
    } else {
      void this.#finish(request.command, device.read(into, offset), replies.reserve(bytes), null);
    }
  }

  #write(request: Request, fua: boolean, input: ReceiveBuffer): void {
    const { length, offset } = request;
    const { device } = this.exported;
    const { slab } = input;
    const start = input.head + REQUEST_BYTES;
    const from = slab.bytes.subarray(start, start + length);
    this.writtenBytes += length;
    if (length === 0 || device.tryWrite(from, offset, fua)) {
      this.#reply(request, Errno.OK);
    } else {
      slab.references++;
      this.#later(request, device.write(from, offset, fua), slab);
    }
  }

  /** An empty range is done already. */
  #ranged(request: Request, work: () => Promise<void>): void {
    if (request.length === 0) this.#reply(request, Errno.OK);
    else this.#later(request, work());
  }

  #reply(request: Request, error: Errno): void {
    const { replies } = this.#context;
    encodeSimpleReply(replies.room(SIMPLE_REPLY_BYTES).view, replies.position, request, error);
    replies.commit(SIMPLE_REPLY_BYTES);
  }

  /** Answers when `work` is done; `payload` is the slab it reads from, referenced until then. */
  #later(request: Request, work: Promise<void>, payload: Slab | null = null): void {
    const { replies } = this.#context;
    const piece = replies.reserve(SIMPLE_REPLY_BYTES);
    encodeSimpleReply(piece.slab.view, piece.start, request, Errno.OK);
    void this.#finish(request.command, work, piece, payload);
  }

  /** The reply stands in `piece` as if all went well; a failure leaves only its header. */
  async #finish(
    command: number,
    work: Promise<void>,
    piece: Piece,
    payload: Slab | null,
  ): Promise<void> {
    const { account, replies, onLateReply, onDeviceError } = this.#context;
    this.#inFlight++;
    try {
      await work;
    } catch (error) {
      encodeReplyError(piece.slab.view, piece.start, errnoOf(error));
      piece.end = piece.start + SIMPLE_REPLY_BYTES;
      onDeviceError(this.exported.name, COMMAND_RULES[command]?.name ?? "", error);
    }
    if (payload !== null) account.release(payload);
    this.#inFlight--;
    replies.queue(piece);
    onLateReply();
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
