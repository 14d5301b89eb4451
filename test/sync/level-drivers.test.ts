import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Regions } from "../../src/bitmap/regions.ts";
import { State } from "../../src/bitmap/transitions.ts";
import { systemClock } from "../../src/clock.ts";
import { FileMember } from "../../src/member/file.ts";
import { copierOf } from "../../src/raid/copiers.ts";
import { runAsync } from "../../src/sync/async-driver.ts";
import { SyncControl, SyncRole } from "../../src/sync/control.ts";
import { type SyncJob, type SyncOutcome, WINDOW_BYTES_MAX } from "../../src/sync/engine.ts";
import { runInWorker } from "../../src/sync/worker-driver.ts";
import { makeImage, readAt, writeAt } from "../array/images.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { seededRandom } from "../member/seeded.ts";
import { trackedBytes, writeImages } from "../raid/oracle.ts";
import { arrayBytes, type OracleShape } from "../raid/oracle-placement.ts";
import { CHECK, RECOVERY, REPAIR } from "./bench.ts";
import { shapeOfLevel } from "./level-cases.ts";

/** Both drivers at the levels that stripe, over real image files. */
const REGION_BYTES = 64 * 1024;
const DATA_OFFSET = 1024 * 1024;

interface Bench {
  readonly shape: OracleShape;
  readonly good: readonly Buffer[];
  readonly members: readonly FileMember[];
  readonly regions: Regions;
  readonly control: SyncControl;
}

type Drive = (bench: Bench, job: SyncJob) => Promise<SyncOutcome>;

const nobodyFails = (): Promise<void> => Promise.reject(new Error("no member fails"));

const DRIVERS: Readonly<Record<string, Drive>> = {
  asynchronous: ({ shape, members, regions, control }, job) => {
    const copy = copierOf(shape, WINDOW_BYTES_MAX);
    const run = { ...job, regions, control, copy, now: () => systemClock.now() };
    const legs = members.map((member) => ({ member, dataOffset: DATA_OFFSET }));
    return runAsync(run, legs, systemClock, nobodyFails);
  },
  "worker thread": ({ shape, members, regions, control }, job) => {
    const legs = members.map(({ path, descriptor }) => {
      return { path, descriptor, dataOffset: DATA_OFFSET };
    });
    const order = { job, shape, regions: regions.shared, control: control.buffer, members: legs };
    return runInWorker(order, control, nobodyFails);
  },
};

async function makeBench(shape: OracleShape): Promise<Bench> {
  const folder = temporaryFolder();
  const random = seededRandom(1);
  const bytes = new Uint8Array(arrayBytes(shape)).map(() => Math.floor(random() * 256));
  const good = writeImages(shape, bytes);
  const members: FileMember[] = [];
  for (const [slot, image] of good.entries()) {
    const path = makeImage(join(folder.path, `member-${slot}`), DATA_OFFSET + image.length);
    writeAt(path, image, DATA_OFFSET);
    members.push(await FileMember.open(path, { readOnly: false }));
  }
  onTestFinished(async () => {
    await Promise.all(members.map((member) => member.close()));
    folder.dispose();
  });
  const regions = Regions.create(trackedBytes(shape), REGION_BYTES);
  for (let region = 0; region < regions.count; region++) regions.force(region, State.Clean);
  const control = new SyncControl();
  for (const slot of members.keys()) control.setSlot(slot, SyncRole.InSync, slot);
  return { shape, good, members, regions, control };
}

function expectGood({ members, good }: Bench): void {
  for (const [slot, { path }] of members.entries()) {
    const image = readAt(path, DATA_OFFSET, good[slot]!.length);
    expect(image.equals(good[slot]!), `slot ${slot}`).toBe(true);
  }
}

const SHAPES: readonly [string, OracleShape][] = [
  ["level 5", { ...shapeOfLevel(5, 4), componentBytes: 1024 * 1024 }],
  [
    "level 6 with large chunks",
    { ...shapeOfLevel(6, 5), chunkBytes: 131072, componentBytes: 1048576 },
  ],
  ["level 10 near", { ...shapeOfLevel(10, 3), chunkBytes: 4096, componentBytes: 1024 * 1024 }],
  ["level 10 far", { ...shapeOfLevel(10, 4, { layout: 0x201 }), componentBytes: 1024 * 1024 }],
];

describe.each(Object.entries(DRIVERS))("the %s driver", (_name, drive) => {
  test.each(SHAPES)("rebuilds a member of %s", async (_title, shape) => {
    const bench = await makeBench(shape);
    writeAt(bench.members[1]!.path, Buffer.alloc(bench.good[1]!.length, 0xee), DATA_OFFSET);
    bench.control.setSlot(1, SyncRole.Target, 0);
    expect(await drive(bench, RECOVERY)).toEqual({ result: "done", failure: null });
    expectGood(bench);
    expect(bench.control.writtenBytes).toBe(bench.good[1]!.length);
  });

  test.each(SHAPES)("checks and repairs %s", async (_title, shape) => {
    const bench = await makeBench(shape);
    expect((await drive(bench, CHECK)).result).toBe("done");
    expect(bench.control.mismatchBytes).toBe(0);
    const { level, chunkBytes } = shape;
    // A byte that is derived from others: parity, or the copy on a higher slot.
    const slot = shape.raidDisks - 1;
    const isCopy = level === 10;
    const at = isCopy ? lastCopyOn(bench, slot) : 0;
    writeAt(bench.members[slot]!.path, Buffer.of(bench.good[slot]![at]! ^ 1), DATA_OFFSET + at);
    bench.control.cursor = 0;
    expect((await drive(bench, REPAIR)).result).toBe("done");
    expect(bench.control.mismatchBytes).toBe(isCopy ? Math.min(chunkBytes, 65536) : 4096);
    expectGood(bench);
  });
});

/** Where on this slot, the highest, a chunk lies whose first copy is on a lower one. */
function lastCopyOn({ good, shape }: Bench, slot: number): number {
  for (let at = 0; at < good[slot]!.length; at += shape.chunkBytes) {
    const chunk = good[slot]!.subarray(at, at + shape.chunkBytes);
    const twin = good.slice(0, slot).some((image) => image.includes(chunk));
    if (twin) return at;
  }
  throw new Error("every chunk has a copy on another slot");
}
