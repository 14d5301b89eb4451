import { rm, stat } from "node:fs/promises";
import { run } from "../test/interop/run.ts";
import type { Measurement } from "./scenario.ts";
import { type OurTarget, startArray } from "./ours.ts";
import type { RunningTarget, Target } from "./target.ts";

interface Shape {
  readonly title: string;
  readonly level: string;
  readonly members: number;
  /** A member holds the array's size divided by this. */
  readonly dataMembers: number;
  /** Further options of `create`. */
  readonly options: readonly string[];
}

const shape = (
  title: string,
  level: string,
  members: number,
  dataMembers: number,
  options: readonly string[] = [],
): Shape => ({ title, level, members, dataMembers, options });

/** Without parity and without a bitmap: what serving a file costs, and nothing else. */
const SINGLE = shape("one file (linear of 1)", "linear", 1, 1);
const RAID1 = shape("raid1, 2 members", "1", 2, 1);
const RAID4 = shape("raid4, 4 members", "4", 4, 3);
const RAID5_3 = shape("raid5, 3 members", "5", 3, 2);
const RAID5_4 = shape("raid5, 4 members", "5", 4, 3);
const RAID5_8 = shape("raid5, 8 members", "5", 8, 7);
const RAID6_4 = shape("raid6, 4 members", "6", 4, 2);
const RAID6_6 = shape("raid6, 6 members", "6", 6, 4);
const RAID6_8 = shape("raid6, 8 members", "6", 8, 6);
const RAID10_N2 = shape("raid10 n2, 4 members", "10", 4, 2, ["--layout", "n2"]);
const RAID10_F2 = shape("raid10 f2, 4 members", "10", 4, 2, ["--layout", "f2"]);
const SMALL_CHUNKS = shape("raid5, 4 members, 16K chunks", "5", 4, 3, ["--chunk", "16K"]);

/** Every level, whole and with as many members failed as it bears; and dd beside rebuilds. */
export const LEVEL_TARGETS = {
  single: whole(SINGLE),
  "linear-2": whole(shape("linear, 2 members", "linear", 2, 2)),
  "raid0-4": whole(shape("raid0, 4 members", "0", 4, 4)),
  "raid1-2": whole(RAID1),
  "raid4-4": whole(RAID4),
  "raid5-3": whole(RAID5_3),
  "raid5-4": whole(RAID5_4),
  "raid5-4-16k": whole(SMALL_CHUNKS),
  "raid5-8": whole(RAID5_8),
  "raid6-4": whole(RAID6_4),
  "raid6-6": whole(RAID6_6),
  "raid6-8": whole(RAID6_8),
  "raid10-n2": whole(RAID10_N2),
  "raid10-f2": whole(RAID10_F2),
  "raid1-2-degraded": degraded(RAID1, 1),
  "raid4-4-degraded": degraded(RAID4, 1),
  "raid5-3-degraded": degraded(RAID5_3, 1),
  "raid5-4-degraded": degraded(RAID5_4, 1),
  "raid5-8-degraded": degraded(RAID5_8, 1),
  "raid6-4-degraded": degraded(RAID6_4, 2),
  "raid6-6-degraded": degraded(RAID6_6, 2),
  "raid6-8-degraded": degraded(RAID6_8, 2),
  "raid10-n2-degraded": degraded(RAID10_N2, 1),
  "raid10-f2-degraded": degraded(RAID10_F2, 1),
  dd: { title: "dd, one member to another", start: startDd },
} as const satisfies Readonly<Record<string, Target>>;

function whole(healthy: Shape): Target {
  return { title: healthy.title, start: (...where) => startShape(healthy, ...where) };
}

function degraded(healthy: Shape, failed: number): Target {
  return {
    ...whole(healthy),
    title: `${healthy.title}, ${failed} failed`,
    whenFull: async ({ array }) => array?.fail(failed),
  };
}

function startShape(
  { level, members, dataMembers, options }: Shape,
  folder: string,
  sizeMiB: number,
): Promise<OurTarget> {
  const memberMiB = Math.ceil(sizeMiB / dataMembers);
  return startArray({ members, memberMiB, createArgs: ["--level", level, ...options] }, folder);
}

/** A member of a raid1, copied by dd with a sync at the end, as a rebuild ends with one. */
async function startDd(folder: string, sizeMiB: number): Promise<RunningTarget> {
  const served = await startShape(RAID1, folder, sizeMiB);
  const [image = ""] = served.images;
  const rebuild = (): Promise<Measurement> => copy(image, `${image}.copy`);
  return { ...served, pid: null, array: { ...served.array, rebuild } };
}

async function copy(from: string, to: string): Promise<Measurement> {
  await rm(to, { force: true });
  const { size } = await stat(from);
  const startedAt = performance.now();
  await run("dd", [`if=${from}`, `of=${to}`, "bs=1M", "conv=fdatasync", "status=none"]);
  const seconds = (performance.now() - startedAt) / 1000;
  const bytes = 2 * size; // read and written, as for a rebuild
  return { value: bytes / 1024 ** 2 / seconds, bytes };
}
