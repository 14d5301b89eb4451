import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { SyncRole } from "../../src/sync/control.ts";
import { contradiction } from "../raid/oracle.ts";
import { type OracleShape, parityRow } from "../raid/oracle-placement.ts";
import { ASKED_RESYNC, BY_BITMAP, CHECK, RECOVERY, REPAIR, RESYNC } from "./bench.ts";
import { LevelBench, REGION_BYTES } from "./level-bench.ts";
import { shapeOfLevel } from "./level-cases.ts";

/**
 * When parity is believed: never for data that is lost where a crash may have torn a write, but
 * that a user accepts it. Chunks are as long as regions here, so that each region is one stripe.
 */
const { Clean, Dirty, NeedSync } = State;
const { None, Target } = SyncRole;
const SUSPECT = 2;
const RAID5 = shapeOfLevel(5, 4);
const RAID6 = shapeOfLevel(6, 5);

const stripe = (shape: OracleShape, region = SUSPECT) => parityRow(shape, region);
const inRegion = (slot: number, region = SUSPECT) => ({
  slot,
  offset: region * REGION_BYTES,
  length: REGION_BYTES,
});

/** A bench with one suspect region; these slots are lost, and hold other bytes than they did. */
function suspectBench(shape: OracleShape, lost: Readonly<Record<number, SyncRole>>): LevelBench {
  const bench = new LevelBench(shape);
  for (const slot of Object.keys(lost)) bench.spoilSlot(Number(slot));
  bench.setRoles(lost);
  bench.force(NeedSync, SUSPECT);
  bench.regions.setSuspect(SUSPECT, true);
  return bench;
}

describe("a resync", () => {
  test("computes parity of data, and no data of parity, also where a member cannot be read", () => {
    const bench = suspectBench(RAID5, {});
    const range = { ...inRegion(stripe(RAID5).data[0]!), length: 4096 };
    bench.breakReads(range);
    const outcome = bench.run(RESYNC);
    expect(outcome.result).toBe("failed");
    expect(outcome.failure).toContain(`no member can read the data at ${SUSPECT * REGION_BYTES}`);
    expect([bench.writes, bench.states()[SUSPECT]]).toEqual([0, NeedSync]);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(true);
  });

  test("names a member whose blocks it needs and cannot read, but once", () => {
    const bench = suspectBench(RAID5, {});
    const regions = [SUSPECT, SUSPECT + 1, SUSPECT + 2];
    for (const region of regions) {
      bench.force(NeedSync, region);
      bench.regions.setSuspect(region, true);
    }
    const slot = 1;
    const isData = (region: number): boolean => stripe(RAID5, region).data.includes(slot);
    expect(regions.filter(isData).length).toBeGreaterThan(1);
    bench.breakReads(...regions.filter(isData).map((region) => inRegion(slot, region)));
    expect(bench.run(RESYNC).result).toBe("failed");
    expect(bench.reports).toMatchObject([{ slot, failure: { kind: "read" } }]);
  });

  test("writes parity that cannot be read anew", () => {
    const bench = suspectBench(RAID5, {});
    const range = { ...inRegion(stripe(RAID5).p), length: 4096 };
    bench.spoil(range);
    bench.breakReads(range);
    expect(bench.run(RESYNC).result).toBe("done");
    bench.expectAllGood();
    expect(bench.reports).toHaveLength(1);
  });

  test("without a member that holds data leaves a suspect region as it is, and does not fail", () => {
    const bench = suspectBench(RAID5, { [stripe(RAID5).data[1]!]: None });
    bench.spoil(inRegion(stripe(RAID5).p));
    expect(bench.run({ ...RESYNC, suspectOnly: true })).toEqual({ result: "done", failure: null });
    expect([bench.reads, bench.writes]).toEqual([0, 0]);
    expect(bench.states()[SUSPECT]).toBe(NeedSync);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(true);
    expect([bench.control.copied, bench.control.skipped]).toEqual([0, bench.regions.count]);
  });

  test("leaves its neighbours in the window no worse off", () => {
    const bench = suspectBench(RAID5, { [stripe(RAID5).data[1]!]: None });
    // The same slot holds the parity of the next stripe or the one after: nothing is lost there.
    const whole = bench.states().findIndex((_, region) => {
      return stripe(RAID5, region).p === stripe(RAID5).data[1];
    });
    for (const region of bench.states().keys()) {
      bench.force(NeedSync, region);
      bench.regions.setSuspect(region, true);
    }
    expect(bench.run({ ...RESYNC, suspectOnly: true }).result).toBe("done");
    expect(bench.regions.isSuspect(whole)).toBe(false);
    expect(bench.states()[whole]).toBe(Dirty);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(true);
  });

  test.each(["p", "q"] as const)("of raid6 without %s makes the other parity right", (lost) => {
    const { p, q } = stripe(RAID6);
    const [gone, here] = lost === "p" ? [p, q!] : [q!, p];
    const bench = suspectBench(RAID6, { [gone]: None });
    bench.spoil(inRegion(here));
    expect(bench.run({ ...RESYNC, suspectOnly: true }).result).toBe("done");
    expect(bench.goodRegions([here])).toContain(SUSPECT);
    expect(bench.regions.anySuspect()).toBe(false);
  });
});

