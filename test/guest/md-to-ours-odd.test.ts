// What mdadm can do with members besides the plain case: spares, other data offsets, later members,
// names, write-mostly; and what it leaves behind where its parity is not to be trusted.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Server } from "../interop/server.ts";
import { DEBIAN, LLBITMAP } from "./kernels.ts";
import {
  compareInGuest,
  copyToGuest,
  disksOf,
  expectContent,
  expectNoMismatch,
  SYNC_SPEED,
  Workshop,
  writeMore,
} from "./md-to-ours.ts";

const LONG = process.env["NBD_RAID_LONG"] === "1";
const MD = "/dev/md127";
const MIB = 2 ** 20;
const FILLED = 8 * MIB;
const IDLE = "until_true 300 md_idle md127";
const STOP = `mdadm --stop ${MD}`;

const create = (words: string, disks: string): string =>
  `${SYNC_SPEED.full}; mdadm --create ${MD} --run --metadata=1.2 ${words} ${disks}; ${IDLE}`;
const RAID1 = "--bitmap=none --level=1 --raid-devices=2 --homehost=guest --name=data";
const RAID5 = "--bitmap=none --level=5 --raid-devices=3 --chunk=64 --homehost=guest --name=data";

interface Odd {
  readonly name: string;
  readonly disks: number;
  /** Up to a running array, which is filled and stopped then. */
  readonly make: string;
  /** Disks, of all, that it consists of in the end; the server is given all of these. */
  readonly uses?: readonly number[];
  readonly called?: string;
  /** Of the status that the server shows. */
  readonly shows?: object;
  readonly long?: boolean;
}

const CASES: readonly Odd[] = [
  {
    name: "a spare",
    disks: 4,
    make: create(`${RAID5} --spare-devices=1`, disksOf(4)),
    shows: { members: [{ slot: 0 }, { slot: 1 }, { slot: 2 }, { slot: null, state: "spare" }] },
  },
  {
    name: "a member that took the place of another: its number is not its slot's",
    disks: 4,
    make: `${create(RAID5, disksOf(3))}
mdadm ${MD} --fail /dev/disk1 --remove /dev/disk1; mdadm ${MD} --add /dev/disk3
until_true 300 grep -q 0 /sys/block/md127/md/degraded; ${IDLE}`,
    uses: [0, 3, 2],
    shows: { members: [{ slot: 0 }, { slot: 1, path: /disk-3/ }, { slot: 2 }] },
  },
  {
    name: "data offsets that differ between members",
    disks: 3,
    make: create(
      `${RAID5} --data-offset=variable`,
      "/dev/disk0:1024 /dev/disk1:3072 /dev/disk2:2048",
    ),
  },
  {
    name: "a member that is write-mostly",
    disks: 2,
    make: create(RAID1, "/dev/disk0 --write-mostly /dev/disk1"),
    shows: { members: [{ writeMostly: false }, { writeMostly: true }] },
  },
  {
    name: "members that are assumed to be clean, and are",
    disks: 3,
    make: `for disk in ${disksOf(3)}; do dd if=/dev/zero of=$disk bs=1M status=none 2>/dev/null || true; done
${create(`${RAID5} --assume-clean`, disksOf(3))}`,
  },
  {
    name: "a host that is ignored",
    disks: 2,
    make: create(
      "--bitmap=none --level=1 --raid-devices=2 --homehost='<ignore>' --name=data",
      disksOf(2),
    ),
    long: true,
  },
  {
    name: "any host",
    disks: 2,
    make: create("--bitmap=none --level=1 --raid-devices=2 --homehost=any --name=data", disksOf(2)),
    called: "any:data",
    long: true,
  },
  {
    name: "a name that mdadm chose",
    disks: 2,
    make: create("--bitmap=none --level=1 --raid-devices=2 --homehost=guest", disksOf(2)),
    called: "guest:127",
    long: true,
  },
  {
    name: "a raid6 that mdadm made of a raid5, back in an ordinary layout",
    disks: 4,
    make: `${create(RAID5, disksOf(3))}; mdadm ${MD} --add /dev/disk3
mdadm --grow ${MD} --level=6 --raid-devices=4 --backup-file=/root/backup
until_true 300 grep -q 0 /sys/block/md127/md/degraded; ${IDLE}`,
    long: true,
  },
];

/** Members as the status shows them, of which only what is asked for is compared. */
function expectShown(status: unknown, { shows }: Odd): void {
  const { members: expected = [] } = (shows ?? {}) as { members?: Record<string, unknown>[] };
  const { members } = status as { members: Record<string, unknown>[] };
  for (const [at, fields] of expected.entries()) {
    for (const [key, value] of Object.entries(fields)) {
      if (value instanceof RegExp) expect(members[at]![key]).toMatch(value);
      else expect(members[at]![key]).toBe(value);
    }
  }
}

