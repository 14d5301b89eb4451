/** qemu's block layer and its tools. It always asks for structured replies: no option says no. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { allocatedBytes, dataDigest, digest } from "../images.ts";
import { type ClientCases, emptyTheArray, sparseFile } from "./cases.ts";
import { type Place, SIZE } from "./places.ts";

const MIB = 1024 * 1024;

/** A command of qemu-img with this place's credentials; `args` name its images. */
const qemuImg = (place: Place, command: string, ...args: string[]) =>
  place.run("qemu-img", command, ...place.qemu.object, ...args);

async function qemuIo(place: Place, ...commands: string[]): Promise<void> {
  const script = commands.flatMap((command) => ["-c", command]);
  const { object, image } = place.qemu;
  const output = await place.run("qemu-io", ...object, "--image-opts", ...script, image);
  expect(output).not.toMatch(/failed|error/i);
}

const fileImage = (path: string) => `driver=raw,file.driver=file,file.filename=${path}`;

/** Each line writes what it reads, whatever was there before. */
const REQUESTS = [
  ["write -P 5 0 1M", "write -P 6 1000 3000", "read -P 6 1000 3000", "read -P 5 0 1000"],
  ["write -P 5 0 1M", "write -P 6 4096 512", "read -P 5 4608 4k", "read -P 5 0 4k"],
  ["write -P 5 0 8k", "write -P 7 513 1025", "read -P 7 513 1025", "read -P 5 0 513"],
  ["write -P 5 0 1M", "write -z 64k 128k", "read -P 0 64k 128k", "read -P 5 192k 64k"],
  ["write -P 5 0 1M", "write -z -u 1k 130k", "read -P 0 1k 130k", "read -P 5 0 1k"],
  ["write -P 5 0 1M", "discard 64k 64k", "read -P 5 0 64k", "read -P 5 128k 64k"],
  ["write -P 5 0 64k", "flush", "read -P 5 0 64k", "write -f -P 6 0 64k", "read -P 6 0 64k"],
  [
    "aio_write -P 8 4M 4M",
    "aio_write -P 9 8M 4M",
    "aio_flush",
    "read -P 8 4M 4M",
    "read -P 9 8M 4M",
  ],
];

export const QEMU: ClientCases = {
  programs: ["qemu-img", "qemu-io", "qemu-nbd", "nbdsh", "cmp"],
  cases: [
    {
      title: "qemu-img info tells the size",
      run: async (place) => {
        const args = ["--output=json", "--image-opts", place.qemu.image];
        const info: unknown = JSON.parse(await qemuImg(place, "info", ...args));
        expect(info).toMatchObject({ "virtual-size": SIZE });
      },
    },
    {
      title: "qemu-img info opens libnbd's own URI",
      run: async (place) => {
        const info: unknown = JSON.parse(
          await place.run("qemu-img", "info", "-f", "raw", "--output=json", place.bareUri),
        );
        expect(info).toMatchObject({ "virtual-size": SIZE });
      },
      cannot: ({ security }) =>
        security === "plain"
          ? null
          : {
              because: "qemu takes credentials as an object, and no nbds URI",
              says: /Unknown protocol 'nbds(\+unix)?'/,
            },
    },
    {
      title: "qemu-img convert writes and reads what qemu-img compare finds equal",
      run: async (place) => {
        const { image } = place.qemu;
        const source = join(place.folder, "source.img");
        await writeFile(source, Buffer.concat([randomBytes(SIZE / 2), Buffer.alloc(SIZE / 2)]));
        await qemuImg(place, "convert", "-n", "-f", "raw", "--target-image-opts", source, image);
        const compare = ["--image-opts", fileImage(source), image];
        expect(await qemuImg(place, "compare", ...compare)).toContain("identical");
        for (const member of place.server.images) {
          expect(await dataDigest(member, SIZE)).toBe(await digest(source));
        }
        await qemuImg(place, "convert", "--image-opts", "-O", "raw", image, "back.img");
        await place.run("cmp", source, "back.img");
      },
    },
    {
      title: "qemu-img compare finds a difference of one byte",
      run: async (place) => {
        const { image } = place.qemu;
        const source = await sparseFile(place.folder);
        await qemuImg(place, "convert", "-n", "-f", "raw", "--target-image-opts", source, image);
        await qemuIo(place, "write -P 1 12345678 1");
        const compare = qemuImg(place, "compare", "--image-opts", fileImage(source), image);
        await expect(compare).rejects.toThrow(/mismatch at offset 12345/i);
      },
    },
    {
      title: "qemu-img map shows data and holes, and convert keeps the holes",
      run: async (place) => {
        await emptyTheArray(place);
        await qemuIo(place, "write -P 5 0 1M", "write -P 6 20M 128k", "flush");
        const args = ["--output=json", "--image-opts", place.qemu.image];
        const map = JSON.parse(await qemuImg(place, "map", ...args)) as {
          start: number;
          length: number;
          data: boolean;
        }[];
        const written = map.filter(({ data }) => data).map(({ start, length }) => [start, length]);
        expect(written).toEqual([
          [0, MIB],
          [20 * MIB, 128 * 1024],
        ]);
        const out = ["-O", "raw", place.qemu.image, "out.img"];
        await qemuImg(place, "convert", "--image-opts", ...out);
        expect(await allocatedBytes(join(place.folder, "out.img"))).toBeLessThan(2 * MIB);
      },
    },
    {
      title: "qemu-img bench reads, and writes with flushes, to its end",
      run: async (place) => {
        const bench = ["-c", "400", "-d", "32", "-s", "64k", "--image-opts"];
        for (const writes of [[], ["-w", "--flush-interval=100"]]) {
          const output = await qemuImg(place, "bench", ...bench, ...writes, place.qemu.image);
          expect(output).toMatch(/Run completed in [\d.]+ seconds/);
        }
      },
      cannot: ({ security }) =>
        security === "plain"
          ? null
          : { because: "bench takes no credentials", says: /unrecognized option '--object'/ },
    },
    {
      title: "qemu-io writes patterns, zeroes and discards, and reads them as they must be",
      run: (place) => qemuIo(place, ...REQUESTS.flat()),
    },
    {
      title: "qemu-nbd --list names the array and its contexts",
      run: async (place) => {
        const list = await place.run("qemu-nbd", "--list", ...place.qemu.list);
        expect(list).toContain("exports available: 1\n export: 'data'");
        expect(list).toContain(`size:  ${SIZE}\n`);
        expect(list).toMatch(/base:allocation\s+x-nbd-raid:regions/);
      },
    },
  ],
};
