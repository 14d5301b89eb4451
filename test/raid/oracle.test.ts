/** The oracle against the tables that md's own sources and images gave, and against itself. */
import { describe, expect, it } from "vitest";
import { seededRandom } from "../member/seeded.ts";
import {
  anyLost,
  arrayBytes,
  dataDisks,
  isParity,
  type OracleShape,
  parityRow,
  raid10Places,
} from "./oracle-placement.ts";
import { check, contradiction, readArray, syndrome, writeImages, xorOf } from "./oracle.ts";
import { LAYOUTS, levelNumber, titleOf } from "./oracle-shapes.ts";

const MiB = 1024 * 1024;

function shapeOf(level: number, layout: number, raidDisks: number, chunks = 12): OracleShape {
  const chunkBytes = level === 1 ? 0 : 512;
  const dataBytes = Array.from({ length: raidDisks }, (_, slot) => 512 * (3 + ((slot * 5) % 4)));
  return { level, layout, chunkBytes, raidDisks, componentBytes: chunks * 512, dataBytes };
}

/** A row as the tables print it: "D0 D1 P Q". */
function printRow(shape: OracleShape, stripe: number): string {
  const row = parityRow(shape, stripe);
  const words = Array<string>(shape.raidDisks).fill("");
  words[row.p] = "P";
  if (row.q !== null) words[row.q] = "Q";
  row.data.forEach((slot, i) => (words[slot] = `D${stripe * dataDisks(shape) + i}`));
  return words.join(" ");
}

const printRows = (shape: OracleShape, count: number): string =>
  Array.from({ length: count }, (_, stripe) => printRow(shape, stripe)).join(" | ");

const RAID5_OF_FOUR = [
  [0, "D0 D1 D2 P | D3 D4 P D5 | D6 P D7 D8 | P D9 D10 D11"],
  [1, "P D0 D1 D2 | D3 P D4 D5 | D6 D7 P D8 | D9 D10 D11 P"],
  [2, "D0 D1 D2 P | D4 D5 P D3 | D8 P D6 D7 | P D9 D10 D11"],
  [3, "P D0 D1 D2 | D5 P D3 D4 | D7 D8 P D6 | D9 D10 D11 P"],
  [4, "P D0 D1 D2 | P D3 D4 D5"],
  [5, "D0 D1 D2 P | D3 D4 D5 P"],
] as const;

const RAID6_OF_FIVE = [
  [0, "Q D0 D1 D2 P | D3 D4 D5 P Q | D6 D7 P Q D8 | D9 P Q D10 D11 | P Q D12 D13 D14"],
  [2, "Q D0 D1 D2 P | D3 D4 D5 P Q | D7 D8 P Q D6 | D11 P Q D9 D10 | P Q D12 D13 D14"],
  [8, "P Q D0 D1 D2 | D3 P Q D4 D5 | D6 D7 P Q D8 | D9 D10 D11 P Q | Q D12 D13 D14 P"],
  [10, "D0 D1 D2 Q P | D4 D5 Q P D3 | D8 Q P D6 D7 | Q P D9 D10 D11 | P D12 D13 D14 Q"],
  [4, "P Q D0 D1 D2 | P Q D3 D4 D5"],
  [5, "D0 D1 D2 P Q | D3 D4 D5 P Q"],
] as const;

// Members of 12 chunks; chunk numbers of a member in place of its bytes.
const RAID10_FIRST_CHUNKS = [
  [0x102, 4, "(0,0)(1,0) (2,0)(3,0) (0,1)(1,1) (2,1)(3,1)"],
  [0x102, 3, "(0,0)(1,0) (2,0)(0,1) (1,1)(2,1) (0,2)(1,2)"],
  [0x103, 5, "(0,0)(1,0)(2,0) (3,0)(4,0)(0,1) (1,1)(2,1)(3,1) (4,1)(0,2)(1,2)"],
  [0x201, 4, "(0,0)(1,6) (1,0)(2,6) (2,0)(3,6) (3,0)(0,6)"],
  [0x10201, 4, "(0,0)(1,1) (1,0)(2,1) (2,0)(3,1) (3,0)(0,1)"],
  [0x10201, 3, "(0,0)(1,1) (1,0)(2,1) (2,0)(0,1) (0,2)(1,3)"],
] as const;

