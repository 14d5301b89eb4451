import { fioCase } from "../fio.ts";
import type { Scenario } from "../scenario.ts";

const shallowRead = "4 KiB random read, depth 1";
const shallowWrite = "4 KiB random write, depth 1";
const deepRead = "4 KiB random read, depth 32";
const deepWrite = "4 KiB random write, depth 32";

const read = ["--rw=randread", "--bs=4k"];
const write = ["--rw=randwrite", "--bs=4k"];

const inMemory = { ours: "lockless", where: "memory" } as const;

export const random4k: Scenario = {
  name: "random-4k",
  where: ["memory", "disk"],
  targets: ["lockless", "internal", "none", "nbdkit", "quorum"],
  lifetime: "place",
  full: true,
  rows: "cases",
  sizeMiB: 1024,
  cases: [
    fioCase(shallowRead, "µs", [...read, "--iodepth=1"]),
    fioCase(shallowWrite, "µs", [...write, "--iodepth=1"]),
    fioCase(deepRead, "IOPS", [...read, "--iodepth=32"]),
    fioCase(deepWrite, "IOPS", [...write, "--iodepth=32"]),
  ],
  goals: [
    { case: shallowRead, ...inMemory, theirs: "nbdkit", ratio: 1.1 },
    { case: shallowWrite, ...inMemory, theirs: "nbdkit", ratio: 1.1 },
    { case: deepRead, ...inMemory, theirs: "nbdkit", ratio: 1.5 },
    { case: deepWrite, ...inMemory, theirs: "nbdkit", ratio: 1.0 },
    { case: deepWrite, ...inMemory, theirs: "quorum", ratio: 4.0 },
    { case: deepWrite, ours: "lockless", theirs: "none", ratio: 0.97 },
  ],
};
