// Linux md writes to several arrays when the power goes. This program takes them over: what had been
// flushed is there, the regions that md's bitmap has marked are synced, and no others; after that
// copies and parity are right, for this program and for md.
import { describe, expect, test } from "vitest";
import { Server } from "../interop/server.ts";
import { RawClient } from "../nbd/client.ts";
import { DEBIAN, type Kernel, LLBITMAP } from "./kernels.ts";
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
} from "./md-to-ours.ts";

const LONG = process.env["NBD_RAID_LONG"] === "1";
const MIB = 2 ** 20;
const NAME = "guest:data";
/** Behind it is what the load writes to: its content when the power went is not known. */
const KNOWN_BYTES = 16 * MIB;
const LOAD_BYTES = 8 * MIB;

/** An array among several, and where it lies. */
interface Placed {
  readonly of: MdCase;
  readonly device: string;
  readonly firstDisk: number;
}

function place(cases: readonly MdCase[]): Placed[] {
  let disks = 0;
  return cases.map((of, index) => {
    const firstDisk = disks;
    disks += of.members;
    return { of, device: `/dev/md${120 + index}`, firstDisk };
  });
}

const md = ({ device }: Placed): string => device.slice("/dev/".length);
const disksFor = ({ of, firstDisk }: Placed): string => disksOf(of.members, firstDisk);

async function createAll({ shell, model }: Workshop, arrays: readonly Placed[]): Promise<void> {
  await shell.run(SYNC_SPEED.full);
  model.begin(KNOWN_BYTES);
  for (const array of arrays) {
    await shell.run(
      `mdadm --create ${array.device} ${createOptions(array.of)} ${disksFor(array)}
       until_true 300 md_idle ${md(array)}
       ${copyToGuest(array.device, model.known)}`,
    );
  }
  for (const { of, firstDisk } of arrays) {
    if (of.bitmap === "internal") await shell.run(untilUnmarked(`/dev/disk${firstDisk}`));
  }
}

/** md clears bits some seconds after the last write; until then its bitmap says all of the disk. */
const untilUnmarked = (disk: string): string => `
unmarked() { mdadm --examine-bitmap "$1" | grep -q ', 0 dirty'; }
until_true 60 unmarked ${disk}`;

/** Small writes, one after the other, for as long as there is power; never a pause for md to rest. */
const load = ({ device }: Placed): string => `
(while :; do
  dd if=/dev/urandom of=${device} bs=4k count=1024 status=none conv=notrunc oflag=direct \\
    seek=$((${KNOWN_BYTES / 4096} + RANDOM % ${LOAD_BYTES / 4096 - 1024}))
done) &`;

async function cutPowerUnderLoad(workshop: Workshop, arrays: readonly Placed[]): Promise<void> {
  const { shell, model } = workshop;
  const ranges = model.ranges(12, KNOWN_BYTES);
  for (const range of ranges) await model.change(range);
  await shell.runToPowerCut(
    `${arrays.map(load).join("")}
     sleep 2
     ${arrays.map(({ device }) => copyToGuest(device, ranges)).join("\n")}
     powercut`,
  );
}

async function takeOver({ model }: Workshop, of: MdCase, server: Server): Promise<void> {
  expect(await verdictOn(server)).toMatchObject({
    verdict: "start",
    sync:
      of.bitmap === "none"
        ? "resync of everything: there is no bitmap"
        : "resync of the regions that were being written",
  });
  await server.start();
  await expectContent(server, model);
  await server.ok("wait", NAME);
  const { lastSync } = await server.status();
  expect(lastSync).toMatchObject({ action: "resync", result: "done" });
  // A lockless bitmap marks 32 MiB at a time where writes come close together: all there is here.
  if (of.bitmap === "none") expect(lastSync?.skippedBytes).toBe(0);
  if (of.bitmap === "internal") expect(lastSync?.skippedBytes).toBeGreaterThan(KNOWN_BYTES / 8);
  await expectNoMismatch(server, NAME);
}

async function writeRanges(server: Server, workshop: Workshop): Promise<void> {
  const { model } = workshop;
  const client = await RawClient.connect(server.socket);
  await client.negotiate();
  for (const { offset, length } of model.known)
    await client.write(offset, model.bytes.subarray(offset, offset + length));
  client.destroy();
}

/** All are served at once: what is written to one of them is written to all. */
async function takeAllOver(workshop: Workshop, arrays: readonly Placed[]): Promise<void> {
  const servers: Server[] = [];
  try {
    for (const { of, firstDisk } of arrays) {
      const server = await Server.over(workshop.images.slice(firstDisk, firstDisk + of.members));
      servers.push(server);
      await takeOver(workshop, of, server);
    }
    for (const range of workshop.model.ranges(12, KNOWN_BYTES)) await workshop.model.change(range);
    for (const server of servers) {
      await writeRanges(server, workshop);
      await expectNoMismatch(server, NAME);
      await server.stop();
    }
  } catch (error) {
    console.error(servers.at(-1)?.stderr);
    throw error;
  } finally {
    for (const server of servers) await server.dispose();
  }
}

async function giveAllBack({ shell, model }: Workshop, arrays: readonly Placed[]): Promise<void> {
  for (const array of arrays) {
    await shell.run(`mdadm --assemble ${array.device} ${disksFor(array)}
      mdadm --readwrite ${array.device} || true; until_true 300 md_idle ${md(array)}
      ${compareInGuest(array.device, model.merged())}`);
    expect(await shell.run(`md_check ${md(array)}`)).toBe("0\n");
    await shell.run(`mdadm --stop ${array.device}`);
  }
}

/** A boot for the arrays of one bitmap. */
function groupsOf(kernel: Kernel): [string, MdCase[]][] {
  const cases = MD_TO_OURS.filter(
    (one) => one.kernel === kernel.name && one.state === "killed" && (LONG || one.short),
  );
  return kernel.bitmaps.flatMap((bitmap) => {
    const group = cases.filter((one) => one.bitmap === bitmap);
    return group.length === 0 ? [] : [[group.map(titleOf).join("; "), group] as [string, MdCase[]]];
  });
}

for (const kernel of [DEBIAN, LLBITMAP]) {
  const groups = groupsOf(kernel);
  describe.skipIf(groups.length === 0)(`Linux ${kernel.name} lost its power`, () => {
    test.for(groups)("%s", async ([, group]) => {
      const arrays = place(group);
      const workshop = await Workshop.open(
        kernel,
        arrays.reduce((disks, { of }) => disks + of.members, 0),
      );
      try {
        await workshop.littered(workshop.images.length);
        await createAll(workshop, arrays);
        await cutPowerUnderLoad(workshop, arrays);
        await takeAllOver(workshop, arrays);
        await workshop.boot();
        await giveAllBack(workshop, arrays);
      } finally {
        await workshop.close();
      }
    });
  });
}
