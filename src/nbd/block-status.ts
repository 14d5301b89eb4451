/** Replies to NBD_CMD_BLOCK_STATUS: a chunk for each metadata context that is asked about. */
import type { BlockDevice } from "./block-device.ts";
import { ChunkFlag, ChunkType } from "./constants.ts";
import type { MetaContext, Status } from "./meta-contexts.ts";
import { viewOf, type ChunkFormat, type Origin } from "./reply-format.ts";
import { CONTEXT_ID_BYTES, STATUS_PAYLOAD_BYTES } from "./validate.ts";

/** The protocol would allow 2^20; a client asks again for what is behind the last. */
export const EXTENTS_MAX = 4096;

/** What the payload of a BLOCK_STATUS with an extended header asks for. */
export interface StatusRequest {
  readonly length: number;
  readonly contexts: readonly MetaContext[];
}

/** Null if it names a context twice, or one that is not selected. Its length has been checked. */
export function decodeStatusPayload(
  payload: Buffer,
  selected: readonly MetaContext[],
): StatusRequest | null {
  const length = payload.readUInt32BE(0) * 2 ** 32 + payload.readUInt32BE(4);
  const ids = new Set<number>();
  for (let at = STATUS_PAYLOAD_BYTES; at < payload.length; at += CONTEXT_ID_BYTES) {
    ids.add(payload.readUInt32BE(at));
  }
  const contexts = selected.filter(({ id }) => ids.has(id));
  const named = (payload.length - STATUS_PAYLOAD_BYTES) / CONTEXT_ID_BYTES;
  return contexts.length === named ? { length, contexts } : null;
}

/** The whole reply. `one` (REQ_ONE): a single extent for each context. */
export async function statusReply(
  format: ChunkFormat,
  device: BlockDevice,
  origin: Origin,
  offset: number,
  { length, contexts }: StatusRequest,
  one: boolean,
): Promise<Buffer> {
  const max = one ? 1 : EXTENTS_MAX;
  const answers = await Promise.all(
    contexts.map((context) => context.statusOf(device, offset, length, max)),
  );
  const chunks = contexts.map(({ id }, index) => {
    const flags = index === contexts.length - 1 ? ChunkFlag.DONE : 0;
    const statuses = answers[index] ?? [];
    return format.wideStatus
      ? wideChunk(format, origin, flags, id, statuses)
      : narrowChunk(format, origin, flags, id, statuses);
  });
  return Buffer.concat(chunks);
}

function narrowChunk(
  format: ChunkFormat,
  origin: Origin,
  flags: number,
  context: number,
  statuses: readonly Status[],
): Buffer {
  const payload = 4 + 8 * statuses.length;
  const bytes = Buffer.alloc(format.headerBytes + payload);
  format.encodeHeader(viewOf(bytes), 0, origin, flags, ChunkType.BLOCK_STATUS, payload);
  let at = bytes.writeUInt32BE(context, format.headerBytes);
  for (const { length, flags } of statuses) {
    at = bytes.writeUInt32BE(length, at);
    at = bytes.writeUInt32BE(flags, at);
  }
  return bytes;
}

function wideChunk(
  format: ChunkFormat,
  origin: Origin,
  flags: number,
  context: number,
  statuses: readonly Status[],
): Buffer {
  const payload = 8 + 16 * statuses.length;
  const bytes = Buffer.alloc(format.headerBytes + payload);
  format.encodeHeader(viewOf(bytes), 0, origin, flags, ChunkType.BLOCK_STATUS_EXT, payload);
  let at = bytes.writeUInt32BE(context, format.headerBytes);
  at = bytes.writeUInt32BE(statuses.length, at);
  for (const { length, flags } of statuses) {
    at = bytes.writeBigUInt64BE(BigInt(length), at);
    at = bytes.writeBigUInt64BE(BigInt(flags), at);
  }
  return bytes;
}
