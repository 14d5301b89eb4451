import { COMMAND, FUA, NO_HOLE, type RequestFields } from "../nbd/client.ts";
import { seededRandom } from "../member/seeded.ts";
import { BLOCK_BYTES, encodeBlocks } from "./blocks.ts";
import type { Model } from "./model.ts";
import { Session } from "./session.ts";

export interface LoadOptions {
  readonly socket: string;
  readonly model: Model;
  readonly seed: number;
  /** The only blocks that are touched; few of them make requests overlap. */
  readonly area: { readonly first: number; readonly count: number };
}

const CONNECTIONS = 2;
const IN_FLIGHT = 8;
/** Most requests are short; some are too long for the server to perform at once. */
const SHORT_BLOCKS_MAX = 16;
const LONG_BLOCKS_MAX = 128;
const LONG_SHARE = 0.05;

type Operation = Pick<RequestFields, "command" | "flags">;

/** Of a hundred requests, how many are which. */
const MIX: readonly [share: number, Operation][] = [
  [55, { command: COMMAND.WRITE }],
  [10, { command: COMMAND.WRITE, flags: FUA }],
  [12, { command: COMMAND.READ }],
  [5, { command: COMMAND.FLUSH }],
  [6, { command: COMMAND.TRIM }],
  [2, { command: COMMAND.TRIM, flags: FUA }],
  [6, { command: COMMAND.WRITE_ZEROES }],
  [2, { command: COMMAND.WRITE_ZEROES, flags: NO_HOLE }],
  [2, { command: COMMAND.WRITE_ZEROES, flags: NO_HOLE | FUA }],
];

/**
 * Random requests over two connections, many in flight, tracked by the model. Goes on until the
 * server is gone or `stop` is called. The seed decides what each of the requesters sends.
 */
export class Load {
  /** Errors that the server answered with, and how often. */
  readonly errors = new Map<number, number>();
  answered = 0;
  private readonly options: LoadOptions;
  private readonly sessions: readonly Session[];
  private readonly ended: Promise<unknown>;
  private stopping = false;

  private constructor(options: LoadOptions, sessions: readonly Session[]) {
    this.options = options;
    this.sessions = sessions;
    const requesters = sessions.flatMap((session, connection) =>
      Array.from({ length: IN_FLIGHT }, (_, index) =>
        this.requester(session, seededRandom(options.seed + 1000 * connection + index)),
      ),
    );
    this.ended = Promise.all(requesters);
    this.ended.catch(() => undefined); // whoever stops the load sees it
  }

  static async start(options: LoadOptions): Promise<Load> {
    const connections = Array.from({ length: CONNECTIONS }, () => Session.connect(options.socket));
    return new Load(options, await Promise.all(connections));
  }

  /** Sends no more; resolves when all is answered. Rejects if a read returned what it must not. */
  async stop(): Promise<void> {
    this.stopping = true;
    try {
      await this.ended;
    } finally {
      for (const session of this.sessions) session.close();
    }
  }

  private async requester(session: Session, random: () => number): Promise<void> {
    for (let open = true; open && !this.stopping;) {
      const operation = pick(random);
      const { area } = this.options;
      const most = random() < LONG_SHARE ? LONG_BLOCKS_MAX : SHORT_BLOCKS_MAX;
      const count = 1 + Math.floor(random() * Math.min(most, area.count));
      const first = area.first + Math.floor(random() * (area.count - count + 1));
      open = await this.perform(session, operation, first, count);
    }
  }

  /** False if the connection has ended. */
  private async perform(
    session: Session,
    operation: Operation,
    first: number,
    count: number,
  ): Promise<boolean> {
    const { model } = this.options;
    const range = { ...operation, offset: first * BLOCK_BYTES, length: count * BLOCK_BYTES };
    switch (operation.command) {
      case COMMAND.FLUSH: {
        const began = model.beginFlush();
        const reply = await session.request(operation);
        if (reply?.error === 0) model.answerFlush(began);
        return this.note(reply);
      }
      case COMMAND.READ: {
        const read = model.beginRead(first, count);
        const reply = await session.request(range);
        if (reply?.error === 0) model.endRead(read, reply.data);
        return this.note(reply);
      }
      default: {
        const isWrite = operation.command === COMMAND.WRITE;
        const change = model.begin(first, count, !isWrite);
        const payload = isWrite ? { payload: encodeBlocks(first, count, change.began) } : {};
        const reply = await session.request({ ...range, ...payload });
        if (reply?.error === 0) model.answer(change, ((operation.flags ?? 0) & FUA) !== 0);
        else if (reply !== null) model.refuse(change);
        return this.note(reply);
      }
    }
  }

  private note(reply: { error: number } | null): boolean {
    if (reply === null) return false;
    this.answered++;
    if (reply.error !== 0) {
      this.errors.set(reply.error, (this.errors.get(reply.error) ?? 0) + 1);
    }
    return true;
  }
}

function pick(random: () => number): Operation {
  let share = random() * 100;
  for (const [part, operation] of MIX) {
    if (share < part) return operation;
    share -= part;
  }
  return MIX[0]![1];
}
