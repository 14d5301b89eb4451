/** What an array must hold: bytes on the host, and the same in a file that a guest has as a disk. */
import { createCipheriv } from "node:crypto";
import { type FileHandle, open, truncate } from "node:fs/promises";
import type { Random } from "../../src/member/simulated-disk.ts";

export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** As many bytes as asked for, the same for each seed. */
export function seededBytes(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeInt32LE(seed | 0);
  return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

export class Model {
  readonly path: string;
  /** The disk's; what counts is in `known`. */
  readonly bytes: Buffer;
  readonly #file: FileHandle;
  readonly #random: Random;
  #known: Range[] = [];

  private constructor(path: string, bytes: Buffer, file: FileHandle, random: Random) {
    this.path = path;
    this.bytes = bytes;
    this.#file = file;
    this.#random = random;
  }

  static async create(path: string, length: number, random: Random): Promise<Model> {
    const bytes = seededBytes(Math.floor(random() * 2 ** 31), length);
    const file = await open(path, "wx+");
    await file.write(bytes, 0, length, 0);
    return new Model(path, bytes, file, random);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** The ranges that were written to the array. They may overlap. */
  get known(): readonly Range[] {
    return this.#known;
  }

  /** A new array, of which nothing is known but what is written to it: the first `length` bytes. */
  begin(length: number): void {
    this.#known = [{ offset: 0, length }];
  }

  /** Other bytes in this range, from now on. */
  async change(range: Range): Promise<Buffer> {
    const { offset, length } = range;
    const bytes = seededBytes(Math.floor(this.#random() * 2 ** 31), length);
    bytes.copy(this.bytes, offset);
    await this.#file.write(bytes, 0, length, offset);
    this.#known.push(range);
    return bytes;
  }

  /** Ranges of many lengths, aligned and not, below `end`. */
  ranges(count: number, end: number): Range[] {
    return Array.from({ length: count }, () => {
      const most = 2 ** (9 + Math.floor(this.#random() * 11));
      const unit = this.#random() < 0.3 ? 1 : 512;
      const length = Math.max(1, Math.ceil((this.#random() * most) / unit)) * unit;
      const offset = Math.floor((this.#random() * (end - length)) / unit) * unit;
      return { offset, length };
    });
  }

  /** Fills a file with bytes that no array holds: what a used disk is like. */
  async litter(path: string, length: number): Promise<void> {
    await truncate(path, 0);
    const file = await open(path, "r+");
    try {
      const start = 1 + Math.floor(this.#random() * (this.bytes.length - length - 1));
      await file.write(this.bytes, start, length, 0);
    } finally {
      await file.close();
    }
  }

  /** Where `found`, read from `offset` of the array, is not what it must be; null: it is. */
  firstDifference(found: Buffer, offset: number): number | null {
    for (const { start, end } of this.#within(offset, offset + found.length)) {
      const expected = this.bytes.subarray(start, end);
      const actual = found.subarray(start - offset, end - offset);
      if (actual.equals(expected)) continue;
      return start + actual.findIndex((byte, at) => byte !== expected[at]);
    }
    return null;
  }

  /** The known ranges, without the overlaps, in order. */
  merged(): Range[] {
    const merged: { offset: number; length: number }[] = [];
    for (const { offset, length } of [...this.#known].sort((a, b) => a.offset - b.offset)) {
      const last = merged.at(-1);
      if (last === undefined || offset > last.offset + last.length) merged.push({ offset, length });
      else last.length = Math.max(last.length, offset + length - last.offset);
    }
    return merged;
  }

  #within(from: number, to: number): { start: number; end: number }[] {
    return this.merged().flatMap(({ offset, length }) => {
      const start = Math.max(from, offset);
      const end = Math.min(to, offset + length);
      return start < end ? [{ start, end }] : [];
    });
  }
}
