import {
  checkBlock,
  checkBlocks,
  checkExponent,
  checkExponents,
  checkMissing,
} from "./arguments.ts";
import { inverse, multiply, ORDER, power, solveTwo } from "./field.ts";
import type { Kernels } from "./kernels.ts";
import {
  ADDRESS_BYTES,
  FACTOR_BYTES,
  instantiate,
  ROUND_BYTES,
  type WasmModule,
} from "./wasm-module.ts";

/**
 * The kernels in WebAssembly. A module sees nothing but its own memory, so blocks elsewhere are
 * copied there and back a tile at a time; blocks from `allocate` are worked on where they are.
 */

/** What is worked on at once: the tiles of a stripe of a dozen disks take 100 KiB of L2 cache. */
const TILE_BYTES = 8192;
/** A line more than a tile: tiles 8192 bytes apart would contend for the same cache lines. */
const SLOT_BYTES = TILE_BYTES + ROUND_BYTES;
/** Tiles of the widest call: a data block for every exponent, P, Q, and two sums. */
const SLOTS = ORDER + 4;
/** Only P can have more; it is made in several calls then. */
const XOR_SOURCES_MAX = ORDER;

/*
 * Where things lie in the memory: the products of each factor, a tile of zeroes, the addresses of
 * the blocks of a call, tiles, and what `allocate` gives away.
 */
const ZEROES = 256 * FACTOR_BYTES;
const LIST = ZEROES + TILE_BYTES;
const TILES = LIST + rounded(SLOTS * ADDRESS_BYTES);
const ARENA = TILES + SLOTS * SLOT_BYTES;
/** Pages of it that are never touched cost no memory. */
const ARENA_BYTES = 32 << 20;

/** Kernels for one thread. Throws where WebAssembly with SIMD cannot run. */
export function wasmKernels(): Kernels {
  return new WasmKernels();
}

class WasmKernels implements Kernels {
  readonly #module: WasmModule;
  readonly #memory: ArrayBuffer;
  readonly #bytes: Uint8Array;
  readonly #list: Uint32Array;
  #allocated = ARENA;

  constructor() {
    const { module, memory } = instantiate(ARENA + ARENA_BYTES);
    this.#module = module;
    this.#memory = memory;
    this.#bytes = new Uint8Array(memory);
    this.#list = new Uint32Array(memory, LIST, SLOTS);
    for (let factor = 0; factor < 256; factor++) {
      for (let nibble = 0; nibble < 16; nibble++) {
        const at = factorAt(factor) + nibble;
        this.#bytes[at] = multiply(factor, nibble);
        this.#bytes[at + 16] = multiply(factor, nibble << 4);
      }
    }
  }

