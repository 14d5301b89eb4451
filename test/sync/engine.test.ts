import { describe, expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { SyncRole } from "../../src/sync/control.ts";
import type { SyncJob } from "../../src/sync/engine.ts";
import {
  ASKED_RESYNC,
  BROKEN,
  BY_BITMAP,
  CHECK,
  FULL,
  lengthOf,
  RECOVERY,
  REGION_BYTES,
  REPAIR,
  RESYNC,
  SyncBench,
} from "./bench.ts";

const { Unwritten, Clean, Dirty, NeedSync, Syncing } = State;
const ALL = [Unwritten, Clean, Dirty, NeedSync, Syncing, NeedSync];
/** The last of ALL; the other regions in need of a sync are not suspect. */
const SUSPECT = 5;

/** A bench whose regions have the states of ALL, in order. */
function mixed(members = 2): SyncBench {
  const bench = new SyncBench(ALL.length * REGION_BYTES, members);
  for (const [region, state] of ALL.entries()) bench.force(state, region);
  bench.regions.setSuspect(SUSPECT, true);
  return bench;
}

/** The same, with nothing that syncs already. */
function atRest(members = 2): SyncBench {
  const bench = mixed(members);
  bench.force(NeedSync, ALL.indexOf(Syncing));
  return bench;
}

/** A bench with a target in slot 1 and every region in this state. */
function rebuilding(state: State, count = 8): SyncBench {
  const bench = new SyncBench(count * REGION_BYTES);
  bench.control.setSlot(1, SyncRole.Target, 0);
  for (let region = 0; region < count; region++) bench.force(state, region);
  return bench;
}

/** No member can read anything that touches this region. */
function unreadable(bench: SyncBench, region: number): void {
  bench.fault = (io) => {
    if (io.kind !== "read") return null;
    const last = bench.regions.at(io.offset + lengthOf(io) - 1);
    return bench.regions.at(io.offset) <= region && region <= last ? BROKEN : null;
  };
}

describe("what is copied", () => {
  const cases: [string, SyncJob, number[], State[]][] = [
    ["resync", RESYNC, [3, 4, 5], [Unwritten, Clean, Dirty, Dirty, Dirty, Dirty]],
    [
      "resync while a member is absent",
      { ...RESYNC, suspectOnly: true },
      [5],
      [Unwritten, Clean, Dirty, NeedSync, Syncing, Dirty],
    ],
    ["recovery in full", RECOVERY, [1, 2, 3, 4, 5], [Unwritten, Clean, Dirty, Dirty, Dirty, Dirty]],
    ["recovery by bitmap", BY_BITMAP, [2, 3, 4, 5], [Unwritten, Clean, Dirty, Dirty, Dirty, Dirty]],
    [
      "recovery that goes on from region 2",
      { ...RECOVERY, markedOnlyBelow: 2 },
      [2, 3, 4, 5],
      [Unwritten, Clean, Dirty, Dirty, Dirty, Dirty],
    ],
  ];

  test.each(cases)("%s", (_name, job, copied, after) => {
    const bench = mixed();
    // One region at a time, so that a Syncing region left alone is told from one left behind.
    bench.force(job.suspectOnly ? NeedSync : Syncing, 4);
    if (job.action === "recovery") bench.control.setSlot(1, SyncRole.Target, 0);
    expect(bench.run(job)).toEqual({ result: "done", failure: null });
    expect(bench.equalRegions()).toEqual(copied);
    expect(bench.states()).toEqual(after.map((state) => (state === Syncing ? NeedSync : state)));
    expect(bench.control.copied).toBe(copied.length);
    expect(bench.control.skipped).toBe(ALL.length - copied.length);
    expect(bench.control.cursor).toBe(ALL.length);
    expect(bench.control.readBytes).toBe(copied.length * REGION_BYTES);
    expect(bench.control.writtenBytes).toBe(copied.length * REGION_BYTES);
  });

  test("below the offset of an interrupted recovery Clean regions are not copied again", () => {
    const bench = rebuilding(Clean);
    bench.force(Dirty, 1);
    bench.run({ ...RECOVERY, markedOnlyBelow: 4 });
    expect(bench.equalRegions()).toEqual([1, 4, 5, 6, 7]);
  });

  test("a short last region is copied to its end and no further", () => {
    const bench = new SyncBench(2 * REGION_BYTES + 5000);
    bench.force(NeedSync, 1, 2);
    bench.run(RESYNC);
    expect(bench.equalRegions()).toEqual([1, 2]);
    expect(bench.control.readBytes).toBe(REGION_BYTES + 5000);
  });

  test("what is copied is no longer suspect", () => {
    const bench = mixed();
    bench.run(RESYNC);
    expect(bench.regions.anySuspect()).toBe(false);
  });

  test("a recovery writes in-sync members only where they may differ", () => {
    const bench = mixed(3);
    bench.force(Unwritten, 4); // a window of its own for the suspect one
    bench.control.setSlot(2, SyncRole.Target, 0);
    bench.run(RECOVERY);
    expect(bench.equalRegions(0, 2)).toEqual([1, 2, 3, 5]);
    expect(bench.equalRegions(0, 1)).toEqual([SUSPECT]);
  });
});

describe("what a user asks for", () => {
  const cases: [string, SyncJob, State[]][] = [
    ["a check", CHECK, [Unwritten, Clean, Dirty, NeedSync, NeedSync, NeedSync]],
    ["a repair", REPAIR, [Unwritten, Clean, Dirty, Dirty, Dirty, Dirty]],
    ["a resync", ASKED_RESYNC, [Unwritten, Clean, Dirty, Dirty, Dirty, Dirty]],
  ];

  test.each(cases)("%s goes over all but Unwritten; states after it", (_name, job, after) => {
    const bench = atRest(3);
    const reads = new Set<number>();
    bench.fault = (io) => {
      const last = bench.regions.at(io.offset + lengthOf(io) - 1);
      for (let at = bench.regions.at(io.offset); at <= last; at++) reads.add(at);
      return null;
    };
    expect(bench.run(job)).toEqual({ result: "done", failure: null });
    expect([...reads].sort()).toEqual([1, 2, 3, 4, 5]);
    expect(bench.states()).toEqual(after);
    expect(bench.regions.isSuspect(SUSPECT)).toBe(job.action === "check");
    expect([bench.control.copied, bench.control.skipped]).toEqual([5, 1]);
  });

  test("a check writes nothing, and counts each copy that is not like the first", () => {
    const bench = atRest(3);
    bench.run(CHECK);
    expect(bench.writes).toBe(0);
    expect(bench.control.mismatchBytes).toBe(2 * 5 * REGION_BYTES);
  });

  test("a repair makes copies like the first, and writes no more than what differs", () => {
    const bench = atRest(3);
    bench.members[1]!.set(bench.members[0]!);
    bench.members[2]!.set(bench.members[0]!);
    bench.members[2]![2 * REGION_BYTES + 7]! ^= 1;
    bench.run(REPAIR);
    expect(bench.equalRegions(0, 2)).toHaveLength(ALL.length);
    expect([bench.writes, bench.control.writtenBytes]).toEqual([1, REGION_BYTES]);
    expect(bench.control.mismatchBytes).toBe(REGION_BYTES);
  });

  test("with one member left there is nothing to compare: all is skipped, and nothing fails", () => {
    const bench = atRest();
    bench.control.setSlot(1, SyncRole.None, 0);
    expect(bench.run(CHECK)).toEqual({ result: "done", failure: null });
    expect([bench.reads, bench.control.skipped]).toEqual([0, ALL.length]);
  });

  test("data that no member can read fails it, after the rest", () => {
    const bench = atRest();
    unreadable(bench, 2);
    const outcome = bench.run(CHECK);
    expect(outcome.failure).toContain(`no member can read the data at ${2 * REGION_BYTES}`);
    expect(bench.control.copied).toBe(4);
  });
});

describe("a run that was stopped", () => {
  test("goes on where it was, and its progress adds up", () => {
    const bench = rebuilding(Clean, 32);
    bench.fault = ({ kind, offset }) => {
      if (kind === "write" && offset >= 8 * REGION_BYTES) bench.control.stop();
      return null;
    };
    expect(bench.run(RECOVERY).result).toBe("stopped");
    expect(bench.control.cursor).toBe(24);
    bench.fault = () => null;
    bench.control.resume();
    bench.setRoles({ 1: SyncRole.Target });
    expect(bench.run(RECOVERY).result).toBe("done");
    expect(bench.control.copied).toBe(32);
    expect(bench.control.writtenBytes).toBe(32 * REGION_BYTES);
    expect(bench.equalRegions()).toHaveLength(32);
  });
});

describe("windows", () => {
  /** How many regions each had. */
  function windowsOf(bench: SyncBench): number[] {
    const windows: number[] = [];
    bench.before = (command) => {
      if (command.op === "drain") windows.push(command.end - command.first);
    };
    bench.run(RECOVERY);
    return windows;
  }

  test("begin with 512 KiB, and double up to 2 MiB while members are quick", () => {
    expect(windowsOf(rebuilding(Clean, 96))).toEqual([8, 16, 32, 32, 8]);
  });

  test("get shorter while writers would have to wait for long", () => {
    const bench = rebuilding(Clean, 20);
    bench.fault = ({ kind }) => {
      if (kind === "write") bench.time += 21;
      return null;
    };
    expect(windowsOf(bench)).toEqual([8, 4, 2, 2, 2, 2]);
  });

  test("stay as they are in between", () => {
    const bench = rebuilding(Clean, 20);
    bench.fault = ({ kind }) => {
      if (kind === "write") bench.time += 10;
      return null;
    };
    expect(windowsOf(bench)).toEqual([8, 8, 4]);
  });

  test("are no longer than a limit pays for in a quarter of a second", () => {
    const bench = rebuilding(Clean, 12);
    bench.control.limit = 1024 * 1024;
    expect(windowsOf(bench)).toEqual([4, 4, 4]);
  });

  test("end where nothing needs a sync", () => {
    const bench = new SyncBench(8 * REGION_BYTES);
    bench.force(NeedSync, 0, 1, 4);
    const windows: [number, number][] = [];
    bench.before = (command) => {
      if (command.op === "drain") windows.push([command.first, command.end]);
    };
    bench.run(RESYNC);
    expect(windows).toEqual([
      [0, 2],
      [4, 5],
    ]);
  });
});

describe("stop", () => {
  test("ends the run before the next window; what is left still needs a sync", () => {
    const bench = new SyncBench(32 * REGION_BYTES);
    for (let region = 0; region < 32; region++) bench.force(NeedSync, region);
    bench.fault = ({ kind, offset }) => {
      if (kind === "write" && offset >= 8 * REGION_BYTES) bench.control.stop();
      return null;
    };
    expect(bench.run(RESYNC).result).toBe("stopped");
    expect(bench.control.cursor).toBe(24);
    expect(bench.states()).toEqual([
      ...new Array<State>(24).fill(Dirty),
      ...new Array<State>(8).fill(NeedSync),
    ]);
  });

  test("ends a run that would only skip", () => {
    const bench = new SyncBench(4 * REGION_BYTES);
    bench.control.stop();
    expect(bench.run(RESYNC).result).toBe("stopped");
    expect(bench.control.cursor).toBe(0);
  });
});

describe("no space", () => {
  test("pauses and tries the same regions again until there is some", () => {
    const bench = rebuilding(Clean);
    let full = 3;
    bench.fault = ({ kind }) => (kind === "write" && full-- > 0 ? FULL : null);
    const waiting: boolean[] = [];
    bench.before = (command) => {
      if (command.op === "pause") waiting.push(bench.control.waitsForSpace);
    };
    expect(bench.run(RECOVERY)).toEqual({ result: "done", failure: null });
    expect(bench.pauses).toEqual([1000, 1000, 1000]);
    expect(waiting).toEqual([true, true, true]);
    expect(bench.control.waitsForSpace).toBe(false);
    expect(bench.equalRegions()).toHaveLength(8);
    expect(bench.control.copied).toBe(8);
  });

  test("that lasts can be stopped", () => {
    const bench = new SyncBench(REGION_BYTES);
    bench.force(NeedSync, 0);
    bench.fault = ({ kind }) => (kind === "write" ? FULL : null);
    bench.before = () => {
      if (bench.pauses.length === 5) bench.control.stop();
    };
    expect(bench.run(RESYNC).result).toBe("stopped");
    expect(bench.states()).toEqual([NeedSync]);
  });
});

describe("data that no member can read", () => {
  test("a resync leaves it, copies the rest, and says that it failed and where", () => {
    const bench = new SyncBench(6 * REGION_BYTES);
    bench.force(NeedSync, 0, 2, 4);
    unreadable(bench, 2);
    const outcome = bench.run(RESYNC);
    expect(outcome.result).toBe("failed");
    expect(outcome.failure).toContain(String(2 * REGION_BYTES));
    expect(bench.equalRegions()).toEqual([0, 4]);
    expect(bench.states()).toEqual([Dirty, Unwritten, NeedSync, Unwritten, Dirty, Unwritten]);
  });

  test("does not keep its neighbours in the window from being copied", () => {
    const bench = new SyncBench(16 * REGION_BYTES);
    for (let region = 0; region < 16; region++) bench.force(NeedSync, region);
    unreadable(bench, 3);
    const outcome = bench.run(RESYNC);
    expect(outcome.failure).toContain(String(3 * REGION_BYTES));
    expect(bench.states().map((state) => state === NeedSync)).toEqual(
      Array.from({ length: 16 }, (_, region) => region === 3),
    );
    expect(bench.equalRegions()).toHaveLength(15);
    expect(bench.control.copied).toBe(15);
  });

  test("a recovery ends there: what is rebuilt is whole or not in sync", () => {
    const bench = rebuilding(Dirty, 24);
    unreadable(bench, 9);
    expect(bench.run(RECOVERY).result).toBe("failed");
    expect(bench.control.cursor).toBe(9);
    expect(bench.states().slice(9, 16)).toEqual(new Array(7).fill(NeedSync));
    expect(bench.equalRegions()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe("members that fail during a run", () => {
  test("the last target: the run ends, and its regions need a sync", () => {
    const bench = rebuilding(Dirty);
    bench.fault = ({ kind }) => (kind === "write" ? BROKEN : null);
    bench.onReport = (slot) => bench.control.setSlot(slot, SyncRole.None, 0);
    expect(bench.run(RECOVERY)).toEqual({
      result: "failed",
      failure: "no member is left to sync to",
    });
    expect(bench.reports.map(({ slot }) => slot)).toEqual([1]);
    expect(bench.states()).toEqual(new Array(8).fill(NeedSync));
  });

  test("the last target of a run that is told to stop: it was stopped, and did not fail", () => {
    const bench = rebuilding(Dirty);
    bench.fault = ({ kind }) => (kind === "write" ? BROKEN : null);
    bench.onReport = (slot) => {
      bench.control.setSlot(slot, SyncRole.None, 0);
      bench.control.stop();
    };
    expect(bench.run(RECOVERY)).toEqual({ result: "stopped", failure: null });
  });

  test("one target of two: the other is rebuilt to the end", () => {
    const bench = new SyncBench(16 * REGION_BYTES, 3);
    bench.control.setSlot(1, SyncRole.Target, 0);
    bench.control.setSlot(2, SyncRole.Target, 0);
    for (let region = 0; region < 16; region++) bench.force(Clean, region);
    bench.fault = ({ kind, slot }) => (kind === "write" && slot === 1 ? BROKEN : null);
    bench.onReport = (slot) => bench.control.setSlot(slot, SyncRole.None, 0);
    expect(bench.run(RECOVERY).result).toBe("done");
    expect(bench.reports).toHaveLength(1);
    expect(bench.equalRegions(0, 2)).toHaveLength(16);
  });

  test("the source: the next one in rank is read from there on", () => {
    const bench = new SyncBench(16 * REGION_BYTES, 3);
    for (let region = 0; region < 16; region++) bench.force(NeedSync, region);
    bench.fault = ({ kind, slot, offset }) =>
      kind === "read" && slot === 0 && offset >= 8 * REGION_BYTES ? BROKEN : null;
    bench.onReport = (slot) => bench.control.setSlot(slot, SyncRole.None, 0);
    expect(bench.run(RESYNC).result).toBe("done");
    expect(bench.equalRegions(0, 2)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(bench.equalRegions(1, 2)).toHaveLength(16);
    expect(bench.members[2]![12 * REGION_BYTES]).toBe(0x11);
  });
});

describe("pace", () => {
  const REGIONS = 64;
  const BYTES = REGIONS * REGION_BYTES;

  test("without a limit nothing waits", () => {
    const bench = rebuilding(Clean, REGIONS);
    bench.run(RECOVERY);
    expect(bench.pauses).toEqual([]);
  });

  test("with a limit the run takes as long as its bytes do, in short naps", () => {
    const bench = rebuilding(Clean, REGIONS);
    bench.control.limit = 1024 * 1024;
    bench.run(RECOVERY);
    expect(bench.time / 1000).toBeCloseTo(BYTES / (1024 * 1024), 1);
    expect(Math.max(...bench.pauses)).toBeLessThanOrEqual(100);
  });

  test("regions that are skipped cost no time", () => {
    const bench = rebuilding(Unwritten, REGIONS);
    bench.control.limit = 1024;
    bench.run(RECOVERY);
    expect(bench.time).toBe(0);
  });

  test("time spent on the copy itself counts", () => {
    const bench = rebuilding(Clean, REGIONS);
    bench.control.limit = 1024 * 1024;
    bench.fault = ({ kind }) => {
      if (kind === "write") bench.time += 500; // 512 KiB at the limit
      return null;
    };
    bench.run(RECOVERY);
    expect(bench.pauses).toEqual([]);
  });

  test("a limit that is lifted, and a stop, end the wait", () => {
    for (const end of ["lift", "stop"] as const) {
      const bench = rebuilding(Clean, REGIONS);
      bench.control.limit = 1024;
      bench.before = () => {
        if (bench.pauses.length < 4) return;
        if (end === "stop") bench.control.stop();
        else bench.control.limit = 0;
      };
      expect(bench.run(RECOVERY).result).toBe(end === "stop" ? "stopped" : "done");
      expect(bench.pauses).toHaveLength(5);
    }
  });
});
