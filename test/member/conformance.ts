import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MemberError } from "../../src/member/member.ts";
import type { Member } from "../../src/member/member.ts";
import { seededRandom } from "./seeded.ts";

const SIZE = 2 * 1024 * 1024;

/** Something to make members of: `open` gives a new Member over the same storage each time. */
export interface Bench {
  /** Storage of `sizeBytes` zeroes. */
  open(options: { readOnly: boolean }): Promise<Member>;
  dispose(): Promise<void>;
}

/**
 * What every member device does, whatever it is made of. `make` is asked for fresh storage of
 * `sizeBytes` zeroes before each test.
 */
export function memberConformance(name: string, make: (sizeBytes: number) => Promise<Bench>): void {
  describe(`${name} as a member`, () => {
    let bench: Bench;
    let member: Member;

    beforeEach(async () => {
      bench = await make(SIZE);
      member = await bench.open({ readOnly: false });
    });
    afterEach(async () => {
      await member.close();
      await bench.dispose();
    });

    const contents = async (offset = 0, length = SIZE): Promise<Uint8Array> => {
      const bytes = new Uint8Array(length).fill(0xee);
      await member.read(bytes, offset);
      return bytes;
    };

    it("has its size and is all zeroes", async () => {
      expect(member.sizeBytes).toBe(SIZE);
      expect(member.readOnly).toBe(false);
      expect(isAll(await contents(), 0)).toBe(true);
    });

    it("agrees with an array of bytes under any sequence of operations", async () => {
      const model = new Uint8Array(SIZE);
      await member.zero(0, SIZE);
      await fc.assert(
        fc.asyncProperty(
          fc.array(operation, { minLength: 1, maxLength: 12 }),
          async (operations) => {
            for (const { kind, offset, length, seed } of operations) {
              const bytes = pattern(length, seed);
              if (kind === "punch" || kind === "zero") {
                await member[kind](offset, length);
                model.fill(0, offset, offset + length);
              } else {
                if (kind === "tryWrite") await writeAnyhow(member, bytes, offset);
                else if (kind === "writev") await member.writev(pieces(bytes, seed), offset);
                else if (kind === "tryWritev") {
                  await writevAnyhow(member, pieces(bytes, seed), offset);
                } else await member[kind](bytes, offset);
                model.set(bytes, offset);
              }
              const from = Math.max(0, offset - 700);
              const to = Math.min(SIZE, offset + length + 700);
              expectSame(await contents(from, to - from), model.subarray(from, to));
              const into = new Uint8Array(to - from).fill(0xee);
              await member.readv(pieces(into, seed), from);
              expectSame(into, model.subarray(from, to));
              into.fill(0xee);
              if (!member.tryReadv(pieces(into, seed), from)) continue;
              expectSame(into, model.subarray(from, to));
            }
          },
        ),
        { numRuns: 60 },
      );
      expectSame(await contents(), model);
    });

    it("reads inline what it reads at all", async () => {
      await member.write(pattern(5000, 3), 777);
      const into = new Uint8Array(5000);
      if (member.tryRead(into, 777)) expectSame(into, pattern(5000, 3));
      await member.read(into, 777);
      expectSame(into, pattern(5000, 3));
    });

    it("moves bytes in shared memory and in the middle of a buffer", async () => {
      const shared = new Uint8Array(new SharedArrayBuffer(3000), 100, 2000);
      shared.set(pattern(2000, 9));
      await member.write(shared, 12_345);
      shared.fill(0);
      await member.read(shared, 12_345);
      expectSame(shared, pattern(2000, 9));
      shared.fill(0);
      if (member.tryRead(shared, 12_345)) expectSame(shared, pattern(2000, 9));
      expect(isAll(new Uint8Array(shared.buffer, 0, 100), 0)).toBe(true);
      expect(isAll(new Uint8Array(shared.buffer, 2100), 0)).toBe(true);
    });

    // More than one readv(2) takes, of lengths down to nothing, and not in the order of memory.
    it("moves one range from and to thousands of buffers anywhere in memory", async () => {
      const bytes = pattern(300_000, 8);
      const from = pieces(bytes, 1, 200).map((piece) => piece.slice());
      expect(from.length).toBeGreaterThan(2500);
      await member.writev(from, 4097);
      expectSame(await contents(4097, bytes.length), bytes);
      const into = from.map(({ length }) => new Uint8Array(length)).reverse();
      await member.readv(into, 4097);
      expectSame(Buffer.concat(into), bytes);
      for (const buffer of into) buffer.fill(0);
      if (member.tryReadv(into, 4097)) expectSame(Buffer.concat(into), bytes);
      await writevAnyhow(member, from.toReversed(), 4097);
      const reversed = Buffer.concat(from.toReversed());
      expectSame(await contents(4097, bytes.length), reversed);
      for (const count of [1, 2, 1024, 1025]) {
        const some = into.slice(0, count);
        for (const buffer of some) buffer.fill(0);
        if (!member.tryReadv(some, 4097)) continue;
        const length = some.reduce((sum, buffer) => sum + buffer.length, 0);
        expectSame(Buffer.concat(some), reversed.subarray(0, length));
      }
    });

    it("moves buffers of shared memory", async () => {
      const shared = new Uint8Array(new SharedArrayBuffer(3000), 100, 2000);
      shared.set(pattern(2000, 9));
      const [head, tail] = [shared.subarray(0, 700), shared.subarray(700)];
      await member.writev([tail, head], 12_345);
      shared.fill(0);
      await member.readv([tail, head], 12_345);
      expectSame(shared, pattern(2000, 9));
      shared.fill(0);
      if (member.tryReadv([tail, head], 12_345)) expectSame(shared, pattern(2000, 9));
      expect(isAll(new Uint8Array(shared.buffer, 0, 100), 0)).toBe(true);
      expect(isAll(new Uint8Array(shared.buffer, 2100), 0)).toBe(true);
    });

    it("takes empty reads and writes", async () => {
      await member.read(new Uint8Array(0), 0);
      await member.write(new Uint8Array(0), SIZE);
      await member.readv([], 0);
      await member.readv([new Uint8Array(0), new Uint8Array(0)], 0);
      await member.writev([], SIZE);
      await member.writev([new Uint8Array(0), new Uint8Array(0)], SIZE);
      await member.punch(4096, 0);
      await member.zero(4096, 0);
    });

    it("rejects a read that runs past the end", async () => {
      await expect(member.read(new Uint8Array(1024), SIZE - 512)).rejects.toThrow(MemberError);
      await expect(member.read(new Uint8Array(1), SIZE)).rejects.toThrow(MemberError);
      expect(member.tryRead(new Uint8Array(1024), SIZE - 512)).toBe(false);
      const halves = [new Uint8Array(512), new Uint8Array(512)];
      await expect(member.readv(halves, SIZE - 512)).rejects.toThrow(MemberError);
      expect(member.tryReadv(halves, SIZE - 512)).toBe(false);
    });

    it("refuses to write past the end, and does not grow", async () => {
      for (const write of [
        () => member.write(new Uint8Array(1024), SIZE - 512),
        () => member.writev([new Uint8Array(512), new Uint8Array(512)], SIZE - 512),
        () => member.writeDurable(new Uint8Array(1024), SIZE - 512),
        () => member.punch(SIZE - 512, 1024),
        () => member.zero(SIZE - 512, 1024),
      ]) {
        expect(write).toThrow("invariant");
      }
      await expect(member.read(new Uint8Array(1), SIZE)).rejects.toThrow(MemberError);
    });

    it("runs many operations at once", async () => {
      const blocks = Array.from({ length: 64 }, (_, i) => ({
        at: i * 20_000,
        bytes: pattern(9000, i),
      }));
      await Promise.all(blocks.map(({ at, bytes }) => member.write(bytes, at)));
      await Promise.all([member.sync(), member.writeDurable(pattern(512, 99), 1_900_000)]);
      const read = await Promise.all(blocks.map(({ at }) => contents(at, 9000)));
      read.forEach((bytes, i) => expectSame(bytes, pattern(9000, i)));
      expectSame(await contents(1_900_000, 512), pattern(512, 99));
    });

    it("finds every byte of data, and says null where there is none", async () => {
      expect(await member.nextData(0, SIZE)).toBeNull();
      await member.write(pattern(4096, 5), 1024 * 1024);
      await member.sync();
      const found = await member.nextData(0, SIZE);
      expect(found).not.toBeNull();
      expect(found).toBeLessThanOrEqual(1024 * 1024);
      expect(await member.nextData(1024 * 1024 + 100, SIZE)).toBe(1024 * 1024 + 100);
      expect(await member.nextData(0, 4096)).toBeNull();
      expect(await member.nextData(8192, 8192)).toBeNull();
      await member.punch(1024 * 1024, 4096);
      expect(await member.nextData(0, SIZE)).toBeNull();
    });

    it("finds the end of data, where a hole begins or the range ends", async () => {
      expect(await member.nextHole(4096, SIZE)).toBe(4096);
      await member.write(pattern(8192, 5), 1024 * 1024);
      await member.sync();
      const end = await member.nextHole(1024 * 1024 + 100, SIZE);
      expect(end).toBeGreaterThanOrEqual(1024 * 1024 + 8192);
      expect(await member.nextHole(1024 * 1024, 1024 * 1024 + 4096)).toBe(1024 * 1024 + 4096);
      await member.punch(1024 * 1024, 8192);
      expect(await member.nextHole(1024 * 1024, SIZE)).toBe(1024 * 1024);
    });

    it("prefetches without a word", async () => {
      await member.prefetch(0, SIZE);
      await member.prefetch(SIZE - 10, SIZE);
    });

    it("keeps its bytes for the next one to open it", async () => {
      await member.write(pattern(3333, 1), 1);
      await member.writeDurable(pattern(512, 2), 8192);
      const { identity } = member;
      await member.close();
      member = await bench.open({ readOnly: true });
      expect(member.readOnly).toBe(true);
      expect(member.identity).toBe(identity);
      expectSame(await contents(1, 3333), pattern(3333, 1));
      expectSame(await contents(8192, 512), pattern(512, 2));
      expect(member.writesInline(512)).toBe(false);
      expect(() => member.write(new Uint8Array(512), 0)).toThrow("invariant");
    });

    it("closes after what is under way, once, and does nothing afterwards", async () => {
      const bytes = pattern(300_000, 4);
      const settled: string[] = [];
      const writes = Array.from({ length: 8 }, (_, i) =>
        member.writeDurable(bytes, i * 100_000).then(() => settled.push("write")),
      );
      const sync = member.sync().then(() => settled.push("sync"));
      const closed = Promise.all([member.close(), member.close()]).then(() =>
        settled.push("close"),
      );
      await expect(member.read(new Uint8Array(512), 0)).rejects.toThrow(MemberError);
      expect(member.tryRead(new Uint8Array(512), 0)).toBe(false);
      expect(member.writesInline(512)).toBe(false);
      expect(member.tryWrite(new Uint8Array(512), 0)).toBe(false);
      const two = [new Uint8Array(512), new Uint8Array(512)];
      await expect(member.readv(two, 0)).rejects.toThrow(MemberError);
      await expect(member.writev(two, 0)).rejects.toThrow(MemberError);
      expect(member.tryReadv(two, 0)).toBe(false);
      expect(member.tryWritev(two, 0)).toBe(false);
      await Promise.all([...writes, sync, closed]);
      expect(settled.at(-1)).toBe("close");
      expect(settled).toHaveLength(10);
      await expect(member.sync()).rejects.toThrow(MemberError);
      member = await bench.open({ readOnly: false });
      expectSame(await contents(0, 100_000), bytes.subarray(0, 100_000));
    });
  });
}

