import { run } from "../../test/interop/run.ts";
import { onePassCase } from "../fio.ts";
import type { Scenario } from "../scenario.ts";
import type { RunningTarget } from "../target.ts";

const name = "cold 4 KiB random read, depth 32";

/** Every block at most once, none of them in the page cache before. */
export const coldReads: Scenario = {
  name: "cold-reads",
  where: ["disk"],
  targets: ["lockless", "nbdkit"],
  lifetime: "place",
  full: true,
  rows: "cases",
  sizeMiB: 1024,
  cases: [onePassCase(name, "IOPS", ["--rw=randread", "--bs=4k", "--iodepth=32"], dropCache)],
  goals: [{ case: name, ours: "lockless", theirs: "nbdkit", ratio: 0.9 }],
};

/** dd's documented way to drop a whole file from the page cache; what is dirty must be synced. */
async function dropCache(target: RunningTarget): Promise<void> {
  for (const image of target.images) {
    await run("sync", [image]);
    await run("dd", [`if=${image}`, "iflag=nocache", "count=0", "status=none"]);
  }
}
