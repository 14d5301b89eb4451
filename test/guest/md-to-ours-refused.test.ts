// What md has and this program does not: made by mdadm in a real kernel, refused by name by every
// command that looks at it, and not one byte changed. Where mdadm has a way out it is taken.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digest } from "../interop/images.ts";
import { Server } from "../interop/server.ts";
import { DEBIAN } from "./kernels.ts";
import { disksOf, expectContent, SYNC_SPEED, Workshop } from "./md-to-ours.ts";

const MD = "/dev/md127";
const NO_ARRAY = `
for md in /dev/md126 /dev/md127; do [ ! -b $md ] || mdadm --stop $md; done
${SYNC_SPEED.full}`;

const create = (words: string, disks: string): string =>
  `mdadm --create ${MD} --run --homehost=guest --name=data ${words} ${disks}
[ ! -e /sys/block/md127/md/sync_action ] || until_true 300 md_idle md127`;
const stop = `mdadm --stop ${MD}`;
/** Waits until no member is missing or being rebuilt. */
const WHOLE = "until_true 300 grep -q 0 /sys/block/md127/md/degraded; until_true 300 md_idle md127";

interface Refused {
  readonly name: string;
  readonly disks: number;
  readonly make: string;
  /** What is said of one member at least; else of all. */
  readonly says: RegExp;
  readonly ofSome?: boolean;
  /** Run in the guest, this makes an array of it that can be served. */
  readonly wayOut?: string;
}

const V12 = "--metadata=1.2 --bitmap=none";
const RAID1 = "--level=1 --raid-devices=2";
const RAID5 = "--level=5 --raid-devices=3 --chunk=64";