describe("a recovery", () => {
  test("of data that is lost in a suspect region fails, and says what accepts parity", () => {
    const bench = suspectBench(RAID5, { [stripe(RAID5).data[0]!]: Target });
    const outcome = bench.run(RECOVERY);
    expect(outcome.result).toBe("failed");
    expect(outcome.failure).toMatch(/cannot be known: nbd-raid repair takes what parity says/);
    expect(bench.control.cursor).toBe(SUSPECT);
    expect(bench.states()[SUSPECT]).toBe(NeedSync);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(true);
  });

  test.each(["p", "q"] as const)(
    "of %s in a suspect region computes all parity of data",
    (lost) => {
      const { p, q } = stripe(RAID6);
      const [target, other] = lost === "p" ? [p, q!] : [q!, p];
      const bench = suspectBench(RAID6, { [target]: Target });
      bench.spoil(inRegion(other));
      expect(bench.run({ ...BY_BITMAP }).result).toBe("done");
      expect(bench.goodRegions()).toContain(SUSPECT);
      expect(bench.regions.anySuspect()).toBe(false);
    },
  );

  test("of parity does not count what it finds wrong", () => {
    const bench = suspectBench(RAID6, { [stripe(RAID6).p]: Target });
    bench.spoil(inRegion(stripe(RAID6).q!));
    bench.run(BY_BITMAP);
    expect(bench.control.mismatchBytes).toBe(0);
  });

  test("goes on where another member cannot be read, if enough is left", () => {
    const bench = new LevelBench(RAID6);
    bench.spoilSlot(0);
    bench.setRoles({ 0: Target });
    const bad = [
      { slot: 1, offset: 4096, length: 4096 },
      { slot: 2, offset: REGION_BYTES + 8192, length: 4096 },
    ];
    for (const range of bad) bench.spoil(range);
    bench.breakReads(...bad);
    expect(bench.run(RECOVERY).result).toBe("done");
    bench.expectAllGood();
    expect(bench.reports.map(({ slot }) => slot).sort()).toEqual([1, 2]);
  });

  test("fails where too little is left, and names the place", () => {
    const bench = new LevelBench(RAID6);
    bench.setRoles({ 0: Target });
    const at = 3 * REGION_BYTES;
    bench.breakReads(
      { slot: 1, offset: at, length: 512 },
      { slot: 2, offset: at + 1024, length: 512 },
    );
    const outcome = bench.run(RECOVERY);
    expect(outcome).toEqual({ result: "failed", failure: `no member can read the data at ${at}` });
    expect(bench.control.cursor).toBe(3);
  });

  test("reads no more parity than it needs", () => {
    const bench = new LevelBench({ ...RAID6, chunkBytes: 65536, componentBytes: 5 * 65536 });
    bench.setRoles({ 0: Target });
    bench.run(RECOVERY);
    const { trackedBytes } = bench.regions;
    expect(bench.control.readBytes).toBe(3 * trackedBytes);
    expect(bench.control.writtenBytes).toBe(trackedBytes);
  });
});