const KINDS = [
  "write",
  "writev",
  "writeDurable",
  "tryWrite",
  "tryWritev",
  "punch",
  "zero",
] as const;

const operation = fc
  .record({
    kind: fc.constantFrom(...KINDS),
    offset: fc.integer({ min: 0, max: SIZE - 1 }),
    length: fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 150_000 })),
    seed: fc.integer({ min: 1, max: 255 }),
    aligned: fc.boolean(),
  })
  .map(({ kind, offset, length, seed, aligned }) => {
    const unit = aligned ? 512 : 1;
    const start = offset - (offset % unit);
    const size = Math.min(Math.ceil(length / unit) * unit, SIZE - start);
    return { kind, offset: start, length: size, seed } as const;
  });

/** As the array does it: inline if the member would, else, or if that failed, by promise. */
async function writeAnyhow(member: Member, bytes: Uint8Array, offset: number): Promise<void> {
  if (member.writesInline(bytes.length) && member.tryWrite(bytes, offset)) return;
  await member.write(bytes, offset);
}

async function writevAnyhow(
  member: Member,
  buffers: readonly Uint8Array[],
  offset: number,
): Promise<void> {
  const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  if (member.writesInline(length) && member.tryWritev(buffers, offset)) return;
  await member.writev(buffers, offset);
}

/** The buffer cut into parts at places that the seed decides; some parts are empty. */
function pieces(bytes: Uint8Array, seed: number, lengthMax = 40_000): Uint8Array[] {
  const random = seededRandom(seed);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Math.floor(random() * lengthMax);
    parts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return parts;
}

/** Bytes that differ by position and by seed. */
export function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + seed * 101) & 0xff);
}

/** Equal without printing megabytes when not. */
export function expectSame(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  expect.fail(`differs at byte ${at}: ${actual[at]} instead of ${expected[at]}`);
}

export function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.every((byte) => byte === value);
}
