import { WASM_BINARY } from "./wasm-binary.ts";

/** What the module exports (`src/parity/assembly/kernels.ts`): addresses in its memory, and a length. */
export interface WasmModule {
  xor(blocks: number, end: number, into: number, length: number): void;
  pq(blocks: number, end: number, p: number, q: number, length: number): void;
  multiplyInto(q: number, source: number, factor: number, length: number): void;
  solveOne(x: number, q: number, sumQ: number, factor: number, length: number): void;
  solveTwo(
    x: number,
    y: number,
    p: number,
    q: number,
    sumP: number,
    sumQ: number,
    ofP: number,
    ofQ: number,
    length: number,
  ): void;
}

/** The module's lengths are multiples of this. */
export const ROUND_BYTES = 64;
/** Of an address in a list of blocks. */
export const ADDRESS_BYTES = 4;
/** Of the products of one factor with 0, 1, ... 15, then with 0, 16, ... 240. */
export const FACTOR_BYTES = 32;

/** WebAssembly's unit of memory. */
const PAGE_BYTES = 65_536;

/** The little of WebAssembly that is needed here; TypeScript has it among the types of browsers. */
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => { buffer: ArrayBuffer };
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { exports: unknown };
};

/**
 * An instance with zeroed memory of its own, which never grows: views of it stay valid. Throws
 * where there is no WebAssembly, or none with SIMD, or no address space for it.
 */
export function instantiate(memoryBytes: number): { module: WasmModule; memory: ArrayBuffer } {
  const pages = Math.ceil(memoryBytes / PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const module = new WebAssembly.Module(Buffer.from(WASM_BINARY, "base64"));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { module: exports as WasmModule, memory: memory.buffer };
}
