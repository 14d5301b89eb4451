/** What the tests that take md's arrays over share: a guest, its disks, and the server. */
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { Server } from "../interop/server.ts";
import { seededRandom } from "../member/seeded.ts";
import { RawClient } from "../nbd/client.ts";
import type { Kernel } from "./kernels.ts";
import type { MdCase } from "./md-to-ours.cases.ts";
import { Model, type Range } from "./model.ts";
import { GuestShell } from "./shell.ts";

const MIB = 2 ** 20;
const MODEL_BYTES = 208 * MIB;
const PIECE_BYTES = 4 * MIB;

const LEAST_DISK_MIB = 32;

/** One guest with disks, which arrays take one after the other. */
export class Workshop {
  readonly folder: string;
  readonly kernel: Kernel;
  readonly model: Model;
  readonly images: readonly string[];
  readonly #leastMib: number;
  #shell: GuestShell | null = null;

  private constructor(
    folder: string,
    kernel: Kernel,
    model: Model,
    disks: number,
    leastMib: number,
  ) {
    this.folder = folder;
    this.kernel = kernel;
    this.model = model;
    this.images = Array.from({ length: disks }, (_, disk) => join(folder, `disk-${disk}.img`));
    this.#leastMib = leastMib;
  }

  /** Prints its seed; NBD_RAID_SEED sets it. */
  static async open(kernel: Kernel, disks: number, leastMib = LEAST_DISK_MIB): Promise<Workshop> {
    const seed = Number(process.env["NBD_RAID_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`seed ${seed}`);
    const folder = await mkdtemp(join(tmpdir(), "nbd-raid-md-"));
    const model = await Model.create(join(folder, "model"), MODEL_BYTES, seededRandom(seed));
    const workshop = new Workshop(folder, kernel, model, disks, leastMib);
    for (const image of workshop.images) await writeFile(image, "");
    await workshop.blank(disks);
    await workshop.boot();
    return workshop;
  }

  get shell(): GuestShell {
    if (this.#shell === null) throw new Error("no guest is up");
    return this.#shell;
  }

  /** Also after a power cut. */
  async boot(): Promise<void> {
    const disks = [...this.images, this.model.path];
    this.#shell = await GuestShell.boot({ kernel: this.kernel, disks });
    await this.shell.run(`ln -s disk${this.images.length} /dev/model; modprobe md-mod || true`);
  }

  async close(): Promise<void> {
    try {
      await this.#shell?.end();
    } finally {
      await this.model.close();
      await rm(this.folder, { recursive: true, force: true });
    }
  }

  /** The first disks, with nothing but zeroes on them. */
  async blank(count: number): Promise<void> {
    for (const [disk, image] of this.images.slice(0, count).entries()) {
      await truncate(image, 0);
      await truncate(image, this.#diskBytes(disk));
    }
  }

  /** The first disks, each with other things on it. */
  async littered(count: number, first = 0): Promise<string[]> {
    const images = this.images.slice(first, first + count);
    for (const [at, image] of images.entries())
      await this.model.litter(image, this.#diskBytes(first + at));
    return images;
  }

  /** No two neighbours are of one length. */
  #diskBytes(disk: number): number {
    return (this.#leastMib + 4 * (disk % 3)) * MIB;
  }
}

/** The guest's names of so many disks. */
export const disksOf = (count: number, first = 0): string =>
  Array.from({ length: count }, (_, at) => `/dev/disk${first + at}`).join(" ");

/** The words of `mdadm --create` for a case, without its device and its members. */
export function createOptions(
  of: Pick<MdCase, "level" | "layout" | "members" | "chunkKib" | "bitmap">,
): string {
  const { level, layout, members, chunkKib, bitmap } = of;
  return [
    "--run --metadata=1.2 --homehost=guest --name=data",
    `--level=${level} --raid-devices=${members}`,
    ...(layout === null ? [] : [`--layout=${layout}`]),
    ...(chunkKib === null ? [] : [`--chunk=${chunkKib}`]),
    ...(level === "0" || level === "linear" ? [] : [BITMAP_OPTIONS[bitmap]]),
  ].join(" ");
}

const BITMAP_OPTIONS = {
  none: "--bitmap=none",
  // mdadm's own choice is one bit for all of such a small member.
  internal: "--bitmap=internal --bitmap-chunk=64K",
  lockless: "--bitmap=lockless",
} as const;

/** KiB a second, of syncs: none to speak of, and as fast as can be. */
export const SYNC_SPEED = {
  crawl: "echo 1 >/proc/sys/dev/raid/speed_limit_min; echo 64 >/proc/sys/dev/raid/speed_limit_max",
  full: "echo 1000000 | tee /proc/sys/dev/raid/speed_limit_min >/proc/sys/dev/raid/speed_limit_max",
} as const;

/** Copies ranges of the model to a device of the guest, durably. */
export function copyToGuest(device: string, ranges: readonly Range[]): string {
  return [
    "blockdev --flushbufs /dev/model; echo 3 >/proc/sys/vm/drop_caches",
    ...ranges.map(
      ({ offset, length }) =>
        `dd if=/dev/model of=${device} bs=1M status=none conv=notrunc ` +
        `iflag=skip_bytes,count_bytes oflag=seek_bytes skip=${offset} seek=${offset} count=${length}`,
    ),
    `blockdev --flushbufs ${device}`,
  ].join("\n");
}

/** Fails where a device of the guest does not hold what the model does. */
export function compareInGuest(device: string, ranges: readonly Range[]): string {
  return [
    "blockdev --flushbufs /dev/model; echo 3 >/proc/sys/vm/drop_caches",
    ...ranges.map(({ offset, length }) => `cmp -i ${offset} -n ${length} ${device} /dev/model`),
  ].join("\n");
}

/** Reads all that is known of the array from the server. */
export async function expectContent(server: Server, model: Model): Promise<void> {
  const client = await RawClient.connect(server.socket);
  try {
    await client.negotiate();
    for (const { offset, length } of model.merged()) {
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        const data = await client.read(at, Math.min(PIECE_BYTES, offset + length - at));
        expect(model.firstDifference(data, at), "the first byte that differs").toBe(null);
      }
    }
  } finally {
    client.destroy();
  }
}

/** Writes other bytes in some places, here and there in what has `end` bytes. */
export async function writeMore(server: Server, model: Model, end: number): Promise<void> {
  const client = await RawClient.connect(server.socket);
  try {
    await client.negotiate();
    for (const range of model.ranges(24, end))
      await client.write(range.offset, await model.change(range));
  } finally {
    client.destroy();
  }
}

export async function expectNoMismatch(server: Server, name: string): Promise<void> {
  await server.ok("wait", name);
  await server.ok("check", name, "--wait");
  const { mismatchCount, lastSync, degraded } = await server.status();
  expect({ mismatchCount, degraded }).toEqual({ mismatchCount: 0, degraded: 0 });
  expect(lastSync).toMatchObject({ action: "check", result: "done" });
}

/** What `assemble --check` says. */
export async function verdictOn(server: Server): Promise<{ verdict: string; sync: string | null }> {
  const { stdout } = await server.cli("assemble", "--check", "--json", ...server.images);
  const { arrays } = JSON.parse(stdout) as { arrays: { verdict: string; sync: string | null }[] };
  expect(arrays).toHaveLength(1);
  return arrays[0]!;
}
