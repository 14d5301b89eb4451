import type { Kernels } from "./kernels.ts";
import { plainKernels } from "./plain.ts";
import { wasmKernels } from "./wasm.ts";

/**
 * The fastest kernels that run here, for one thread: WebAssembly, which on ordinary buffers too is
 * faster than plain TypeScript at everything, XOR included (`npm run bench:kernels`).
 */
export function createKernels(): Kernels {
  try {
    return wasmKernels();
  } catch {
    // No WebAssembly (--jitless), none with SIMD, or no address space (ulimit -v).
    return plainKernels;
  }
}
