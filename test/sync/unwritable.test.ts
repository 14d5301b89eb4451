import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { SyncRole } from "../../src/sync/control.ts";
import { type OracleShape, parityRow } from "../raid/oracle-placement.ts";
import { BROKEN, CHECK, RECOVERY, REPAIR, RESYNC } from "./bench.ts";
import { LevelBench, REGION_BYTES } from "./level-bench.ts";
import { shapeOfLevel } from "./level-cases.ts";

/** A member fails a sync's write, and the array, which cannot lose it, leaves it where it is. */
const { Dirty, NeedSync } = State;
const SUSPECT = 2;
const RAID1 = shapeOfLevel(1, 3);
const RAID6 = shapeOfLevel(6, 5);
const RAID10 = shapeOfLevel(10, 3, { layout: 0x102 });

/** One suspect region, which this slot holds in another way than the others, and cannot be written. */
function suspectBench(shape: OracleShape, slot: number): LevelBench {
  const bench = new LevelBench(shape);
  bench.force(NeedSync, SUSPECT);
  bench.regions.setSuspect(SUSPECT, true);
  for (const range of bench.rangesOf(SUSPECT)) if (range.slot === slot) bench.spoil(range);
  bench.fault = (io) => (io.kind === "write" && io.slot === slot ? BROKEN : null);
  return bench;
}

/** A slot that a resync of the region writes. */
function writtenSlot(shape: OracleShape): number {
  if (shape.level === 6) return parityRow(shape, SUSPECT).p;
  return shape.level === 1 ? 1 : new LevelBench(shape).rangesOf(SUSPECT)[1]!.slot;
}

describe.each([
  ["level 1", RAID1],
  ["level 6", RAID6],
  ["level 10", RAID10],
])("%s", (_, shape) => {
  test.each([
    ["a resync", RESYNC],
    ["a repair", REPAIR],
  ])("%s fails, and does not call the members equal there", (_name, job) => {
    const bench = suspectBench(shape, writtenSlot(shape));
    const outcome = bench.run(job);
    expect(bench.reports.length).toBeGreaterThan(0);
    expect(bench.states()[SUSPECT]).toBe(NeedSync);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(true);
    expect(outcome.result).toBe("failed");
    expect(outcome.failure).toContain(`could not be written at ${SUSPECT * REGION_BYTES}`);
  });

  test("is done with the region if the member is ejected for it", () => {
    const bench = suspectBench(shape, writtenSlot(shape));
    bench.onReport = (slot) => bench.control.setSlot(slot, SyncRole.None, 0);
    expect(bench.run(RESYNC).result).toBe("done");
    expect(bench.states()[SUSPECT]).toBe(Dirty);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(false);
  });
});

describe("a block that its member can neither read nor be written with", () => {
  test.each([
    ["a recovery", RECOVERY, { 4: SyncRole.Target }],
    ["a check", CHECK, {}],
  ])("stops no %s: the others have what it holds", (_, job, roles) => {
    const bench = new LevelBench(RAID6);
    const slot = 0;
    bench.setRoles(roles);
    bench.fault = (io) => (io.slot === slot && io.offset < REGION_BYTES ? BROKEN : null);
    expect(bench.run(job).result).toBe("done");
  });
});
