import { truncateSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { systemClock } from "../../src/clock.ts";
import { FileMember } from "../../src/member/file.ts";
import { copierOf } from "../../src/raid/copiers.ts";
import type { ArrayShape } from "../../src/raid/geometry/geometry.ts";
import { runAsync } from "../../src/sync/async-driver.ts";
import { SyncControl, SyncRole } from "../../src/sync/control.ts";
import {
  type SyncFailure,
  type SyncJob,
  type SyncOutcome,
  WINDOW_BYTES_MAX,
} from "../../src/sync/engine.ts";
import { runInWorker } from "../../src/sync/worker-driver.ts";
import { makeImage, readAt, writeAt } from "../array/images.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { RECOVERY, REGION_BYTES, RESYNC } from "./bench.ts";

/**
 * Both drivers over real image files: whatever one of them does in a scenario, the other does
 * too. Members hold different bytes at first, and start their data at different offsets.
 */
const REGIONS = 40;
const DATA_BYTES = (REGIONS - 1) * REGION_BYTES + 4096;
const SHAPE: ArrayShape = {
  level: 1,
  layout: 0,
  chunkBytes: 0,
  raidDisks: 2,
  componentBytes: DATA_BYTES,
  dataBytes: [],
};
const DATA_OFFSETS = [1024 * 1024, 2 * 1024 * 1024];

const stateAtFirst = (region: number): State => Math.min(region % 5, State.NeedSync) as State;

let folder: ReturnType<typeof temporaryFolder>;
let members: FileMember[];
let regions: Regions;
let control: SyncControl;
let reports: [slot: number, kind: SyncFailure["kind"]][];
/** What the array does about a member that failed. */
let onReport: (slot: number) => Promise<void>;

beforeEach(async () => {
  folder = temporaryFolder();
  members = [];
  for (const [slot, dataOffset] of DATA_OFFSETS.entries()) {
    const path = makeImage(join(folder.path, `member-${slot}`), dataOffset + DATA_BYTES);
    writeAt(path, Buffer.alloc(DATA_BYTES, slot + 1), dataOffset);
    members.push(await FileMember.open(path, { readOnly: false }));
  }
  regions = Regions.create(DATA_BYTES, REGION_BYTES);
  for (let region = 0; region < REGIONS; region++) regions.force(region, stateAtFirst(region));
  control = new SyncControl();
  control.setSlot(0, SyncRole.InSync, 0);
  control.setSlot(1, SyncRole.InSync, 1);
  reports = [];
  onReport = () => Promise.resolve();
});

afterEach(async () => {
  await Promise.all(members.map((member) => member.close()));
  folder.dispose();
});

const failed = (slot: number, failure: SyncFailure): Promise<void> => {
  reports.push([slot, failure.kind]);
  return onReport(slot);
};

const DRIVERS: Record<string, (job: SyncJob) => Promise<SyncOutcome>> = {
  asynchronous: (job) => {
    const copy = copierOf(SHAPE, WINDOW_BYTES_MAX);
    const run = { ...job, regions, control, copy, now: () => systemClock.now() };
    const legs = members.map((member, slot) => ({ member, dataOffset: DATA_OFFSETS[slot]! }));
    return runAsync(run, legs, systemClock, failed);
  },
  "worker thread": (job) => {
    const legs = members.map(({ path, descriptor }, slot) => {
      return { path, descriptor, dataOffset: DATA_OFFSETS[slot]! };
    });
    const order = { job, shape: SHAPE, regions: regions.shared, control: control.buffer };
    return runInWorker({ ...order, members: legs }, control, failed);
  },
};

/** For each region the value its bytes have in this member; -1 if they have several. */
function valuesIn(slot: number): number[] {
  const bytes = readAt(members[slot]!.path, DATA_OFFSETS[slot]!, DATA_BYTES);
  return Array.from({ length: REGIONS }, (_, region) => {
    const part = bytes.subarray(region * REGION_BYTES, (region + 1) * REGION_BYTES);
    return part.every((byte) => byte === part[0]) ? part[0]! : -1;
  });
}

const isStale = (region: number): boolean => stateAtFirst(region) === State.NeedSync;

describe.each(Object.entries(DRIVERS))("the %s driver", (_name, drive) => {
  test("resyncs the regions that need it, and no others", async () => {
    expect(await drive(RESYNC)).toEqual({ result: "done", failure: null });
    expect(valuesIn(0)).toEqual(new Array(REGIONS).fill(1));
    expect(valuesIn(1)).toEqual(valuesIn(0).map((_, region) => (isStale(region) ? 1 : 2)));
    expect(regions.counts()).toMatchObject({ unwritten: 8, clean: 8, dirty: 24 });
    expect([control.copied, control.skipped, control.cursor]).toEqual([16, 24, REGIONS]);
    const bytes = 16 * REGION_BYTES - (REGION_BYTES - 4096);
    expect([control.readBytes, control.writtenBytes]).toEqual([bytes, bytes]);
    expect(reports).toEqual([]);
  });

  test("rebuilds a target, and leaves what lies around its data alone", async () => {
    control.setSlot(1, SyncRole.Target, 0);
    writeAt(members[1]!.path, Buffer.from("superblock"), 4096);
    expect((await drive(RECOVERY)).result).toBe("done");
    expect(valuesIn(1)).toEqual(valuesIn(1).map((_, region) => (region % 5 === 0 ? 2 : 1)));
    expect(readAt(members[1]!.path, 4096, 10).toString()).toBe("superblock");
  });

  test("reads on from the next member where one has an end too early, and waits for policy", async () => {
    truncateSync(members[0]!.path, DATA_OFFSETS[0]! + 20 * REGION_BYTES);
    let answered = 0;
    onReport = async (slot) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      control.setSlot(slot, SyncRole.None, 0);
      answered++;
    };
    const outcome = await drive(RESYNC);
    expect(outcome).toEqual({ result: "failed", failure: "no member is left to sync to" });
    expect(reports).toEqual([[0, "read"]]);
    expect(answered).toBe(1);
    expect(regions.counts()).toMatchObject({ needSync: 8, syncing: 0, dirty: 16 });
    expect(valuesIn(1)[23]).toBe(2);
  });

  test("lets writers into a region between two of its pieces", async () => {
    regions = Regions.create(DATA_BYTES, 4 * 1024 * 1024);
    regions.force(0, State.NeedSync);
    control.limit = 4 * 1024 * 1024;
    let between = 0;
    let isOver = false;
    const outcome = drive(RESYNC).finally(() => (isOver = true));
    while (!isOver) {
      await regions.enter(0, 0);
      if (regions.state(0) === State.Syncing) between++;
      regions.leave(0, 0);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect((await outcome).result).toBe("done");
    expect(between).toBeGreaterThan(5);
    expect(regions.state(0)).toBe(State.Dirty);
    expect(valuesIn(1)).toEqual(valuesIn(0));
  });

  test("stops in the middle of a nap", async () => {
    control.setSlot(1, SyncRole.Target, 0);
    control.limit = 1024;
    setTimeout(() => control.stop(), 100);
    expect((await drive(RECOVERY)).result).toBe("stopped");
    expect(control.cursor).toBeLessThan(REGIONS);
    expect(regions.tryEnter(0, REGIONS - 1)).toBe(true);
  });
});
