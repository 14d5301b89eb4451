import type { Scenario } from "../scenario.ts";
import type { TargetName } from "../targets.ts";

const name = "rebuild of a member, read and written";

const rebuilt: readonly TargetName[] = [
  "raid1-2",
  "raid4-4",
  "raid5-3",
  "raid5-4",
  "raid5-8",
  "raid6-4",
  "raid6-6",
  "raid6-8",
  "raid10-n2",
  "raid10-f2",
];

/** A member is replaced by a blank one, nobody else asks for anything. dd copies a file in its own turn. */
export const levelsRebuild: Scenario = {
  name: "levels-rebuild",
  where: ["memory", "disk"],
  targets: ["dd", ...rebuilt],
  lifetime: "measurement",
  full: true,
  rows: "targets",
  sizeMiB: 1024,
  cases: [
    {
      name,
      unit: "MiB/s",
      measure: ({ array }) => {
        if (array === null) throw new Error("only arrays of ours are rebuilt");
        return array.rebuild();
      },
    },
  ],
  goals: rebuilt.map((ours) => ({ case: name, ours, theirs: "dd", ratio: 0.6 })),
};
