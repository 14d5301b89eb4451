import { NbdRaidError } from "../../errors.ts";
import type { AnyGeometry, ArrayShape } from "./geometry.ts";
import { linearGeometry } from "./linear.ts";
import { mirrorGeometry } from "./mirror.ts";
import { parityGeometry } from "./parity.ts";
import { raid0Geometry } from "./raid0.ts";
import { raid10Geometry } from "./raid10.ts";
import { shapeRefusal } from "./refusals.ts";

const BY_LEVEL: Readonly<Record<number, (shape: ArrayShape) => AnyGeometry>> = {
  [-1]: linearGeometry,
  0: raid0Geometry,
  1: mirrorGeometry,
  4: parityGeometry,
  5: parityGeometry,
  6: parityGeometry,
  10: raid10Geometry,
};

/**
 * How an array of this shape lays out data. At level 0, `layout` counts only with md's feature
 * 0x1000: whoever read a superblock without it says 0, unknown.
 *
 * Throws superblock-unsupported for a shape that there can be no array of; the message has no path.
 */
export function geometryOf(shape: ArrayShape): AnyGeometry {
  const refused = shapeRefusal(shape);
  if (refused !== null) throw new NbdRaidError("superblock-unsupported", refused);
  const geometry = BY_LEVEL[shape.level]!(shape);
  if (Number.isSafeInteger(geometry.sizeBytes)) return geometry;
  throw new NbdRaidError("superblock-unsupported", "the array is larger than 8 PiB");
}
