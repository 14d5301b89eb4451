/** `npm run build:kernels`: compiles the parity kernels and writes the file that embeds them. */
import { writeFileSync } from "node:fs";
import { compileKernels, embed, EMBEDDED } from "./compile-kernels.ts";

const binary = compileKernels();
writeFileSync(EMBEDDED, embed(binary));
console.log(`${EMBEDDED}: ${binary.length} bytes of WebAssembly`);
