/** Arrays filled over NBD with seeded data, and what they must hold then. */
import { createCipheriv, createHash } from "node:crypto";
import { readAll, Session } from "../crash/session.ts";
import { BLOCK_BYTES } from "../crash/blocks.ts";
import { seededRandom } from "../member/seeded.ts";
import { COMMAND, type RequestFields } from "../nbd/client.ts";

const KIB = 1024;
/** As long as two requests of the kernel, and as short as it gets. */
const PIECES_KIB = [4, 8, 12, 64, 100, 256, 508, 1024];
const IN_FLIGHT = 8;

/** What becomes of a piece, in tenths. */
const MIX = [
  ...Array<"write">(5).fill("write"),
  ...Array<"nothing">(3).fill("nothing"),
  ...(["trimmed", "zeroed"] as const),
];

/** Bytes that no two seeds share. */
export function seededBytes(seed: number, length: number): Buffer {
  const key = createHash("sha256").update(`${seed}`).digest();
  return createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

export const sha256 = (bytes: Uint8Array): string =>
  createHash("sha256").update(bytes).digest("hex");

export interface Area {
  readonly start: number;
  readonly end: number;
}

/**
 * Changes an area piece by piece: data, holes that are never written, and data that is trimmed or
 * zeroed again. `content` is what the export holds, and is changed with it. Ends with a FLUSH.
 */
export async function fill(
  socket: string,
  content: Buffer,
  seed: number,
  { start, end }: Area = { start: 0, end: content.length },
): Promise<void> {
  const random = seededRandom(seed);
  const bytes = seededBytes(seed, end - start);
  const session = await Session.connect(socket);
  const pieces: Area[] = [];
  for (let at = start; at < end;) {
    const length = PIECES_KIB[Math.floor(random() * PIECES_KIB.length)]! * KIB;
    pieces.push({ start: at, end: Math.min(at + length, end) });
    at += length;
  }
  const change = async (piece: Area, kind: (typeof MIX)[number]): Promise<void> => {
    if (kind === "nothing") return;
    const range = { offset: piece.start, length: piece.end - piece.start };
    const payload = bytes.subarray(piece.start - start, piece.end - start);
    await request(session, { ...range, command: COMMAND.WRITE, payload });
    content.set(payload, piece.start);
    if (kind === "write") return;
    const command = kind === "trimmed" ? COMMAND.TRIM : COMMAND.WRITE_ZEROES;
    await request(session, { ...range, command });
    content.fill(0, piece.start, piece.end);
  };
  const requester = async (): Promise<void> => {
    for (let piece = pieces.shift(); piece !== undefined; piece = pieces.shift()) {
      await change(piece, MIX[Math.floor(random() * MIX.length)]!);
    }
  };
  try {
    await Promise.all(Array.from({ length: IN_FLIGHT }, requester));
    await request(session, { command: COMMAND.FLUSH });
  } finally {
    session.close();
  }
}

export async function readExport(socket: string, sizeBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(sizeBytes);
  await readAll(socket, sizeBytes, (block, data) => void bytes.set(data, block * BLOCK_BYTES));
  return bytes;
}

async function request(session: Session, fields: RequestFields): Promise<void> {
  const reply = await session.request(fields);
  if (reply?.error === 0) return;
  throw new Error(`request ${fields.command} at ${fields.offset}: error ${reply?.error}`);
}
