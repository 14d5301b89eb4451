/**
 * 4 KiB writes with NBD_CMD_FLAG_FUA at random places: fio's nbd engine has no way to set the
 * flag, so this is a client of its own. It speaks what every server understands (EXPORT_NAME,
 * simple replies) and keeps `depth` requests under way.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Measurement } from "./scenario.ts";
import type { RunningTarget } from "./target.ts";

const BLOCK = 4096;
const GREETING_LENGTH = 18;
const EXPORT_REPLY_LENGTH = 10;
const REQUEST_LENGTH = 28;
const REPLY_LENGTH = 16;
const REQUEST_MAGIC = 0x25609513;
const FLAG_FUA = 1;
const COMMAND_WRITE = 1;

export async function fuaWrites(
  target: RunningTarget,
  depth: number,
  seconds: number,
): Promise<Measurement> {
  const socket = connect(target.socket);
  await once(socket, "connect");
  const blocks = Math.floor((await negotiate(socket)) / BLOCK);
  const startedAt = performance.now();
  const deadline = startedAt + seconds * 1000;
  const done = await writeUntil(socket, blocks, depth, deadline);
  const elapsedSeconds = (performance.now() - startedAt) / 1000;
  socket.destroy();
  return { value: done / elapsedSeconds, bytes: done * BLOCK };
}

/** Fixed newstyle with NO_ZEROES, the default export; returns its size in bytes. */
async function negotiate(socket: Socket): Promise<number> {
  await receive(socket, GREETING_LENGTH);
  const hello = Buffer.alloc(20);
  hello.writeUInt32BE(3, 0); // client flags: FIXED_NEWSTYLE, NO_ZEROES
  hello.write("IHAVEOPT", 4, "latin1");
  hello.writeUInt32BE(1, 12); // NBD_OPT_EXPORT_NAME, with an empty name
  socket.write(hello);
  const reply = await receive(socket, EXPORT_REPLY_LENGTH);
  return Number(reply.readBigUInt64BE(0));
}

async function receive(socket: Socket, length: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(length) as Buffer | null;
    if (bytes !== null) return bytes;
    await once(socket, "readable");
  }
}

/** Answers how many writes succeeded; those under way at the deadline are waited for. */
function writeUntil(socket: Socket, blocks: number, depth: number, deadline: number) {
  const request = Buffer.alloc(REQUEST_LENGTH + BLOCK, 0x5a);
  request.writeUInt32BE(REQUEST_MAGIC, 0);
  request.writeUInt16BE(FLAG_FUA, 4);
  request.writeUInt16BE(COMMAND_WRITE, 6);
  request.writeUInt32BE(BLOCK, 24);
  let sent = 0;
  let done = 0;

  const send = () => {
    const offset = Math.floor(Math.random() * blocks) * BLOCK;
    request.writeBigUInt64BE(BigInt(sent++), 8);
    request.writeBigUInt64BE(BigInt(offset), 16);
    socket.write(Buffer.from(request));
  };

  return new Promise<number>((resolve, reject) => {
    socket.once("error", reject);
    socket.once("end", () => reject(new Error("the server closed the connection")));
    socket.on("readable", () => {
      for (let reply; (reply = socket.read(REPLY_LENGTH) as Buffer | null) !== null; done++) {
        const errno = reply.readUInt32BE(4);
        if (errno !== 0) reject(new Error(`a write failed with errno ${errno}`));
        if (performance.now() < deadline) send();
      }
      if (done === sent) resolve(done);
    });
    for (let i = 0; i < depth; i++) send();
  });
}
