import { RawClient, type Reply, type RequestFields } from "../nbd/client.ts";
import { COMMAND } from "../nbd/client.ts";
import { BLOCK_BYTES } from "./blocks.ts";

/** An NBD connection with many requests in flight, whose server may die at any moment. */
export class Session {
  private readonly client: RawClient;
  private readonly waiting = new Map<bigint, (reply: Reply | null) => void>();
  private over = false;

  private constructor(client: RawClient) {
    this.client = client;
    void this.receive();
  }

  static async connect(socket: string): Promise<Session> {
    const client = await RawClient.connect(socket);
    await client.negotiate();
    return new Session(client);
  }

  /** The reply, or null if the connection ended before one came. */
  request(fields: RequestFields): Promise<Reply | null> {
    if (this.over) return Promise.resolve(null);
    return new Promise((resolve) => this.waiting.set(this.client.request(fields), resolve));
  }

  close(): void {
    this.client.destroy();
  }

  private async receive(): Promise<void> {
    try {
      for (;;) {
        const reply = await this.client.nextReply();
        this.waiting.get(reply.cookie)?.(reply);
        this.waiting.delete(reply.cookie);
      }
    } catch {
      this.over = true;
      for (const resolve of this.waiting.values()) resolve(null);
    }
  }
}

const PIECE_BYTES = 512 * 1024;

/** Reads the whole export, and hands over each piece with the number of its first block. */
export async function readAll(
  socket: string,
  sizeBytes: number,
  use: (firstBlock: number, data: Buffer) => void,
): Promise<void> {
  const session = await Session.connect(socket);
  let next = 0;
  const reader = async (): Promise<void> => {
    while (next < sizeBytes) {
      const offset = next;
      const length = Math.min(PIECE_BYTES, sizeBytes - offset);
      next += length;
      const reply = await session.request({ command: COMMAND.READ, offset, length });
      if (reply?.error !== 0) throw new Error(`READ at ${offset}: error ${reply?.error}`);
      use(offset / BLOCK_BYTES, reply.data);
    }
  };
  try {
    await Promise.all([reader(), reader(), reader(), reader()]);
  } finally {
    session.close();
  }
}
