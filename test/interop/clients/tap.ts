/** Listens in on the negotiation between a client and a server (NBD's doc/proto.md). */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { pipeline } from "node:stream/promises";

export const OPTION_GO = 7;
export const OPTION_STRUCTURED_REPLY = 8;
/** What precedes the number of every option that a client sends. */
const OPTION_MAGIC = Buffer.from("IHAVEOPT");
/** A negotiation is shorter by far; the rest is requests. */
const NEGOTIATION_BYTES_MAX = 4096;

export interface Tap {
  /** Whether the last client sent this option. */
  readonly wasAsked: (option: number) => boolean;
  readonly close: () => Promise<void>;
}

/** A Unix socket at `path` whose clients reach the one at `target`. */
export async function tapInto(target: string, path: string): Promise<Tap> {
  let heard = Buffer.alloc(0);
  const server = createServer((client) => {
    heard = Buffer.alloc(0);
    const upstream = connect(target);
    client.on("data", (piece) => {
      if (heard.length < NEGOTIATION_BYTES_MAX) heard = Buffer.concat([heard, piece]);
    });
    // Either side may leave first, and rudely: what it said was heard.
    pipeline(client, upstream, client).catch(() => client.destroy());
  });
  server.listen(path);
  await once(server, "listening");
  const wasAsked = (option: number): boolean => {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(option);
    return heard.includes(Buffer.concat([OPTION_MAGIC, number]));
  };
  const close = async () => {
    server.close();
    await once(server, "close");
  };
  return { wasAsked, close };
}
