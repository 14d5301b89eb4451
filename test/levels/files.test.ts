import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "vitest";
import { seedsToRun } from "../sim/seeds.ts";
import { CASES, INTERNAL_CASES, isCommon } from "./cases.ts";
import { FileBench } from "./file-bench.ts";
import { Life } from "./life.ts";

const ROUNDS = 8;
/** What the others differ from these in is looked at on simulated disks. */
const cases = [...CASES.filter(isCommon), ...INTERNAL_CASES];

describe.for(cases.map(({ title, shape }) => [title, shape] as const))("%s", ([, shape]) => {
  it.for(seedsToRun({ short: 1, long: 2 }))(
    "lives in files as a plain array of bytes does: NBD_RAID_SEED=%i",
    async (seed) => {
      const folder = mkdtempSync(join(tmpdir(), "nbd-raid-levels-"));
      const bench = await FileBench.create(folder, seed, shape);
      try {
        await bench.start();
        await new Life(bench).run(ROUNDS);
      } finally {
        await bench.dispose();
      }
    },
  );
});
