import { fio, fioCase } from "../fio.ts";
import type { Case, Scenario } from "../scenario.ts";

const whole = "1.5 MiB (whole stripes) sequential write, depth 8";

/** Writes of whole stripes: three chunks of data on four members. */
export const levelsWholeStripes: Scenario = {
  name: "levels-whole-stripes",
  where: ["memory"],
  targets: ["raid0-4", "raid4-4", "raid5-4"],
  lifetime: "run",
  full: true,
  rows: "targets",
  sizeMiB: 258, // of level 5: whole chunks on each member
  cases: [fioCase(whole, "MiB/s", ["--rw=write", "--bs=1536k", "--iodepth=8"])],
  goals: [{ case: whole, ours: "raid5-4", theirs: "raid0-4", ratio: 0.6 }],
};

/** How many of the stripes that a sequential stream writes are written without reading. */
const shareCase = (size: string, bs: string): Case => ({
  name: `full stripes of a sequential write, ${size}, depth 8`,
  unit: "%",
  measure: async (target, seconds) => {
    if (target.array === null) throw new Error("only arrays of ours count stripes");
    const before = await target.array.stripeWrites();
    const stream = ["--rw=write", `--bs=${bs}`, "--iodepth=8", "--time_based"];
    const { bytes } = await fio(target, "MiB/s", [...stream, `--runtime=${seconds}`]);
    const after = await target.array.stripeWrites();
    const full = after.full - before.full;
    const others = after.reconstruct - before.reconstruct + after.modify - before.modify;
    return { value: (100 * full) / (full + others), bytes };
  },
});

/** Does a stream become whole stripes? Small writes to small chunks, and large ones to large. */
export const levelsStripeShare: Scenario = {
  name: "levels-stripe-share",
  where: ["memory"],
  targets: ["raid5-4", "raid5-4-16k"],
  lifetime: "run",
  full: true,
  rows: "targets",
  sizeMiB: 256,
  cases: [shareCase("64 KiB", "64k"), shareCase("1 MiB", "1m")],
  goals: [],
};
