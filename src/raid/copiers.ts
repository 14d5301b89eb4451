import { createKernels } from "../parity/create.ts";
import type { RangeCopier } from "../sync/engine.ts";
import { copiesCopier } from "./copies-copy.ts";
import type { ArrayShape } from "./geometry/geometry.ts";
import { geometryOf } from "./geometry/of.ts";
import { parityCopier } from "./parity-copy.ts";
import { chunkPlacement, mirrorPlacement } from "./placement.ts";

/**
 * How an array of this shape makes ranges of at most `windowBytes` consistent. The copier has
 * buffers of its own: it is for one run at a time, on the thread that made it.
 */
export function copierOf(shape: ArrayShape, windowBytes: number): RangeCopier {
  const geometry = geometryOf(shape);
  switch (geometry.kind) {
    case "mirror":
      return copiesCopier(mirrorPlacement(shape.raidDisks), windowBytes);
    case "copies":
      return copiesCopier(chunkPlacement(geometry), windowBytes);
    case "parity":
      return parityCopier(geometry, createKernels(), windowBytes);
    case "striping":
      throw new Error("invariant broken: what has no redundancy has no sync");
  }
}
