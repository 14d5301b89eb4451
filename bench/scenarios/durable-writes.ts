import { fioCase } from "../fio.ts";
import { fuaWrites } from "../fua.ts";
import type { Case, Scenario } from "../scenario.ts";

const synced = ["--rw=randwrite", "--bs=4k", "--fsync=1"];

const fuaCase = (depth: number): Case => ({
  name: `4 KiB random FUA write, depth ${depth}`,
  unit: "IOPS",
  measure: (target, seconds) => fuaWrites(target, depth, seconds),
});

const cases = [
  fioCase("4 KiB random write and flush, depth 1", "IOPS", [...synced, "--iodepth=1"]),
  fioCase("4 KiB random write and flush, depth 32", "IOPS", [...synced, "--iodepth=32"]),
  fuaCase(1),
  fuaCase(32),
];

/** Writes that are on stable storage when they are answered. */
export const durableWrites: Scenario = {
  name: "durable-writes",
  where: ["disk"],
  targets: ["lockless", "none", "nbdkit"],
  lifetime: "place",
  full: true,
  rows: "cases",
  sizeMiB: 1024,
  cases,
  goals: cases.map(({ name }) => ({
    case: name,
    ours: "lockless",
    theirs: "nbdkit",
    ratio: 0.5,
  })),
};
