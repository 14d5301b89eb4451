import { fioCase } from "../fio.ts";
import type { Scenario } from "../scenario.ts";

const common = ["--bs=256k", "--iodepth=8"];
const read = "256 KiB sequential read, depth 8";
const write = "256 KiB sequential write, depth 8";

export const sequential256k: Scenario = {
  name: "sequential-256k",
  where: ["memory", "disk"],
  targets: ["lockless", "none", "nbdkit", "quorum"],
  lifetime: "place",
  full: true,
  rows: "cases",
  sizeMiB: 1024,
  cases: [
    fioCase(read, "MiB/s", ["--rw=read", ...common]),
    fioCase(write, "MiB/s", ["--rw=write", ...common]),
  ],
  goals: [
    { case: read, ours: "lockless", theirs: "nbdkit", ratio: 0.9, where: "memory" },
    { case: write, ours: "lockless", theirs: "quorum", ratio: 2.0, where: "memory" },
    { case: write, ours: "lockless", theirs: "none", ratio: 0.97 },
  ],
};
