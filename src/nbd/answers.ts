/**
 * The way out of the transmission phase: builds replies in the format that was negotiated, at once
 * where the device did its work at once, later where it takes time. What goes wrong becomes an
 * error reply; a connection is never cut for it.
 */
import { CATALOGUE, errnoOf, NbdRaidError } from "../errors.ts";
import type { Export } from "./block-device.ts";
import {
  encodeStatuses,
  EXTENTS_MAX,
  SCARCE_EXTENTS_MAX,
  statusBytesMax,
  statusesOf,
  type StatusRequest,
} from "./block-status.ts";
import {
  encodeHole,
  encodeParts,
  errorChunks,
  holdsZeroes,
  partsBytes,
  partsOf,
  readParts,
  type PlacedParts,
} from "./chunked-read.ts";
import type { Request } from "./codec.ts";
import { ChunkFlag, ChunkType, Command, CommandFlag } from "./constants.ts";
import type { Limits } from "./limits.ts";
import type { ChunkFormat, Origin, ReplyFormat } from "./reply-format.ts";
import type { Piece, ReplyQueue } from "./reply-queue.ts";
import type { Slab, SlabAccount } from "./slab.ts";
import type { Refusal } from "./validate.ts";

export interface TransmissionContext {
  readonly account: SlabAccount;
  readonly replies: ReplyQueue;
  readonly limits: Limits;
  /** A request that did not finish at once has its reply queued now. */
  readonly onLateReply: () => void;
  /** The device could not do it, and why. */
  readonly onDeviceError: (exportName: string, command: string, error: unknown) => void;
}

export class Answers {
  readonly #exported: Export;
  readonly #format: ReplyFormat;
  readonly #context: TransmissionContext;
  readonly #nameOf: (command: number) => string;
  #inFlight = 0;
  #statusUnderWay = false;

  constructor(
    exported: Export,
    format: ReplyFormat,
    nameOf: (command: number) => string,
    context: TransmissionContext,
  ) {
    this.#exported = exported;
    this.#format = format;
    this.#nameOf = nameOf;
    this.#context = context;
  }

  /** Requests the device has not finished. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** A BLOCK_STATUS is not answered yet. */
  get statusUnderWay(): boolean {
    return this.#statusUnderWay;
  }

  /** Done, and there is nothing to tell. */
  ok(origin: Origin): void {
    const { replies } = this.#context;
    const { okBytes } = this.#format;
    this.#format.encodeOk(replies.room(okBytes).view, replies.position, origin);
    replies.commit(okBytes);
  }

  /** The reply to a request that is not served, to be put when its time has come. */
  refusal(origin: Origin, { errno, text }: Refusal): Buffer {
    return this.#format.error(origin, errno, text);
  }

  put(reply: Buffer): void {
    this.#context.replies.put(reply);
  }

  read(request: Request): void {
    const { length, offset } = request;
    const { replies } = this.#context;
    const { device } = this.#exported;
    const { chunks, readBytes } = this.#format;
    if (chunks !== null) {
      if (length === 0) return this.#readNothing(request, chunks);
      const run = device.zeroesAt(offset, length);
      const whole = Math.abs(run) === length || (request.flags & CommandFlag.DF) !== 0;
      if (!whole || run === length) return this.#readInParts(request, chunks, run);
    }
    const bytes = readBytes + length;
    const slab = replies.room(bytes);
    const start = replies.position;
    const into = slab.bytes.subarray(start + readBytes, start + bytes);
    this.#format.encodeRead(slab.view, start, request, length);
    if (length === 0 || device.tryRead(into, offset)) {
      const zeroes = chunks !== null && holdsZeroes(slab, start + readBytes, length);
      if (!zeroes) return replies.commit(bytes);
      return replies.commit(encodeHole(chunks, slab.view, start, request, offset, length));
    }
    const piece = replies.reserve(bytes);
    if (chunks === null) {
      void this.#finish(Command.READ, device.read(into, offset), piece, null);
    } else {
      const missing = [{ offset, length, dataAt: start + readBytes }];
      void this.#finishRead(chunks, piece, { missing, lastAt: start });
    }
  }

