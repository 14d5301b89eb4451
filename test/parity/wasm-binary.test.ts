import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { compileKernels, embed, EMBEDDED } from "../../scripts/compile-kernels.ts";

/** The compiler takes seconds, many of them on a busy machine. */
const COMPILER_MS = 120_000;

test(
  "the embedded module is what its source compiles to",
  () => {
    expect(readFileSync(EMBEDDED, "utf8")).toBe(embed(compileKernels()));
  },
  COMPILER_MS,
);
