/** Lists of buffers that stand for one range of a member: their bytes, one after the other. */

/** Buffers that one readv(2) or writev(2) takes (IOV_MAX). */
export const VECTOR_BUFFERS_MAX = 1024;

/** Bytes. */
export function totalLength(buffers: readonly Uint8Array[]): number {
  let total = 0;
  for (const buffer of buffers) total += buffer.length;
  return total;
}

/** What is left of the list after its first `skip` bytes: as much of it as one call takes. */
export function nextBuffers(buffers: readonly Uint8Array[], skip: number): readonly Uint8Array[] {
  if (skip === 0 && buffers.length <= VECTOR_BUFFERS_MAX) return buffers;
  let index = 0;
  let before = skip;
  for (; index < buffers.length; index++) {
    const { length } = buffers[index]!;
    if (before < length) break;
    before -= length;
  }
  const next = buffers.slice(index, index + VECTOR_BUFFERS_MAX);
  const [first] = next;
  if (first !== undefined) next[0] = first.subarray(before);
  return next;
}

/** The bytes in one buffer: the only buffer itself, or a copy. */
export function gathered(buffers: readonly Uint8Array[]): Uint8Array {
  const [first] = buffers;
  return buffers.length === 1 && first !== undefined ? first : Buffer.concat(buffers);
}
