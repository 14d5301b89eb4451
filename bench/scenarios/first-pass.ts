import { onePassCase } from "../fio.ts";
import type { Scenario } from "../scenario.ts";

const random = "first pass, 4 KiB random write, depth 32";
const sequential = "first pass, 256 KiB sequential write, depth 8";

/** Every block of a new array once: all regions turn Dirty on the way. What does the bitmap cost? */
export const firstPass: Scenario = {
  name: "first-pass",
  where: ["memory", "disk"],
  targets: ["lockless", "internal", "none"],
  lifetime: "measurement",
  full: false,
  rows: "cases",
  sizeMiB: 1024,
  cases: [
    onePassCase(random, "IOPS", ["--rw=randwrite", "--bs=4k", "--iodepth=32"]),
    onePassCase(sequential, "MiB/s", ["--rw=write", "--bs=256k", "--iodepth=8"]),
  ],
  goals: [
    { case: random, ours: "lockless", theirs: "none", ratio: 0.85 },
    { case: sequential, ours: "lockless", theirs: "none", ratio: 0.85 },
  ],
};
