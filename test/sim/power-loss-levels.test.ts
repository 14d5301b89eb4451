import { describe, it } from "vitest";
import type { LevelName } from "../../src/metadata/levels.ts";
import { LAYOUTS } from "../raid/oracle-shapes.ts";
import { chooseBitmap, type Shape } from "./disks.ts";
import { Scenario } from "./scenario.ts";
import { seedsToRun } from "./seeds.ts";
import type { World } from "./world.ts";

const PHASES = 3;
const KiB = 1024;

function chooseShape(world: World, level: LevelName): Shape {
  const layouts = LAYOUTS.filter((layout) => layout.level === level);
  const { layout, least } = layouts[world.below(layouts.length)]!;
  const chunkBytes = world.pick([4, 4, 64, 256, 512]) * KiB;
  return {
    level,
    layout,
    chunkBytes,
    raidDisks: Math.max(3, least) + world.below(level === "6" ? 5 : 3),
    sizeBytes: Math.max(3 * chunkBytes, world.pick([512, 512, 1024]) * KiB),
    ...chooseBitmap(world),
    writeMostly: world.chance(0.1),
  };
}

// See power-loss.test.ts and scenario.ts. Where parity cannot be believed reads may fail, and are
// never wrong.
describe.for(["4", "5", "6", "10"] as const)("power loss at level %s", (level) => {
  for (const seed of seedsToRun({ short: 6, long: 100 })) {
    it(`nothing flushed is lost, and members fit together again: NBD_RAID_SEED=${seed}`, async () => {
      await new Scenario(seed, (world) => chooseShape(world, level)).run(PHASES);
    });
  }
});