  allocate(length: number): Uint8Array {
    const start = this.#allocated;
    // A line between two, for the same reason as between tiles.
    const end = start + rounded(length) + ROUND_BYTES;
    if (end > this.#bytes.length) return new Uint8Array(length);
    this.#allocated = end;
    return this.#bytes.subarray(start, start + length);
  }

  xor(into: Uint8Array, sources: readonly Uint8Array[]): void {
    checkBlocks(into.length, sources);
    if (sources.length > XOR_SOURCES_MAX) {
      this.xor(into, sources.slice(0, XOR_SOURCES_MAX));
      return this.xorInto(into, sources.slice(XOR_SOURCES_MAX));
    }
    for (let at = 0, bytes = 0; at < into.length; at += bytes) {
      bytes = Math.min(TILE_BYTES, into.length - at);
      const to = this.#place(into, sources.length, at, bytes);
      this.#bringAll(sources, at, bytes);
      this.#module.xor(LIST, endOfList(sources.length), to, rounded(bytes));
      this.#takeBack(into, to, at, bytes);
    }
  }

  xorInto(into: Uint8Array, sources: readonly Uint8Array[]): void {
    checkBlocks(into.length, sources);
    if (sources.length > XOR_SOURCES_MAX) {
      this.xorInto(into, sources.slice(0, XOR_SOURCES_MAX));
      return this.xorInto(into, sources.slice(XOR_SOURCES_MAX));
    }
    const own = sources.length;
    for (let at = 0, bytes = 0; at < into.length; at += bytes) {
      bytes = Math.min(TILE_BYTES, into.length - at);
      const to = this.#bring(into, own, at, bytes);
      this.#bringAll(sources, at, bytes);
      this.#list[own] = to;
      this.#module.xor(LIST, endOfList(own + 1), to, rounded(bytes));
      this.#takeBack(into, to, at, bytes);
    }
  }

  pq(
    p: Uint8Array,
    q: Uint8Array,
    data: readonly Uint8Array[],
    exponents: readonly number[],
  ): void {
    checkBlocks(p.length, data);
    checkBlock(p.length, q);
    checkExponents(data, exponents);
    const entries = this.#clearList(exponents);
    for (let at = 0, bytes = 0; at < p.length; at += bytes) {
      bytes = Math.min(TILE_BYTES, p.length - at);
      const toP = this.#place(p, data.length, at, bytes);
      const toQ = this.#place(q, data.length + 1, at, bytes);
      for (let i = 0; i < data.length; i++) {
        this.#list[entries - 1 - exponents[i]!] = this.#bring(data[i]!, i, at, bytes);
      }
      this.#module.pq(LIST, endOfList(entries), toP, toQ, rounded(bytes));
      this.#takeBack(p, toP, at, bytes);
      this.#takeBack(q, toQ, at, bytes);
    }
  }

  multiplyInto(q: Uint8Array, source: Uint8Array, exponent: number): void {
    checkBlock(q.length, source);
    checkExponent(exponent);
    const factor = factorAt(power(exponent));
    for (let at = 0, bytes = 0; at < q.length; at += bytes) {
      bytes = Math.min(TILE_BYTES, q.length - at);
      const to = this.#bring(q, 0, at, bytes);
      const from = this.#bring(source, 1, at, bytes);
      this.#module.multiplyInto(to, from, factor, rounded(bytes));
      this.#takeBack(q, to, at, bytes);
    }
  }

  recover(
    data: readonly Uint8Array[],
    missing: readonly number[],
    p: Uint8Array | null,
    q: Uint8Array | null,
    exponents: readonly number[],
  ): void {
    checkMissing(data, missing, p, q);
    const x = data[missing[0]!]!;
    const y = data[missing[1]!];
    if (p !== null && y === undefined) {
      this.xor(x, [p, ...data.filter((_, index) => index !== missing[0])]);
      return;
    }
    checkBlocks(x.length, data);
    checkBlock(x.length, q!);
    checkExponents(data, exponents);
    const exponentX = exponents[missing[0]!]!;
    if (p === null || y === undefined) {
      const factor = factorAt(inverse(power(exponentX)));
      return this.#recoverByQ(data, missing, q!, exponents, factor);
    }
    checkBlock(x.length, p);
    const { ofP, ofQ } = solveTwo(exponentX, exponents[missing[1]!]!);
    this.#recoverTwo(data, missing, p, q!, exponents, factorAt(ofP), factorAt(ofQ));
  }

  #recoverByQ(
    data: readonly Uint8Array[],
    missing: readonly number[],
    q: Uint8Array,
    exponents: readonly number[],
    factor: number,
  ): void {
    const x = data[missing[0]!]!;
    const n = data.length;
    const entries = this.#clearList(exponents);
    for (let at = 0, bytes = 0; at < x.length; at += bytes) {
      bytes = Math.min(TILE_BYTES, x.length - at);
      const sumQ = this.#sums(data, missing, exponents, entries, at, bytes);
      const toX = this.#place(x, missing[0]!, at, bytes);
      this.#module.solveOne(toX, this.#bring(q, n, at, bytes), sumQ, factor, rounded(bytes));
      this.#takeBack(x, toX, at, bytes);
    }
  }

