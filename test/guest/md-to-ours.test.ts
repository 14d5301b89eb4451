// Linux md makes an array, in a real kernel, and fills it; this program examines it, serves it and
// writes to it; md gets it back. What each wrote the other reads, and parity and copies are right.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Server } from "../interop/server.ts";
import { DEBIAN, LLBITMAP } from "./kernels.ts";
import { MD_TO_OURS, type MdCase, titleOf } from "./md-to-ours.cases.ts";
import {
  compareInGuest,
  copyToGuest,
  createOptions,
  disksOf,
  expectContent,
  expectNoMismatch,
  SYNC_SPEED,
  verdictOn,
  Workshop,
  writeMore,
} from "./md-to-ours.ts";

const LONG = process.env["NBD_RAID_LONG"] === "1";
const MD = "/dev/md127";
const NAME = "guest:data";

const hasParity = ({ level }: MdCase): boolean => ["4", "5", "6"].includes(level);
const unsynced = ({ level }: MdCase): boolean => level === "0" || level === "linear";

async function create(workshop: Workshop, of: MdCase): Promise<number> {
  const { shell } = workshop;
  const speed = of.state === "syncing" ? SYNC_SPEED.crawl : SYNC_SPEED.full;
  await shell.run(`${speed}; mdadm --create ${MD} ${createOptions(of)} ${disksOf(of.members)}`);
  return Number(await shell.run(`blockdev --getsize64 ${MD}`));
}

/** What happens to the array in the guest, up to its stop. */
const HISTORIES = {
  clean: async ({ shell }: Workshop, of: MdCase) => {
    if (!unsynced(of)) await shell.run("until_true 300 md_idle md127");
  },
  syncing: async ({ shell }: Workshop, of: MdCase) => {
    // With a lockless bitmap a mirror has nothing to sync at first: a member is added anew.
    if (of.bitmap === "lockless" && !hasParity(of)) {
      await shell.run(`mdadm ${MD} --fail /dev/disk1 --remove /dev/disk1
        mdadm --zero-superblock /dev/disk1; mdadm ${MD} --add /dev/disk1
        until_true 60 grep -q recover /sys/block/md127/md/sync_action`);
    }
    expect(await shell.run("cat /sys/block/md127/md/sync_action")).toMatch(/^(resync|recover)\n/);
  },
  degraded: async ({ shell, model }: Workshop, _: MdCase, size: number) => {
    await shell.run(`until_true 300 md_idle md127; mdadm ${MD} --fail /dev/disk1`);
    const ranges = model.ranges(16, size);
    for (const range of ranges) await model.change(range);
    await shell.run(copyToGuest(MD, ranges));
  },
} as const;

type Told = keyof typeof HISTORIES;

async function expectTold(server: Server, of: MdCase): Promise<void> {
  const { members } = JSON.parse(await server.ok("examine", "--json", ...server.images)) as {
    members: { error: string | null; superblock: Record<string, unknown>; bitmap: unknown }[];
  };
  for (const { error, superblock, bitmap } of members) {
    expect(error).toBe(null);
    expect(superblock).toMatchObject({ set_name: NAME, raid_disks: of.members });
    expect((bitmap as { type: string } | null)?.type ?? "none").toBe(of.bitmap);
  }
}

async function takeOver(workshop: Workshop, of: MdCase, size: number): Promise<void> {
  const { model, images } = workshop;
  const server = await Server.over(images.slice(0, of.members));
  try {
    await expectTold(server, of);
    const { verdict, sync } = await verdictOn(server);
    expect(verdict).toBe("start");
    if (of.state === "syncing") expect(sync).toMatch(/^(resync|recovery) of /);
    await server.start();
    const status = await server.status();
    expect(status).toMatchObject({ name: NAME, size, level: of.level, layout: of.layout });
    await expectContent(server, model);
    await writeMore(server, model, size);
    if (of.state === "degraded") {
      expect(status.members[1]).toMatchObject({ state: "missing" });
      await server.ok("add", NAME, images[1]!);
    }
    if (!unsynced(of)) await expectNoMismatch(server, NAME);
    await expectContent(server, model);
    await server.stop();
  } catch (error) {
    console.error(server.stderr);
    throw error;
  } finally {
    await server.dispose();
  }
}

async function giveBack({ shell, model }: Workshop, of: MdCase): Promise<void> {
  await shell.run(`mdadm --assemble ${MD} ${disksOf(of.members)}`);
  if (!unsynced(of)) {
    await shell.run(`mdadm --readwrite ${MD} || true; until_true 300 md_idle md127`);
    expect(await shell.run("cat /sys/block/md127/md/degraded")).toBe("0\n");
  }
  await shell.run(compareInGuest(MD, model.merged()));
  if (!unsynced(of)) expect(await shell.run("md_check md127")).toBe("0\n");
  await shell.run(`mdadm --stop ${MD}`);
}

for (const kernel of [DEBIAN, LLBITMAP]) {
  const cases = MD_TO_OURS.filter(
    (one) => one.kernel === kernel.name && one.state in HISTORIES && (LONG || one.short),
  );
  describe.skipIf(cases.length === 0)(`md of Linux ${kernel.name} made it`, () => {
    let workshop: Workshop;
    beforeAll(async () => void (workshop = await Workshop.open(kernel, 5)), 600_000);
    afterAll(() => workshop.close());

    test.for(cases.map((of) => [`${of.state}: ${titleOf(of)}`, of] as const))(
      "%s",
      async ([, of]) => {
        const { shell, model } = workshop;
        await shell.run(`[ ! -e /sys/block/md127/md ] || mdadm --stop ${MD}`);
        // A lockless bitmap spares mirrors their first sync: md itself would find them to differ.
        if (of.bitmap === "lockless" && !hasParity(of)) await workshop.blank(of.members);
        else await workshop.littered(of.members);
        const size = await create(workshop, of);
        // Regions that md never wrote to stay as the disks were; only a lockless bitmap has them.
        model.begin(of.bitmap === "lockless" ? size / 2 : size);
        await shell.run(copyToGuest(MD, model.known));
        await HISTORIES[of.state as Told](workshop, of, size);
        await shell.run(`${SYNC_SPEED.full}; mdadm --stop ${MD}`);
        await takeOver(workshop, of, size);
        await giveBack(workshop, of);
      },
    );
  });
}
