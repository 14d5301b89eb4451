import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { projectRoot } from "./project-root.ts";

const SOURCE = "src/parity/assembly/kernels.ts";
/** AssemblyScript's compiler, as a program: its types would replace Node's `console` for us all. */
const COMPILER = "node_modules/assemblyscript/bin/asc.js";
const OPTIMIZE = ["--optimizeLevel", "3", "--converge", "--noAssert", "--runtime", "stub"];
const FEATURES = ["--enable", "simd", "--importMemory"];

/** Where the module is kept, so that the program needs no compiler and no file beside its own. */
export const EMBEDDED = join(projectRoot, "src/parity/wasm-binary.ts");

/** Compiles the kernels' source to a WebAssembly module. Throws with what the compiler says. */
export function compileKernels(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "nbd-raid-kernels-"));
  try {
    const outFile = join(folder, "kernels.wasm");
    const options = ["--outFile", outFile, ...OPTIMIZE, ...FEATURES];
    execFileSync(process.execPath, [COMPILER, SOURCE, ...options], { cwd: projectRoot });
    return readFileSync(outFile);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The TypeScript file that holds the module. */
export function embed(binary: Uint8Array): string {
  return `/**
 * ${SOURCE}, compiled by \`npm run build:kernels\`: a WebAssembly
 * module in base64. A test compiles the source again and compares.
 */
export const WASM_BINARY =
  "${Buffer.from(binary).toString("base64")}";
`;
}
