import type { AnyGeometry } from "./geometry/geometry.ts";
import type { Leg, Legs, Level, LevelHost } from "./level.ts";
import { Mirror } from "./mirror.ts";
import { NbdRaidError } from "../errors.ts";

/** The level that works by this geometry. */
export function levelOf<L extends Leg>(
  geometry: AnyGeometry,
  legs: Legs<L>,
  _host: LevelHost<L>,
): Level<L> {
  switch (geometry.kind) {
    case "mirror":
      return new Mirror(legs);
    default:
      throw new NbdRaidError("not-supported", `${geometry.kind} levels cannot be served`);
  }
}
