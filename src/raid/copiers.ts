import { assert } from "../errors.ts";
import type { RangeCopier } from "../sync/engine.ts";
import { copyMirror } from "./mirror-copy.ts";

const COPIERS: Readonly<Record<number, RangeCopier>> = { 1: copyMirror };

/** How this level (md's number) makes a range consistent. */
export function copierOf(level: number): RangeCopier {
  const copier = COPIERS[level];
  assert(copier !== undefined, "an array that runs has a level that syncs");
  return copier;
}
