/** Replies to NBD_CMD_BLOCK_STATUS: a chunk for each metadata context that is asked about. */
import type { BlockDevice } from "./block-device.ts";
import { ChunkFlag, ChunkType } from "./constants.ts";
import type { MetaContext, Status } from "./meta-contexts.ts";
import type { ChunkFormat, Origin } from "./reply-format.ts";
import type { Slab } from "./slab.ts";
import { CONTEXT_ID_BYTES, STATUS_PAYLOAD_BYTES } from "./validate.ts";

/** The protocol would allow 2^20; a client asks again for what is behind the last. */
export const EXTENTS_MAX = 4096;
/** The same while memory is scarce: the reply of two contexts is a small one. */
export const SCARCE_EXTENTS_MAX = 1024;

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

/** How long a reply can get with at most `max` extents for each of `contexts` contexts. */
export function statusBytesMax(format: ChunkFormat, contexts: number, max: number): number {
  const payload = format.wideStatus ? 8 + 16 * max : 4 + 8 * max;
  return contexts * (format.headerBytes + payload);
}

/** What the device says, at most `max` extents for each context. */
export function statusesOf(
  device: BlockDevice,
  offset: number,
  { length, contexts }: StatusRequest,
  max: number,
): Promise<(readonly Status[])[]> {
  return Promise.all(contexts.map((context) => context.statusOf(device, offset, length, max)));
}

/** Writes the whole reply; returns where it ends. */
export function encodeStatuses(
  format: ChunkFormat,
  { bytes, view }: Slab,
  start: number,
  origin: Origin,
  contexts: readonly MetaContext[],
  answers: readonly (readonly Status[])[],
): number {
  let at = start;
  for (const [index, { id }] of contexts.entries()) {
    const flags = index === contexts.length - 1 ? ChunkFlag.DONE : 0;
    const statuses = answers[index] ?? [];
    const payload = statusBytesMax(format, 1, statuses.length) - format.headerBytes;
    const type = format.wideStatus ? ChunkType.BLOCK_STATUS_EXT : ChunkType.BLOCK_STATUS;
    format.encodeHeader(view, at, origin, flags, type, payload);
    at = bytes.writeUInt32BE(id, at + format.headerBytes);
    at = format.wideStatus ? encodeWide(bytes, at, statuses) : encodeNarrow(bytes, at, statuses);
  }
  return at;
}

function encodeNarrow(bytes: Buffer, start: number, statuses: readonly Status[]): number {
  let at = start;
  for (const { length, flags } of statuses) {
    at = bytes.writeUInt32BE(length, at);
    at = bytes.writeUInt32BE(flags, at);
  }
  return at;
}

function encodeWide(bytes: Buffer, start: number, statuses: readonly Status[]): number {
  let at = bytes.writeUInt32BE(statuses.length, start);
  for (const { length, flags } of statuses) {
    at = bytes.writeBigUInt64BE(BigInt(length), at);
    at = bytes.writeBigUInt64BE(BigInt(flags), at);
  }
  return at;
}
