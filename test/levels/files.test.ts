import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "vitest";
import { seedsToRun } from "../sim/seeds.ts";
import { CASES } from "./cases.ts";
import { FileBench } from "./file-bench.ts";
import { Life } from "./life.ts";

const ROUNDS = 8;
const isLong = process.env["NBD_RAID_LONG"] === "1";
/** What the others differ from these in is looked at on simulated disks. */
const COMMON = [/^level (linear|1|4)/, /original/, /alternate/, /left-symmetric/, /10 [nfo]2/];
const cases = CASES.filter(({ title }) => isLong || COMMON.some((common) => common.test(title)));

describe.for(cases.map(({ title, shape }) => [title, shape] as const))("%s", ([, shape]) => {
  it.for(seedsToRun({ short: 1, long: 5 }))(
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
