import { describe, it } from "vitest";
import { Scenario } from "./scenario.ts";
import { seedsToRun } from "./seeds.ts";

const PHASES = 3;

describe("power loss: nothing flushed is lost, and members agree again after the sync", () => {
  // The whole engine on simulated disks that keep, drop and reorder what was not synced: see
  // scenario.ts for what each start is held against.
  for (const seed of seedsToRun({ short: 30, long: 400 })) {
    it(`NBD_RAID_SEED=${seed}`, async () => {
      await new Scenario(seed).run(PHASES);
    });
  }
});
