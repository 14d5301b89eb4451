import { fioCase } from "../fio.ts";
import type { Scenario } from "../scenario.ts";

const sequential = ["--bs=1m", "--iodepth=8"];
const random = ["--bs=4k", "--iodepth=32"];
const read = "1 MiB sequential read, depth 8";
const write = "1 MiB sequential write, depth 8";

const common = {
  where: ["memory"],
  lifetime: "run",
  full: true,
  rows: "targets",
  sizeMiB: 256,
  cases: [
    fioCase(read, "MiB/s", ["--rw=read", ...sequential]),
    fioCase(write, "MiB/s", ["--rw=write", ...sequential]),
    fioCase("4 KiB random read, depth 32", "IOPS", ["--rw=randread", ...random]),
    fioCase("4 KiB random write, depth 32", "IOPS", ["--rw=randwrite", ...random]),
  ],
} as const satisfies Partial<Scenario>;

/** Every level with all of its members, and one file served the same way. */
export const levels: Scenario = {
  name: "levels",
  ...common,
  targets: [
    "single",
    "linear-2",
    "raid0-4",
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
  ],
  goals: [
    { case: read, ours: "raid0-4", theirs: "single", ratio: 0.9 },
    { case: write, ours: "raid0-4", theirs: "single", ratio: 0.9 },
  ],
};

/** Levels with redundancy, with members failed; beside them a whole one. */
export const levelsDegraded: Scenario = {
  name: "levels-degraded",
  ...common,
  targets: [
    "raid5-4",
    "raid1-2-degraded",
    "raid4-4-degraded",
    "raid5-3-degraded",
    "raid5-4-degraded",
    "raid5-8-degraded",
    "raid6-4-degraded",
    "raid6-6-degraded",
    "raid6-8-degraded",
    "raid10-n2-degraded",
    "raid10-f2-degraded",
  ],
  goals: [{ case: read, ours: "raid5-4-degraded", theirs: "raid5-4", ratio: 0.4 }],
};
