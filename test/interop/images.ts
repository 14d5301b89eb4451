/** What the tests know of a member image by themselves, without the program's own code. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rm, stat } from "node:fs/promises";
import { run } from "./run.ts";

export interface DataArea {
  readonly start: number;
  readonly length: number;
}

/** data_offset and data_size of the version 1.2 superblock, in bytes (md_p.h). */
export async function dataArea(image: string): Promise<DataArea> {
  const file = await open(image);
  try {
    const { buffer } = await file.read(Buffer.alloc(256), 0, 256, 4096);
    const sectors = (offset: number) => Number(buffer.readBigUInt64LE(offset)) * 512;
    return { start: sectors(128), length: sectors(136) };
  } finally {
    await file.close();
  }
}

export async function digest(path: string): Promise<string> {
  return digestOf(path, 0, (await stat(path)).size);
}

/** The digest of the first `length` bytes of the data area: what the array's client sees. */
export async function dataDigest(image: string, length?: number): Promise<string> {
  const area = await dataArea(image);
  return digestOf(image, area.start, length ?? area.length);
}

async function digestOf(path: string, start: number, length: number): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path, { start, end: start + length - 1 })) {
    hash.update(piece as Buffer);
  }
  return hash.digest("hex");
}

/** A new, empty file of the same length in the image's place: a disk that was swapped. */
export async function replaceByBlank(image: string): Promise<void> {
  const { size } = await stat(image);
  await rm(image);
  const file = await open(image, "wx");
  await file.truncate(size);
  await file.close();
}

/** Bytes that the file system has allocated behind a file. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512;
}

/** What `mdadm --examine` says of an image, by its own words; it fails unless mdadm exits 0. */
export async function mdadmExamine(image: string): Promise<ReadonlyMap<string, string>> {
  const lines = (await run("mdadm", ["--examine", image])).split("\n");
  const pairs = lines.map((line) => line.split(" : ").map((part) => part.trim()));
  return new Map(pairs.map(([key, value]) => [key ?? "", value ?? ""]));
}
