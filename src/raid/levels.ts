import type { AnyGeometry } from "./geometry/geometry.ts";
import type { Leg, Legs, Level, LevelHost } from "./level.ts";
import { Mirror } from "./mirror.ts";
import { Parity } from "./parity.ts";
import { NbdRaidError } from "../errors.ts";

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
    default:
      throw new NbdRaidError("not-supported", `${geometry.kind} levels cannot be served`);
  }
}
