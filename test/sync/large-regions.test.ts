import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { SyncRole } from "../../src/sync/control.ts";
import { BROKEN, CHECK, FULL, lengthOf, RECOVERY, REPAIR, RESYNC, SyncBench } from "./bench.ts";

const { Clean, Dirty, NeedSync, Syncing } = State;
const KIB = 1024;
const MIB = 1024 * KIB;

describe("a region larger than a window", () => {
  const BYTES = 8 * MIB;

  /** Two of them, that need a sync; and a target in slot 1. */
  function large(state: State = NeedSync): SyncBench {
    const bench = new SyncBench(2 * BYTES, 2, BYTES);
    bench.control.setSlot(1, SyncRole.Target, 0);
    bench.force(state, 0, 1);
    return bench;
  }

  /** Runs `meddle` before the n-th window, when writers are let in. */
  function beforeWindow(bench: SyncBench, n: number, meddle: () => void): void {
    let windows = 0;
    bench.before = ({ op }) => {
      if (op === "admit" && ++windows === n) meddle();
    };
  }

  test("is copied piece by piece; writers get in before each, and it stays Syncing", () => {
    const bench = large();
    const windows: string[] = [];
    let copied = 0;
    bench.before = (command) => {
      if (command.op === "admit") windows.push(`${copied / MIB} of ${bench.states().join()}`);
      if (command.op === "io" && command.all[0]?.kind === "write") {
        copied += command.all.reduce((sum, io) => sum + lengthOf(io), 0);
      }
    };
    expect(bench.run(RECOVERY)).toEqual({ result: "done", failure: null });
    expect(windows).toEqual([
      `0 of ${NeedSync},${NeedSync}`,
      ...[0.5, 1.5, 3.5, 5.5, 7.5].map((done) => `${done} of ${Syncing},${NeedSync}`),
      `8 of ${Dirty},${NeedSync}`,
      ...[10, 12, 14].map((done) => `${done} of ${Dirty},${Syncing}`),
    ]);
    expect(bench.states()).toEqual([Dirty, Dirty]);
    expect(Buffer.compare(bench.members[0]!, bench.members[1]!)).toBe(0);
    expect(bench.control.copied).toBe(2);
  });

  test("has pieces that a limit pays for, of 64 KiB at least", () => {
    for (const [limit, piece] of [
      [MIB, 256 * KIB],
      [300 * KIB, 64 * KIB],
      [64 * KIB, 64 * KIB],
    ] as const) {
      const bench = large();
      bench.control.limit = limit;
      const lengths = new Set<number>();
      bench.fault = (io) => {
        lengths.add(lengthOf(io));
        return null;
      };
      bench.run(RECOVERY);
      expect([...lengths], `${limit}`).toEqual([piece]);
    }
  });

  test("that a stop interrupts needs a sync as a whole", () => {
    const bench = large(Dirty);
    beforeWindow(bench, 3, () => bench.control.stop());
    expect(bench.run(RECOVERY).result).toBe("stopped");
    expect(bench.states()).toEqual([NeedSync, Dirty]);
    expect([bench.control.cursor, bench.control.copied]).toEqual([0, 0]);
  });

  test("in which a write has failed meanwhile is copied once more, as what may differ", () => {
    const bench = large();
    bench.setRoles();
    bench.force(Clean, 1);
    beforeWindow(bench, 4, () => {
      bench.members[1]![5]! ^= 1;
      bench.regions.setSuspect(0, true);
    });
    expect(bench.run(REPAIR)).toEqual({ result: "done", failure: null });
    expect(bench.pauses).toEqual([1000]);
    expect(bench.states()).toEqual([Dirty, Clean]);
    expect(bench.regions.anySuspect()).toBe(false);
    expect(Buffer.compare(bench.members[0]!, bench.members[1]!)).toBe(0);
  });

  test("in which writes keep failing is then done in one go: the others get their turn", () => {
    const bench = large();
    bench.setRoles();
    let windows = 0;
    bench.before = ({ op }) => {
      if (op === "admit" && ++windows % 3 === 0) bench.regions.setSuspect(0, true);
    };
    expect(bench.run(RESYNC)).toEqual({ result: "done", failure: null });
    expect([bench.pauses.length, bench.states()]).toEqual([1, [Dirty, Dirty]]);
  });

  test("that is suspect is rebuilt in one go: writes may leave parity behind there", () => {
    const bench = large();
    bench.regions.setSuspect(1, true);
    const windows: number[] = [];
    bench.before = (command) => {
      if (command.op === "drain") windows.push(command.first);
    };
    bench.run(RECOVERY);
    expect(windows.filter((first) => first === 0).length).toBeGreaterThan(4);
    expect(windows.filter((first) => first === 1).length).toBe(1);
    expect(Buffer.compare(bench.members[0]!, bench.members[1]!)).toBe(0);
  });

  test("that a stop interrupts a check in is counted once", () => {
    const data = new Uint8Array(BYTES);
    const bench = new SyncBench(BYTES, [data, data.slice()], BYTES);
    bench.members[1]![5] = 1;
    bench.force(Clean, 0);
    beforeWindow(bench, 3, () => bench.control.stop());
    expect(bench.run(CHECK).result).toBe("stopped");
    expect(bench.control.mismatchBytes).toBe(0);
    bench.control.resume();
    bench.setRoles();
    expect(bench.run(CHECK).result).toBe("done");
    expect(bench.control.mismatchBytes).toBe(64 * KIB);
  });

  test("that found no space waits for it no longer once a piece has found some", () => {
    const bench = large();
    let full = true;
    bench.fault = ({ kind }) => (kind === "write" && full ? FULL : null);
    const waits: boolean[] = [];
    bench.before = ({ op }) => {
      if (op === "pause") full = false;
      if (op === "pause" || op === "admit") waits.push(bench.control.waitsForSpace);
    };
    bench.run(RECOVERY);
    expect(waits.slice(0, 5)).toEqual([false, true, true, false, false]);
  });

  test("is not disturbed by what fails elsewhere", () => {
    const bench = large();
    bench.setRoles();
    beforeWindow(bench, 3, () => bench.regions.setSuspect(1, true));
    expect(bench.run(RESYNC)).toEqual({ result: "done", failure: null });
    expect([bench.pauses, bench.states()]).toEqual([[], [Dirty, Dirty]]);
  });

  test("of which a piece cannot be read stays as it was", () => {
    const bench = large();
    bench.fault = ({ kind, offset }) => (kind === "read" && offset === 512 * KIB ? BROKEN : null);
    bench.setRoles();
    const outcome = bench.run(RESYNC);
    expect(outcome.failure).toContain("no member can read the data at 0");
    expect(bench.states()).toEqual([NeedSync, Dirty]);
  });
});
