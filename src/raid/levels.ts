import { Copies } from "./copies.ts";
import type { AnyGeometry } from "./geometry/geometry.ts";
import type { Leg, Legs, Level, LevelHost } from "./level.ts";
import { Mirror } from "./mirror.ts";
import { Parity } from "./parity.ts";
import { Striping } from "./striping.ts";

/** The level that works by this geometry. */
export function levelOf<L extends Leg>(
  geometry: AnyGeometry,
  legs: Legs<L>,
  host: LevelHost<L>,
): Level<L> {
  switch (geometry.kind) {
    case "mirror":
      return new Mirror(legs);
    case "parity":
      return new Parity(geometry, legs, host);
    case "striping":
      return new Striping(geometry, legs);
    case "copies":
      return new Copies(geometry, legs);
  }
}
