import type { Kernels } from "./kernels.ts";
import { plainKernels } from "./plain.ts";

/** The fastest kernels that run here. */
export function createKernels(): Kernels {
  return plainKernels;
}