describe("placement is md's", () => {
  it("in the first stripes of raid4", () => {
    expect(printRows(shapeOf(4, 0, 4), 2)).toBe("D0 D1 D2 P | D3 D4 D5 P");
  });

  it.for(RAID5_OF_FOUR)("in the first stripes of raid5, layout %i", ([layout, rows]) => {
    expect(printRows(shapeOf(5, layout, 4), rows.split("|").length)).toBe(rows);
  });

  it.for(RAID6_OF_FIVE)("in the first stripes of raid6, layout %i", ([layout, rows]) => {
    expect(printRows(shapeOf(6, layout, 5), rows.split("|").length)).toBe(rows);
  });

  it.for(RAID10_FIRST_CHUNKS)("in the first chunks of raid10 %i on %i", ([layout, n, first]) => {
    const shape = shapeOf(10, layout, n);
    const chunks = [0, 1, 2, 3].map((chunk) =>
      raid10Places(shape, chunk)
        .map(({ slot, offset }) => `(${slot},${offset / 512})`)
        .join(""),
    );
    expect(chunks.join(" ")).toBe(first);
  });

  it("in sizes: members of 12 MiB and chunks of 64 KiB, as a kernel showed them", () => {
    const sizes = [
      [0x102, 3, 18874368],
      [0x103, 5, 20971520],
      [0x201, 4, 25165824],
      [0x10201, 3, 18874368],
    ] as const;
    for (const [layout, raidDisks, size] of sizes) {
      const common = { level: 10, chunkBytes: 64 * 1024, componentBytes: 12 * MiB, dataBytes: [] };
      expect(arrayBytes({ ...common, layout, raidDisks })).toBe(size);
    }
  });

  it("in the zones of raid0: longer members go on alone, each layout in its own turn", () => {
    const common = { level: 0, chunkBytes: 512, raidDisks: 3, componentBytes: 0 };
    const dataBytes = [512, 3 * 512, 3 * 512];
    const bytes = Buffer.concat([1, 2, 3, 4, 5, 6, 7].map((value) => Buffer.alloc(512, value)));
    const held = (layout: number): string[] =>
      writeImages({ ...common, layout, dataBytes }, bytes).map((image) =>
        Array.from({ length: image.length / 512 }, (_, at) => image.readUInt8(at * 512)).join(),
      );
    // The second zone begins at chunk 3: an odd number, so that it begins with its second member.
    expect(held(1)).toEqual(["1", "2,5,7", "3,4,6"]);
    expect(held(2)).toEqual(["1", "2,4,6", "3,5,7"]);
  });
});

describe("parity is md's", () => {
  it("for bytes 01 02 03, and ff 80 01 7f", () => {
    const blocks = (bytes: number[]): Uint8Array[] => bytes.map((byte) => Uint8Array.of(byte));
    expect([...xorOf(blocks([1, 2, 3]))]).toEqual([0]);
    expect([...syndrome(blocks([1, 2, 3]), [0, 1, 2])]).toEqual([9]);
    expect([...syndrome(blocks([0xff, 0x80, 1, 0x7f]), [0, 1, 2, 3])]).toEqual([0x39]);
  });
});

function randomBytes(length: number, seed: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Uint8Array.from({ length }, () => Math.floor(random() * 256)));
}

/** Every choice of `count` slots of `n`. */
function* choices(n: number, count: number, from = 0): Iterable<number[]> {
  if (count === 0) return void (yield []);
  for (let slot = from; slot < n; slot++) {
    for (const rest of choices(n, count - 1, slot + 1)) yield [slot, ...rest];
  }
}

describe.for(LAYOUTS.map((layout) => [titleOf(layout), layout] as const))("%s", ([, of]) => {
  const counts = Array.from({ length: 8 - of.least + 1 }, (_, more) => of.least + more);
  const shapes = counts.map((n) => shapeOf(levelNumber(of.level), of.layout, n));

  it("reads what was written, whichever members are lost that may be", () => {
    for (const shape of shapes) {
      const bytes = randomBytes(arrayBytes(shape), shape.raidDisks);
      const images = writeImages(shape, bytes);
      expect(readArray(shape, images).equals(bytes)).toBe(true);
      for (let count = 1; count <= Math.min(3, anyLost(shape)); count++) {
        for (const lost of choices(shape.raidDisks, count)) {
          const left = images.map((image, slot) => (lost.includes(slot) ? null : image));
          expect(readArray(shape, left).equals(bytes), `without ${lost.join()}`).toBe(true);
          expect(contradiction(shape, left), `without ${lost.join()}`).toBeNull();
        }
      }
    }
  });

  it("finds no fault with what was written, and each byte that is changed", () => {
    for (const shape of shapes) {
      const images = writeImages(shape, randomBytes(arrayBytes(shape), 1));
      expect(check(shape, images)).toEqual([]);
      if (anyLost(shape) === 0) continue;
      for (const [slot, image] of images.entries()) {
        const at = (7 * slot + 300) % (512 * Math.min(6, shape.componentBytes / 512));
        image[at]! ^= 1;
        expect(check(shape, images).length, `slot ${slot}`).toBe(1);
        expect(contradiction(shape, images)).not.toBeNull();
        if (isParity(shape)) expect(check(shape, images)).toEqual([Math.floor(at / 512)]);
        image[at]! ^= 1;
      }
    }
  });
});
