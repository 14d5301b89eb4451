import { LEVEL_TARGETS } from "./level-targets.ts";
import { MIRROR_TARGETS } from "./mirror-targets.ts";
import type { Target } from "./target.ts";

const ALL = { ...MIRROR_TARGETS, ...LEVEL_TARGETS };

export type TargetName = keyof typeof ALL;

/** All that can be measured, in the order of tables. */
export const TARGETS: Readonly<Record<TargetName, Target>> = ALL;
