/** Blocks that say what they are, so that a torn or a misplaced one is known when it is seen. */

export const BLOCK_BYTES = 4096;

/** What a block holds: zeroes, or the sequence number of the write that made it. */
export type Content = number;
export const ZEROES: Content = 0;

const LABEL_BYTES = 16;
const zeroes = Buffer.alloc(BLOCK_BYTES);

/** `count` blocks from block `first` on: each repeats its own label from end to end. */
export function encodeBlocks(first: number, count: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(count * BLOCK_BYTES);
  const label = Buffer.from("a block.        ", "latin1");
  for (let index = 0; index < count; index++) {
    label.writeUInt32LE(first + index, 8);
    label.writeUInt32LE(sequence, 12);
    bytes.fill(label, index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
  }
  return bytes;
}

/** True if every sixteen bytes are as one of the blocks has them there. */
export function isMixedOf(blocks: readonly Buffer[], bytes: Buffer): boolean {
  for (let start = 0; start < BLOCK_BYTES; start += LABEL_BYTES) {
    const end = start + LABEL_BYTES;
    if (!blocks.some((block) => bytes.compare(block, start, end, start, end) === 0)) return false;
  }
  return true;
}

/** Throws for a block that no whole write, to this very place, can have left. */
export function decodeBlock(bytes: Buffer, block: number): Content {
  if (bytes.equals(zeroes)) return ZEROES;
  const periodic = bytes.subarray(LABEL_BYTES).equals(bytes.subarray(0, -LABEL_BYTES));
  if (!periodic || bytes.toString("latin1", 0, 8) !== "a block.") {
    throw new Error(`block ${block} is torn or foreign: ${ends(bytes)}`);
  }
  const written = bytes.readUInt32LE(8);
  if (written !== block) throw new Error(`block ${block} holds what was written to ${written}`);
  return bytes.readUInt32LE(12);
}

function ends(bytes: Buffer): string {
  const first = bytes.toString("hex", 0, LABEL_BYTES);
  return `${first} to ${bytes.toString("hex", BLOCK_BYTES - LABEL_BYTES)}`;
}