  /** A chunk of data may not be empty. */
  #readNothing(origin: Origin, chunks: ChunkFormat): void {
    const { replies } = this.#context;
    const { view } = replies.room(chunks.headerBytes);
    chunks.encodeHeader(view, replies.position, origin, ChunkFlag.DONE, ChunkType.NONE, 0);
    replies.commit(chunks.headerBytes);
  }

  #readInParts(request: Request, chunks: ChunkFormat, run: number): void {
    const { replies } = this.#context;
    const { device } = this.#exported;
    const parts = partsOf(device, request.offset, request.length, run);
    const bytes = partsBytes(chunks, parts);
    const slab = replies.room(bytes);
    const placed = encodeParts(chunks, device, slab, replies.position, request, parts);
    if (placed.missing.length === 0) replies.commit(bytes);
    else void this.#finishRead(chunks, replies.reserve(bytes), placed);
  }

  /** Answers when `work` is done; `payload` is the slab it reads from, referenced until then. */
  later(request: Request, work: Promise<void>, payload: Slab | null = null): void {
    const piece = this.#context.replies.reserve(this.#format.okBytes);
    this.#format.encodeOk(piece.slab.view, piece.start, request);
    void this.#finish(request.command, work, piece, payload);
  }

  /** The reply stands in `piece` as if all went well; a failure puts another in its place. */
  async #finish(
    command: number,
    work: Promise<void>,
    piece: Piece,
    payload: Slab | null,
  ): Promise<void> {
    const { account, replies, onLateReply } = this.#context;
    this.#inFlight++;
    try {
      await work;
      replies.queue(piece);
    } catch (error) {
      const origin = this.#format.originOf(piece.slab.view, piece.start);
      replies.drop(piece);
      replies.put(this.#format.error(origin, errnoOf(error), this.#failed(command, error)));
    }
    if (payload !== null) account.release(payload);
    this.#inFlight--;
    onLateReply();
  }

  /** The chunks stand in `piece` as if all could be read; errors follow them. */
  async #finishRead(
    chunks: ChunkFormat,
    piece: Piece,
    { missing, lastAt }: PlacedParts,
  ): Promise<void> {
    const { replies, onLateReply } = this.#context;
    this.#inFlight++;
    const failures = await readParts(this.#exported.device, piece.slab, missing);
    const origin = this.#format.originOf(piece.slab.view, piece.start);
    const [first] = missing;
    const isWhole = first !== undefined && lastAt === piece.start;
    const nothingRead = isWhole && failures[0]?.offset === first.offset;
    const errors =
      failures.length === 0
        ? []
        : errorChunks(chunks, piece, lastAt, origin, failures, (error) =>
            this.#failed(Command.READ, error),
          );
    if (nothingRead) {
      replies.drop(piece);
    } else if (
      isWhole &&
      failures.length === 0 &&
      holdsZeroes(piece.slab, first.dataAt, first.length)
    ) {
      const { slab, start } = piece;
      const bytes = encodeHole(chunks, slab.view, start, origin, first.offset, first.length);
      replies.queue({ slab, start, end: start + bytes });
    } else {
      replies.queue(piece);
    }
    for (const chunk of errors) replies.put(chunk);
    this.#inFlight--;
    onLateReply();
  }

  async blockStatus(request: Request, asked: StatusRequest): Promise<void> {
    const { chunks } = this.#format;
    if (chunks === null) throw new Error("contexts are selected only by clients that take chunks");
    const { account, replies, onLateReply } = this.#context;
    const { offset, flags } = request;
    const { cookieHigh, cookieLow, offsetHigh, offsetLow } = request;
    const origin = { cookieHigh, cookieLow, offsetHigh, offsetLow };
    const one = (flags & CommandFlag.REQ_ONE) !== 0;
    const { contexts, length } = asked;
    const most = account.scarce ? SCARCE_EXTENTS_MAX : EXTENTS_MAX;
    const max = one ? 1 : Math.min(length, most);
    const piece = replies.reserve(statusBytesMax(chunks, contexts.length, max));
    this.#inFlight++;
    this.#statusUnderWay = true;
    try {
      const answers = await statusesOf(this.#exported.device, offset, asked, max);
      const { slab, start } = piece;
      const end = encodeStatuses(chunks, slab, start, origin, contexts, answers);
      replies.queue({ slab, start, end });
    } catch (error) {
      replies.drop(piece);
      const text = this.#failed(Command.BLOCK_STATUS, error);
      this.put(this.#format.error(origin, errnoOf(error), text));
    }
    this.#inFlight--;
    this.#statusUnderWay = false;
    onLateReply();
  }

  /** Reports what the device said, and puts it in words for the client: no paths, no details. */
  #failed(command: number, error: unknown): string {
    const name = this.#nameOf(command);
    this.#context.onDeviceError(this.#exported.name, name, error);
    const code = error instanceof NbdRaidError ? error.code : "io-error";
    return `${name} failed: ${code} (${CATALOGUE[code].remedy})`;
  }
}
