import { describe, expect, it } from "vitest";
import { Scenario } from "./scenario.ts";
import { seedsToRun } from "./seeds.ts";

describe("power loss", () => {
  // The whole engine on simulated disks that keep, drop and reorder what was not synced: see
  // scenario.ts for what each start is held against. A failure names the seed that repeats it.
  it("loses nothing that was flushed, and members agree again after the sync", async () => {
    let crashes = 0;
    for (const seed of seedsToRun({ short: 30, long: 400 })) {
      const scenario = new Scenario(seed);
      try {
        await scenario.run(3);
      } catch (error) {
        const at = `${scenario.crashes} crashes, ${scenario.world.events} events`;
        throw new Error(`NBD_RAID_SEED=${seed} (${at}) repeats this`, { cause: error });
      }
      crashes += scenario.crashes;
    }
    expect(crashes).toBeGreaterThan(0);
  });
});