const CASES: readonly Refused[] = [
  {
    name: "a journal",
    disks: 4,
    make: `${create(`${V12} ${RAID5} --write-journal /dev/disk3`, disksOf(3))}; ${stop}`,
    says: /: not supported: a journal device/,
  },
  {
    name: "a partial parity log",
    disks: 3,
    make: `${create(`--metadata=1.2 ${RAID5} --consistency-policy=ppl`, disksOf(3))}; ${stop}`,
    says: /: not supported: a partial parity log, PPL \(mdadm --grow --consistency-policy=resync/,
    wayOut: `mdadm --assemble ${MD} ${disksOf(3)}; mdadm --readwrite ${MD}
mdadm --grow --consistency-policy=resync ${MD}; ${stop}`,
  },
  {
    name: "bad blocks on record",
    disks: 2,
    make: `${create(`${V12} ${RAID1}`, disksOf(2))}
echo "4096 8" >/sys/block/md127/md/dev-vdb/bad_blocks
dd if=/dev/model of=${MD} bs=1M count=1 status=none conv=fsync; ${stop}`,
    says: /disk-1.img: not supported: a list of bad blocks \(have mdadm rebuild that member\)/,
    ofSome: true,
    wayOut: `mdadm --assemble ${MD} ${disksOf(2)}
mdadm ${MD} --fail /dev/disk1 --remove /dev/disk1
mdadm --zero-superblock /dev/disk1; mdadm ${MD} --add /dev/disk1
${WHOLE}; ${stop}`,
  },
  ...["0.90", "1.0", "1.1"].map((version) => ({
    name: `metadata ${version}`,
    disks: 2,
    make: `${create(`--metadata=${version} --bitmap=none ${RAID1}`, disksOf(2))}; ${stop}`,
    says: new RegExp(
      `: has md metadata ${version} at byte \\d+; only md metadata 1.2 is supported`,
    ),
  })),
  {
    name: "a container of DDF",
    disks: 2,
    make: `mdadm --create /dev/md126 --run --metadata=ddf --level=container --raid-devices=2 ${disksOf(2)}; mdadm --stop /dev/md126`,
    says: /: has DDF metadata; only md metadata 1.2 is supported/,
  },
  {
    name: "a container of Intel's RAID",
    disks: 2,
    make: `export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
mdadm --create /dev/md126 --run --metadata=imsm --level=container --raid-devices=2 ${disksOf(2)}; mdadm --stop /dev/md126`,
    says: /: has Intel RAID metadata \(IMSM\); only md metadata 1.2 is supported/,
  },
  {
    name: "the level faulty",
    disks: 1,
    make: `${create("--metadata=1.2 --level=faulty --raid-devices=1 --force", disksOf(1))}; ${stop}`,
    says: /: level -5 \(faulty\) is not supported/,
  },
  {
    name: "the level multipath",
    disks: 1,
    make: `${create("--metadata=1.2 --level=multipath --raid-devices=1 --force", disksOf(1))}; ${stop}`,
    says: /: level -4 \(multipath\) is not supported/,
  },
  {
    name: "a replacement that was stopped",
    disks: 3,
    make: `${create(`${V12} ${RAID1}`, disksOf(2))}
${SYNC_SPEED.crawl}; mdadm ${MD} --add /dev/disk2 --replace /dev/disk1 --with /dev/disk2
until_true 60 grep -q recover /sys/block/md127/md/sync_action
${stop}`,
    says: /disk-2.img: not supported: a replacement in progress \(let mdadm finish it\)/,
    ofSome: true,
    wayOut: `${SYNC_SPEED.full}; mdadm --assemble ${MD} ${disksOf(3)}; mdadm --readwrite ${MD} || true
until_true 300 md_idle md127; mdadm ${MD} --remove /dev/disk1; mdadm --zero-superblock /dev/disk1; ${stop}`,
  },
  {
    name: "an ext4 file system",
    disks: 1,
    make: "mkfs.ext4 -q -F /dev/disk0",
    says: /: holds an ext4 file system, no md superblock at byte 4096/,
  },
  {
    name: "a swap area",
    disks: 1,
    make: "mkswap /dev/disk0",
    says: /: holds a swap area, no md superblock at byte 4096/,
  },
];

/** Examined, asked what would become of it, served: each says the same, and changes nothing. */
async function expectRefused(images: readonly string[], of: Refused): Promise<void> {
  const before = await Promise.all(images.map(digest));
  const server = await Server.over(images);
  try {
    const { stdout } = await server.cli("examine", "--json", ...images);
    const { members } = JSON.parse(stdout) as { members: { error: string | null }[] };
    const said = members.filter(({ error }) => error !== null && of.says.test(error));
    expect([stdout, said.length]).toEqual([stdout, of.ofSome === true ? 1 : images.length]);
    const checked = await server.cli("assemble", "--check", ...images);
    expect(checked.code).toBe(4);
    expect(checked.stderr).toMatch(of.says);
    await expect(server.start()).rejects.toThrow(of.says);
  } finally {
    await server.dispose();
  }
  expect(await Promise.all(images.map(digest))).toEqual(before);
}

async function expectServed(workshop: Workshop, images: readonly string[]): Promise<void> {
  const server = await Server.over(images);
  try {
    await server.start();
    await expectContent(server, workshop.model);
    await server.stop();
  } finally {
    await server.dispose();
  }
}

describe("refused by name, and left as it is", () => {
  let workshop: Workshop;
  // DDF takes 32 MiB for itself.
  beforeAll(async () => void (workshop = await Workshop.open(DEBIAN, 4, 48)), 600_000);
  afterAll(() => workshop.close());

  test.for(CASES.map((of) => [of.name, of] as const))("%s", async ([, of]) => {
    await workshop.shell.run(NO_ARRAY);
    const images = await workshop.littered(of.disks);
    await workshop.shell.run(of.make);
    await expectRefused(images, of);
    if (of.wayOut === undefined) return;
    await workshop.shell.run(of.wayOut);
    workshop.model.begin(0);
    const { stdout } = await (await Server.over(images)).cli("examine", "--json", ...images);
    const { members } = JSON.parse(stdout) as { members: { path: string; error: unknown }[] };
    const left = members.filter(({ error }) => error === null).map(({ path }) => path);
    await expectServed(workshop, left);
  });

  test("a bitmap in a file: without the file the array is one without a bitmap", async () => {
    const { shell, model } = workshop;
    await shell.run(NO_ARRAY);
    const images = await workshop.littered(4);
    await shell.run(`mkfs.ext4 -q -F /dev/disk3; mount /dev/disk3 /mnt
mdadm --create ${MD} --run --homehost=guest --name=data --metadata=1.2 ${RAID1} --bitmap=/mnt/bitmap ${disksOf(2)}
until_true 300 md_idle md127
dd if=/dev/model of=${MD} bs=1M count=8 status=none conv=fsync
${stop}; umount /mnt`);
    model.begin(8 * 2 ** 20);
    await expectServed(workshop, images.slice(0, 2));
  });

  test("a reshape that a power cut ended", async () => {
    const images = await workshop.littered(4);
    await workshop.shell.run(`${NO_ARRAY}
${create(`${V12} ${RAID5}`, disksOf(3))}; mdadm ${MD} --add /dev/disk3`);
    await workshop.shell.runToPowerCut(`${SYNC_SPEED.crawl}
mdadm --grow ${MD} --raid-devices=4
until_true 60 grep -q reshape /sys/block/md127/md/sync_action
sleep 1; powercut`);
    await expectRefused(images, {
      name: "",
      disks: 4,
      make: "",
      says: /: not supported: a reshape in progress \(let mdadm finish it\)/,
    });
    await workshop.boot();
    await workshop.shell.run(`mdadm --assemble ${MD} ${disksOf(4)}; mdadm --readwrite ${MD} || true
${SYNC_SPEED.full}; until_true 300 md_idle md127; ${stop}`);
    workshop.model.begin(0);
    await expectServed(workshop, images);
  });
});
