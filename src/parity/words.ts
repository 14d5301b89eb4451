/**
 * Lets a kernel work on whole words in blocks of any length at any alignment: where every block is
 * aligned, in place; else, and for the last few bytes, in aligned copies of a tile at a time.
 */

export const WORD_BYTES = 8;
/** Copies of all the tiles of a wide stripe stay in the L2 cache, of a narrow one in L1. */
const TILE_BYTES = 4096;

/**
 * Works on blocks that are aligned to words and a whole number of them long. `outputs` hold what
 * the blocks they stand for hold.
 */
export type WordKernel = (outputs: readonly Uint8Array[], inputs: readonly Uint8Array[]) => void;

let copies: readonly Uint8Array[] = [];

function aligned(block: Uint8Array): boolean {
  return block.byteOffset % WORD_BYTES === 0;
}

/** Outputs and inputs have `length` bytes each. */
export function byWords(
  length: number,
  outputs: readonly Uint8Array[],
  inputs: readonly Uint8Array[],
  kernel: WordKernel,
): void {
  let done = 0;
  if (outputs.every(aligned) && inputs.every(aligned)) {
    done = length - (length % WORD_BYTES);
    if (done === length) return kernel(outputs, inputs);
    const body = (block: Uint8Array): Uint8Array => block.subarray(0, done);
    if (done > 0) kernel(outputs.map(body), inputs.map(body));
  }
  const blocks = [...outputs, ...inputs];
  copies = [...copies, ...blocks.slice(copies.length).map(() => new Uint8Array(TILE_BYTES))];
  for (; done < length; done += TILE_BYTES) {
    const bytes = Math.min(TILE_BYTES, length - done);
    const words = Math.ceil(bytes / WORD_BYTES);
    const tiles = blocks.map((block, index) => {
      const tile = copies[index]!.subarray(0, words * WORD_BYTES);
      tile.set(block.subarray(done, done + bytes));
      return tile;
    });
    kernel(tiles.slice(0, outputs.length), tiles.slice(outputs.length));
    outputs.forEach((output, index) => output.set(tiles[index]!.subarray(0, bytes), done));
  }
}