  #recoverTwo(
    data: readonly Uint8Array[],
    missing: readonly number[],
    p: Uint8Array,
    q: Uint8Array,
    exponents: readonly number[],
    ofP: number,
    ofQ: number,
  ): void {
    const [x, y] = [data[missing[0]!]!, data[missing[1]!]!];
    const n = data.length;
    const entries = this.#clearList(exponents);
    for (let at = 0, bytes = 0; at < x.length; at += bytes) {
      bytes = Math.min(TILE_BYTES, x.length - at);
      const sumQ = this.#sums(data, missing, exponents, entries, at, bytes);
      const sumP = sumQ + SLOT_BYTES;
      const [fromP, fromQ] = [this.#bring(p, n, at, bytes), this.#bring(q, n + 1, at, bytes)];
      const toX = this.#place(x, missing[0]!, at, bytes);
      const toY = this.#place(y, missing[1]!, at, bytes);
      this.#module.solveTwo(toX, toY, fromP, fromQ, sumP, sumQ, ofP, ofQ, rounded(bytes));
      this.#takeBack(x, toX, at, bytes);
      this.#takeBack(y, toY, at, bytes);
    }
  }

  /** Q of a tile of what is there, in the slot it returns, and P in the next one. */
  #sums(
    data: readonly Uint8Array[],
    missing: readonly number[],
    exponents: readonly number[],
    entries: number,
    at: number,
    bytes: number,
  ): number {
    for (let i = 0; i < data.length; i++) {
      if (missing.includes(i)) continue;
      this.#list[entries - 1 - exponents[i]!] = this.#bring(data[i]!, i, at, bytes);
    }
    const sumQ = slotAt(data.length + 2);
    this.#module.pq(LIST, endOfList(entries), sumQ + SLOT_BYTES, sumQ, rounded(bytes));
    return sumQ;
  }

  /** One entry for every exponent up to the highest, zeroes for a block: how many there are. */
  #clearList(exponents: readonly number[]): number {
    let entries = 0;
    for (let i = 0; i < exponents.length; i++) entries = Math.max(entries, exponents[i]! + 1);
    this.#list.fill(ZEROES, 0, entries);
    return entries;
  }

  /**
   * Where the module finds, or leaves, a tile of a block: in the block itself, or in a slot; always
   * there if it ends amid a round, so that what lies after the block is not written.
   */
  #place(block: Uint8Array, slot: number, at: number, bytes: number): number {
    const inPlace = block.buffer === this.#memory && bytes % ROUND_BYTES === 0;
    return inPlace ? block.byteOffset + at : slotAt(slot);
  }

  #bring(block: Uint8Array, slot: number, at: number, bytes: number): number {
    const address = this.#place(block, slot, at, bytes);
    if (address >= ARENA) return address;
    const whole = bytes === block.length;
    const tile = whole ? block : new Uint8Array(block.buffer, block.byteOffset + at, bytes);
    this.#bytes.set(tile, address);
    return address;
  }

  #bringAll(blocks: readonly Uint8Array[], at: number, bytes: number): void {
    for (let i = 0; i < blocks.length; i++) {
      this.#list[i] = this.#bring(blocks[i]!, i, at, bytes);
    }
  }

  #takeBack(block: Uint8Array, address: number, at: number, bytes: number): void {
    if (address < ARENA) block.set(this.#bytes.subarray(address, address + bytes), at);
  }
}

function factorAt(factor: number): number {
  return factor * FACTOR_BYTES;
}

function slotAt(slot: number): number {
  return TILES + slot * SLOT_BYTES;
}

function endOfList(entries: number): number {
  return LIST + entries * ADDRESS_BYTES;
}

function rounded(bytes: number): number {
  return Math.ceil(bytes / ROUND_BYTES) * ROUND_BYTES;
}