describe("a repair of a degraded array", () => {
  test("takes what parity says for data that is lost: a recovery can follow", () => {
    const lost = stripe(RAID5).data[0]!;
    const bench = suspectBench(RAID5, { [lost]: None });
    expect(bench.run(REPAIR)).toEqual({ result: "done", failure: null });
    expect(bench.writes).toBe(0);
    expect(bench.regions.anySuspect()).toBe(false);
    expect(bench.states()[SUSPECT]).toBe(Dirty);
    const rebuilt = bench;
    rebuilt.control.cursor = 0;
    rebuilt.setRoles({ [lost]: Target });
    expect(rebuilt.run(RECOVERY).result).toBe("done");
    rebuilt.expectAllGood();
  });

  test("of raid6 makes Q fit what P says", () => {
    const { data, q } = stripe(RAID6);
    const bench = suspectBench(RAID6, { [data[1]!]: None });
    bench.spoil({ ...inRegion(q!), length: 4096 });
    expect(bench.run(REPAIR).result).toBe("done");
    expect(bench.control.mismatchBytes).toBe(4096);
    bench.control.cursor = 0;
    bench.setRoles({ [data[1]!]: Target });
    expect(bench.run(RECOVERY).result).toBe("done");
    expect(contradiction(RAID6, bench.members)).toBeNull();
    bench.expectAllGood();
  });

  test("computes parity of data where all data is there", () => {
    const { p, q } = stripe(RAID6);
    const bench = suspectBench(RAID6, { [p]: None });
    bench.spoil(inRegion(q!));
    expect(bench.run(REPAIR).result).toBe("done");
    expect(bench.goodRegions([q!])).toContain(SUSPECT);
  });
});

describe("what a user asks for on a degraded array", () => {
  test.each([
    ["check", CHECK],
    ["resync", ASKED_RESYNC],
  ])("a %s of raid5 has nothing to compare: it skips all", (_name, job) => {
    const bench = suspectBench(RAID5, { 0: None });
    expect(bench.run(job)).toEqual({ result: "done", failure: null });
    expect([bench.reads, bench.writes]).toEqual([0, 0]);
    expect(bench.control.skipped).toBe(bench.regions.count);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(stripe(RAID5).p !== 0);
  });

  test("a check of raid6 compares Q with what P says, but nothing where that is not to be trusted", () => {
    const lost = stripe(RAID6).data[0]!;
    const bench = suspectBench(RAID6, { [lost]: None });
    for (const region of [0, SUSPECT]) {
      const { q } = stripe(RAID6, region);
      expect(q, "the case is one where Q is there").not.toBe(lost);
      bench.spoil({ ...inRegion(q!, region), length: 4096 });
    }
    bench.run(CHECK);
    expect(bench.control.mismatchBytes).toBe(4096);
    expect(bench.writes).toBe(0);
    expect(bench.states()[SUSPECT]).toBe(NeedSync);
  });

  test("a repair counts P and Q of one stripe once", () => {
    const bench = new LevelBench(RAID6);
    const { p, q } = stripe(RAID6, 1);
    for (const slot of [p, q!]) bench.spoil({ ...inRegion(slot, 1), length: 4097 });
    bench.run(REPAIR);
    expect(bench.control.mismatchBytes).toBe(2 * 4096);
    bench.expectAllGood();
    expect(bench.states().every((state) => state === Clean)).toBe(true);
  });
});
