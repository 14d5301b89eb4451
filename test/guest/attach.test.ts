// A real kernel attaches arrays with nbd-client, and puts file systems on them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Random } from "../../src/member/simulated-disk.ts";
import { between, isLong, MIB, seeded } from "../crash/rounds.ts";
import {
  type ArrayShape,
  Arrays,
  RAID1,
  RAID10,
  RAID10_ODD,
  RAID5,
  RAID6,
} from "./attach-arrays.ts";
import { Client, type FileSystem, type Use } from "./attach-client.ts";

interface Case {
  readonly title: string;
  readonly shape: ArrayShape;
  readonly fs: FileSystem;
  readonly options: string;
}

const FILE_SYSTEMS: readonly FileSystem[] = ["ext4", "xfs"];
const OPTIONS = ["", "-C 4", "-C 2 -b 4096"];

const caseOf = (shape: ArrayShape, fs: FileSystem, options: string): Case => ({
  title: [fs, "on", shape.name, options].join(" ").trim(),
  ...{ shape, fs, options },
});

const SHORT: readonly Case[] = [caseOf(RAID1, "ext4", ""), caseOf(RAID5, "xfs", "-C 4")];
const LONG: readonly Case[] = [RAID1, RAID5, RAID6, RAID10, RAID10_ODD].flatMap((shape) =>
  FILE_SYSTEMS.flatMap((fs) => OPTIONS.map((options) => caseOf(shape, fs, options))),
);
const CASES = isLong ? LONG : SHORT;

const numberAfter = (option: string, options: string, otherwise: number): number =>
  Number(new RegExp(`${option} (\\d+)`).exec(options)?.[1] ?? otherwise);

/** Written and deleted again, before the space is given back. */
const BALLAST_MIB = 16;

describe("the kernel's client", () => {
  let arrays: Arrays;
  let client: Client;
  let random: Random;

  beforeAll(async () => {
    ({ random } = seeded());
    arrays = await Arrays.start([...new Set(CASES.map(({ shape }) => shape))]);
    client = await Client.boot(arrays, await arrays.writeBlob(random));
  });

  afterAll(async () => {
    await client?.end();
    await arrays?.dispose();
  });

  async function expectQueue({ array, device, options }: Use): Promise<void> {
    const { size } = await arrays.status(array);
    const { discard_max_bytes: discardMax, ...queue } = await client.queue(device);
    expect(queue).toEqual({
      ...{ size, ro: 0, fua: 1, write_cache: "write back" },
      logical_block_size: numberAfter("-b", options, 512),
    });
    expect(discardMax).toBeGreaterThan(size);
    expect(await arrays.connections(array)).toBe(numberAfter("-C", options, 1));
  }

  /** Deleted files are holes in the images once the guest trims. */
  async function expectTrimmed({ array, device }: Use): Promise<void> {
    const ballast = `/mnt/${device}/ballast`;
    await client.run(`cat /host/blob /host/blob >${ballast}; sync -f ${ballast}`);
    const full = await arrays.allocated(array);
    await client.run(`rm ${ballast}; sync -f /mnt/${device}; fstrim -v /mnt/${device}`);
    expect(full - (await arrays.allocated(array))).toBeGreaterThan(BALLAST_MIB * MIB * 0.9);
  }

  test.each(CASES)("$title: keeps its files", async ({ shape, fs, options }) => {
    const use: Use = { array: shape.name, fs, options, device: "nbd0" };
    const seed = between(random, 1, 32_768);
    await client.attach(use);
    await expectQueue(use);
    await client.run(`format ${fs} nbd0; attached_mount nbd0`);
    await client.plant(use, seed);
    const fio = "--size=4M --io_size=2M --rw=randwrite --bsrange=4k-64k --fsync=1 --verify=crc32c";
    await client.run(`fio --name=f --filename=/mnt/nbd0/fio --randseed=${seed} ${fio}`);
    const digest = await client.run("digest /mnt/nbd0/fio");
    await expectTrimmed(use);
    await client.detachSound(use);
    expect(await arrays.connections(use.array)).toBe(0);
    await arrays.restart();
    await client.attachAndMount(use);
    await client.expectTree(use, seed);
    expect(await client.run("digest /mnt/nbd0/fio")).toBe(digest);
    await client.detachSound(use);
    await arrays.expectChecked(use.array);
  });
});
