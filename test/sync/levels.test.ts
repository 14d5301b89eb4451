import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { SyncRole } from "../../src/sync/control.ts";
import { parityRow, placesOf, survives } from "../raid/oracle-placement.ts";
import { CHECK, RECOVERY, REPAIR, RESYNC } from "./bench.ts";
import { LevelBench, type MemberRange, REGION_BYTES } from "./level-bench.ts";
import { LEVEL_CASES } from "./level-cases.ts";

/**
 * Syncs of every level and layout, over members that an independent writer has filled: what is
 * spoiled has to be as it was afterwards, and what nobody asked for as it is.
 */
const { Clean, NeedSync, Unwritten } = State;
const { None, Target } = SyncRole;
/** Spoiled with all the others, and never synced. */
const LEFT_ALONE = 1;

/** Copies that are not their source's, and parity: what a resync writes. */
function derivedParts(bench: LevelBench): MemberRange[] {
  const { shape, regions } = bench;
  const parts: MemberRange[] = [];
  if (bench.isParity) {
    for (let at = 0; at < regions.trackedBytes; at += shape.chunkBytes) {
      const { p, q } = parityRow(shape, at / shape.chunkBytes);
      const range = { offset: at, length: shape.chunkBytes };
      for (const slot of q === null ? [p] : [p, q]) parts.push({ slot, ...range });
    }
    return parts;
  }
  const length = shape.level === 1 ? regions.trackedBytes : shape.chunkBytes;
  for (let at = 0; at < regions.trackedBytes; at += length) {
    const places =
      shape.level === 1 ? bench.slots.map((slot) => ({ slot, offset: 0 })) : placesOf(shape, at);
    const source = Math.min(...places.map(({ slot }) => slot));
    for (const place of places) if (place.slot !== source) parts.push({ ...place, length });
  }
  return parts;
}

/** The sets of slots that can be lost, one or two at a time. */
function losses(bench: LevelBench): number[][] {
  const { slots, shape } = bench;
  const sets = slots.flatMap((one) => [
    [one],
    ...slots.filter((two) => two > one).map((two) => [one, two]),
  ]);
  return sets.filter((lost) => survives(shape, (slot) => !lost.includes(slot)));
}

const roles = (slots: readonly number[], role: SyncRole): Record<number, SyncRole> =>
  Object.fromEntries(slots.map((slot) => [slot, role]));

describe.each(LEVEL_CASES)("$title", ({ shape }) => {
  test("a resync makes what is derived right where it is needed, and writes nothing elsewhere", () => {
    const bench = new LevelBench(shape);
    for (const part of derivedParts(bench)) bench.spoil(part);
    const all = bench.states().map((_, region) => region);
    const needed = all.filter((region) => region !== LEFT_ALONE);
    bench.force(NeedSync, ...needed);
    const before = bench.members.map((member) => Uint8Array.from(member));
    expect(bench.run(RESYNC)).toEqual({ result: "done", failure: null });
    expect(bench.goodRegions()).toEqual(needed);
    for (const { slot, offset, length } of bench.rangesOf(LEFT_ALONE)) {
      const part = (bytes: Uint8Array): Uint8Array => bytes.subarray(offset, offset + length);
      expect(Buffer.compare(part(bench.members[slot]!), part(before[slot]!))).toBe(0);
    }
    expect(bench.run(RESYNC).result, "once more").toBe("done");
    expect(bench.control.copied, "there was nothing left to do").toBe(needed.length);
  });

  test("a recovery brings back any slots that can be lost, at once and one by one", () => {
    const fresh = new LevelBench(shape);
    for (const lost of losses(fresh)) {
      const together = new LevelBench(shape);
      for (const slot of lost) together.spoilSlot(slot);
      together.setRoles(roles(lost, Target));
      expect(together.run(RECOVERY), `slots ${lost.join(" and ")}`).toMatchObject({
        result: "done",
      });
      together.expectAllGood();
      const [first, second] = lost;
      if (second === undefined) continue;
      const apart = new LevelBench(shape);
      for (const slot of lost) apart.spoilSlot(slot);
      apart.setRoles({ ...roles(lost, None), [second]: Target });
      expect(apart.run(RECOVERY).result, `slot ${second} without ${first}`).toBe("done");
      expect(apart.goodRegions(apart.slots.filter((slot) => slot !== first))).toHaveLength(
        apart.regions.count,
      );
    }
  });

  test("a recovery reads and writes nothing of what is Unwritten", () => {
    const bench = new LevelBench(shape);
    bench.force(Unwritten, LEFT_ALONE);
    bench.spoilSlot(0);
    bench.setRoles({ 0: Target });
    const whole = bench.rangesOf(LEFT_ALONE).some(({ slot }) => slot === 0);
    expect(bench.run(RECOVERY).result).toBe("done");
    expect(bench.goodRegions().includes(LEFT_ALONE)).toBe(!whole);
    expect(bench.goodRegions()).toHaveLength(bench.regions.count - (whole ? 1 : 0));
  });

  test("a check of what is right finds nothing, and writes nothing", () => {
    const bench = new LevelBench(shape);
    expect(bench.run(CHECK)).toEqual({ result: "done", failure: null });
    expect([bench.writes, bench.control.mismatchBytes]).toEqual([0, 0]);
    expect(bench.states().every((state) => state === Clean)).toBe(true);
    bench.expectAllGood();
  });

  test("a check counts what is wrong, a repair makes it right, and a check finds nothing then", () => {
    const bench = new LevelBench(shape);
    const parts = derivedParts(bench);
    const wrong = [...new Set([parts[0]!, parts.at(-1)!])];
    // One byte each, in units of their own: nobody may count more, or less, than whole units.
    for (const { slot, offset } of wrong) bench.spoil({ slot, offset: offset + 5, length: 1 });
    const before = bench.members.map((member) => Uint8Array.from(member));
    const unit = bench.isParity ? 4096 : Math.min(65536, shape.chunkBytes || Infinity);
    const units = new Set(
      wrong.map(({ slot, offset }) => (bench.isParity ? `${offset}` : `${slot}+${offset}`)),
    );
    bench.run(CHECK);
    expect(bench.control.mismatchBytes).toBe(units.size * unit);
    expect(bench.writes).toBe(0);
    const repairs = new LevelBench(shape);
    for (const [slot, member] of repairs.members.entries()) member.set(before[slot]!);
    expect(repairs.run(REPAIR).result).toBe("done");
    expect(repairs.control.mismatchBytes).toBe(units.size * unit);
    repairs.expectAllGood();
    expect(repairs.control.writtenBytes).toBeLessThanOrEqual(2 * units.size * unit);
  });

  test("what cannot be read comes from the others, and is written anew", () => {
    for (const job of [CHECK, REPAIR]) {
      for (const slot of [0, shape.raidDisks - 1]) {
        const bench = new LevelBench(shape);
        const range = { slot, offset: REGION_BYTES + 8192, length: 4096 };
        bench.spoil(range);
        bench.breakReads(range);
        expect(bench.run(job)).toEqual({ result: "done", failure: null });
        bench.expectAllGood();
        expect(bench.control.mismatchBytes).toBe(0);
        expect(bench.writes).toBe(1);
        expect(bench.reports).toMatchObject([{ slot, failure: { kind: "read" } }]);
      }
    }
  });
});
