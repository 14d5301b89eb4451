/**
 * Arrays as mdadm makes them: members may hold anything where nothing was written. Parity is made,
 * and copies become equal, behind the first write.
 */
import { describe, expect, it } from "vitest";
import { anyLost, isParity, placesOf } from "../raid/oracle-placement.ts";
import { freshBytes } from "../sim/client.ts";
import { isRedundant, oracleShape } from "../sim/disks.ts";
import { seedsToRun } from "../sim/seeds.ts";
import { CASES, isCommon } from "./cases.ts";
import { Life } from "./life.ts";
import { SimulatedBench } from "./simulated-bench.ts";

const ROUNDS = 8;
const isLong = process.env["NBD_RAID_LONG"] === "1";
const cases = CASES.filter(isCommon)
  .filter(({ shape }) => isRedundant(shape))
  .filter(({ shape }) => isLong || shape.chunkBytes < 64 * 1024);

describe.for(cases.map(({ title, shape }) => [title, shape] as const))("%s", ([, shape]) => {
  it.for(seedsToRun({ short: 1, long: 2 }))(
    "gives back what was written where anything lay: NBD_RAID_SEED=%i",
    async (seed) => {
      const bench = new SimulatedBench(seed, { ...shape, unknown: true });
      await bench.start();
      await new Life(bench).run(ROUNDS);
    },
  );

  it("keeps what was written when its member fails before parity was made", async () => {
    // Wide: so that it would pay to change the parity that was never made by what changed.
    const raidDisks = { "4": 6, "5": 6, "6": 8 }[shape.level as string] ?? shape.raidDisks;
    const wide = { ...shape, raidDisks, unknown: true };
    const oracle = oracleShape(wide);
    const bench = new SimulatedBench(1, wide);
    const array = await bench.start();
    array.set({ syncSpeedMax: 1, syncSpeedMin: 1 });
    const written = [100, 70_000, 200_001].map((offset) => {
      return { offset, bytes: Buffer.from(freshBytes(bench.random, 3000)) };
    });
    for (const { offset, bytes } of written) {
      await bench.until(array.write(bytes, offset, false));
    }
    if (isParity(oracle)) expect(array.status().sync).toMatchObject({ action: "resync" });
    const holders = new Set(written.map(({ offset }) => placesOf(oracle, offset)[0]!.slot));
    for (const slot of [...holders].slice(0, Math.min(2, anyLost(oracle)))) {
      await bench.until(array.fail(String(slot)));
      for (const { offset, bytes } of written) {
        const into = Buffer.alloc(bytes.length);
        await bench.until(array.read(into, offset));
        expect(into.equals(bytes), `at ${offset}, without slot ${slot}`).toBe(true);
      }
    }
  });
});
