import { describe, it } from "vitest";
import { seedsToRun } from "../sim/seeds.ts";
import { CASES, INTERNAL_CASES } from "./cases.ts";
import { Life } from "./life.ts";
import { SimulatedBench } from "./simulated-bench.ts";

const ROUNDS = 10;

const cases = [...CASES, ...INTERNAL_CASES];

describe.for(cases.map(({ title, shape }) => [title, shape] as const))("%s", ([, shape]) => {
  it.for(seedsToRun({ short: 1, long: 2 }))(
    "lives as a plain array of bytes does: NBD_RAID_SEED=%i",
    async (seed) => {
      const bench = new SimulatedBench(seed, shape);
      await bench.start();
      await new Life(bench).run(ROUNDS);
    },
  );
});