async function carry(workshop: Workshop, of: Odd): Promise<void> {
  const { shell, model } = workshop;
  const all = await workshop.littered(of.disks);
  await shell.run(of.make);
  const size = Number(await shell.run(`blockdev --getsize64 ${MD}`));
  model.begin(FILLED);
  await shell.run(`${copyToGuest(MD, model.known)}\n${STOP}`);
  const used = of.uses ?? all.map((_, disk) => disk);
  const server = await Server.over(used.map((disk) => all[disk]!));
  try {
    await server.start();
    const status = await server.status();
    const name = of.called ?? "guest:data";
    expect(status).toMatchObject({ name, size, degraded: 0 });
    expectShown(status, of);
    await expectContent(server, model);
    await writeMore(server, model, size);
    await expectNoMismatch(server, name);
    await server.stop();
  } catch (error) {
    console.error(server.stderr);
    throw error;
  } finally {
    await server.dispose();
  }
  await shell.run(`mdadm --assemble ${MD} ${used.map((disk) => `/dev/disk${disk}`).join(" ")}
mdadm --readwrite ${MD} || true; ${IDLE}
${compareInGuest(MD, model.merged())}`);
  expect(await shell.run("md_check md127; cat /sys/block/md127/md/degraded")).toBe("0\n0\n");
}

describe("arrays of md that are not the plain case", () => {
  let workshop: Workshop;
  beforeAll(async () => void (workshop = await Workshop.open(DEBIAN, 4)), 600_000);
  afterAll(() => workshop.close());

  const cases = CASES.filter(({ long }) => LONG || long !== true);
  test.for(cases.map((of) => [of.name, of] as const))("%s", async ([, of]) => {
    await workshop.shell.run(`[ ! -e /sys/block/md127/md ] || ${STOP}`);
    await carry(workshop, of);
  });

  // Both lose their power under writes; md refuses to start them, too.
  test.for([
    ["dirty, and without a member", `mdadm ${MD} --fail /dev/disk1`, RAID5],
    ["dirty in its first recovery", SYNC_SPEED.crawl, RAID5],
  ])("%s: it starts only with --force", async ([, before, words]) => {
    const { shell, model } = workshop;
    await shell.run(`[ ! -e /sys/block/md127/md ] || ${STOP}`);
    const images = await workshop.littered(3);
    model.begin(FILLED);
    const first = before === SYNC_SPEED.crawl ? before : SYNC_SPEED.full;
    const idle = before === SYNC_SPEED.crawl ? "" : IDLE;
    await shell.run(`${first}; mdadm --create ${MD} --run --metadata=1.2 ${words} ${disksOf(3)}
${idle}
${before}
${copyToGuest(MD, model.known)}`);
    await shell.runToPowerCut(`(while :; do
  dd if=/dev/urandom of=${MD} bs=64k count=4 seek=$((200 + RANDOM % 100)) status=none conv=notrunc oflag=direct
done) &
sleep 2; powercut`);
    await expectForced(images);
    await workshop.boot();
    await shellRefuses(workshop);
  });
});

async function expectForced(images: readonly string[]): Promise<void> {
  const server = await Server.over(images);
  try {
    const { code, stdout } = await server.cli("assemble", "--check", ...images);
    expect([code, stdout]).toEqual([4, expect.stringMatching(/would start only with --force/)]);
    await expect(server.start()).rejects.toThrow(/the write hole/);
    await server.start(images, ["--force", "--read-only"]);
    await server.stop();
  } finally {
    await server.dispose();
  }
}

async function shellRefuses({ shell }: Workshop): Promise<void> {
  const output = await shell.run(`mdadm --assemble ${MD} ${disksOf(3)} && echo started || true
[ ! -e /sys/block/md127/md ] || ${STOP}`);
  expect(output).not.toContain("\nstarted");
}

describe.skipIf(!LONG)("mirrors with a lockless bitmap that md never synced", () => {
  let workshop: Workshop;
  beforeAll(async () => void (workshop = await Workshop.open(LLBITMAP, 2)), 600_000);
  afterAll(() => workshop.close());

  test("both count the same mismatches in what nobody wrote, and repair ends them", async () => {
    const { shell, model } = workshop;
    const images = await workshop.littered(2);
    await shell.run(
      create(
        "--bitmap=lockless --level=1 --raid-devices=2 --homehost=guest --name=data",
        disksOf(2),
      ),
    );
    model.begin(FILLED);
    await shell.run(copyToGuest(MD, model.known));
    const counted = Number(await shell.run(`md_check md127; ${STOP} >/dev/null 2>&1`));
    expect(counted).toBeGreaterThan(0);
    const server = await Server.over(images);
    try {
      await server.start();
      await server.ok("check", "guest:data", "--wait");
      expect((await server.status()).mismatchCount).toBe(counted);
      await server.ok("repair", "guest:data", "--wait");
      await expectNoMismatch(server, "guest:data");
      await expectContent(server, model);
      await server.stop();
    } finally {
      await server.dispose();
    }
  });
});
