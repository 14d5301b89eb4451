import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import {
  BITMAP_CLEAN,
  BITMAP_FIRST_USE,
  type BitmapSuperblock,
  decodeBitmapSuperblock,
  encodeBitmapSuperblock,
  firstUseState,
} from "../../src/metadata/bitmap-superblock.ts";
import { holds } from "./properties.ts";
import { BITMAP, bitmapSuperblock, INTERNAL } from "./samples.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const decode = (bytes: Uint8Array) => decodeBitmapSuperblock(bytes, "/images/a");

function refusal(bytes: Uint8Array): string {
  try {
    decode(bytes);
    return "accepted";
  } catch (error) {
    if (!(error instanceof NbdRaidError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

const refusalOf = (change: Partial<BitmapSuperblock>, of = BITMAP) =>
  refusal(encodeBitmapSuperblock({ ...of, ...change }));

function withVersion(version: number): Uint8Array {
  const bytes = Buffer.from(encodeBitmapSuperblock(BITMAP));
  bytes.writeUInt32LE(version, 4);
  return bytes;
}

describe("bitmap superblock: bytes", () => {
  const empty = {
    ...BITMAP,
    ...{
      uuid: "00000000:00000000:00000000:00000000",
      events: 0,
      eventsCleared: 0,
      knownZero: null,
    },
    ...{ syncSizeSectors: 0, regionSectors: 0, daemonSleepSeconds: 0, sectorsReserved: 0 },
  };

  it("are magic, version 6 and zeroes up to the first state at 1024, if no field says more", () => {
    const expected = Buffer.alloc(1024);
    expected.write("6269746d06000000", "hex");
    expect(hex(encodeBitmapSuperblock(empty))).toBe(hex(expected));
  });

  it.each<[number, string, Partial<BitmapSuperblock>]>([
    [8, "000102030405060708090a0b0c0d0e0f", { uuid: "00010203:04050607:08090a0b:0c0d0e0f" }],
    [24, "0102030405060700", { events: Number(0x0007060504030201n) }],
    [32, "0102030405060700", { eventsCleared: Number(0x0007060504030201n) }],
    [40, "0504030201000000", { syncSizeSectors: 0x0102030405 }],
    [48, "18000000", { state: BITMAP_FIRST_USE | BITMAP_CLEAN }],
    [52, "80000000", { regionSectors: 128 }],
    [56, "1e000000", { daemonSleepSeconds: 30 }],
    [60, "04030201", { writeBehind: 0x01020304 }],
    [64, "00010000", { sectorsReserved: 256 }],
  ])("at %i are %s for %o", (at, bytes, change) => {
    const expected = Buffer.from(encodeBitmapSuperblock(empty));
    expected.write(bytes, at, "hex");
    expect(hex(encodeBitmapSuperblock({ ...empty, ...change }))).toBe(hex(expected));
  });
});

describe("bitmap superblock: bytes of an internal one", () => {
  it("are magic, version 4 and fields as md has them, up to the first bit at 256", () => {
    const expected = Buffer.alloc(256);
    expected.write("6269746d04000000", "hex");
    expected.write("101112131415161718191a1b1c1d1e1f", 8, "hex");
    expected.writeBigUInt64LE(42n, 24);
    expected.writeBigUInt64LE(7n, 32);
    expected.writeBigUInt64LE(405_504n, 40);
    expected.writeUInt32LE(64 * 1024 * 1024, 52);
    expected.writeUInt32LE(5, 56);
    expected.writeUInt32LE(256, 64);
    expect(hex(encodeBitmapSuperblock(INTERNAL))).toBe(hex(expected));
  });

  it("have the region size in bytes, also where md takes one of a single sector", () => {
    const bytes = Buffer.from(encodeBitmapSuperblock({ ...INTERNAL, syncSizeSectors: 1 }));
    bytes.writeUInt32LE(512, 52);
    expect(decode(bytes)).toMatchObject({ kind: "internal", regionSectors: 1 });
  });

  it("know no first use and no zeroes: such bits and bytes say nothing", () => {
    const bytes = Buffer.from(encodeBitmapSuperblock({ ...INTERNAL, state: BITMAP_FIRST_USE }));
    Buffer.from(encodeBitmapSuperblock(BITMAP)).copy(bytes, 192, 192, 256);
    const found = decode(bytes);
    expect(found.knownZero).toBeNull();
    expect(firstUseState(found)).toBeNull();
  });
});

describe("bitmap superblock: round trips", () => {
  it("decodes what it has encoded, and encodes that to the same bytes", () => {
    holds(
      fc.property(bitmapSuperblock, (value) => {
        const bytes = encodeBitmapSuperblock(value);
        expect(decode(bytes)).toEqual(value);
        expect(hex(encodeBitmapSuperblock(decode(bytes)))).toBe(hex(bytes));
      }),
    );
  });

  it("decodes what mdadm 4.6 creates: first use, placeholders, and 0xff behind byte 256", () => {
    const bytes = Buffer.alloc(1024, 0xff).fill(0, 0, 256);
    bytes.write("6269746d06000000", "hex");
    bytes.writeBigUInt64LE(405_504n, 40);
    bytes.writeUInt32LE(BITMAP_FIRST_USE | BITMAP_CLEAN, 48);
    bytes.writeUInt32LE(0x4000000, 52);
    bytes.writeUInt32LE(5, 56);
    bytes.writeUInt32LE(256, 64);
    expect(decode(bytes)).toMatchObject({ state: 0x18, events: 0, knownZero: null });
  });
});

describe("bitmap superblock: refusals", () => {
  it("is corrupt without its magic", () => {
    expect(refusal(new Uint8Array(1024))).toMatch(/^bitmap-corrupt: \/images\/a: /);
  });

  it.each([
    [3, "internal, of the byte order of its host"],
    [5, "clustered"],
    [7, "unknown"],
  ])("is unsupported and named at version %i", (version, kind) => {
    expect(refusal(withVersion(version))).toBe(
      `superblock-unsupported: /images/a: bitmap version ${version} (${kind}) is not supported, only 4 and 6`,
    );
  });

  it.each<[string, Partial<BitmapSuperblock>]>([
    ["a region of no size", { regionSectors: 0 }],
    ["a region that is no power of two", { regionSectors: 384 }],
    ["more regions than bytes reserved", { syncSizeSectors: 131_073 * 128 }],
    [
      "more regions than the kernel's default reserve",
      { sectorsReserved: 0, syncSizeSectors: 3073 * 128 },
    ],
    ["no daemon sleep", { daemonSleepSeconds: 0 }],
  ])("is corrupt: %s", (_, change) => {
    expect(refusalOf(change)).toMatch(/^bitmap-corrupt: /);
    expect(refusalOf({ ...change, state: BITMAP_FIRST_USE })).toBe("accepted");
  });

  it.each<[string, Partial<BitmapSuperblock>]>([
    ["the largest region its field holds", { regionSectors: 2 ** 31 }],
    [
      "as many regions as the kernel allows, which forgets the header",
      { syncSizeSectors: 131_072 * 128 },
    ],
    ["as many as the default reserve holds", { sectorsReserved: 0, syncSizeSectors: 3072 * 128 }],
  ])("is accepted: %s", (_, change) => {
    expect(refusalOf(change)).toBe("accepted");
  });

  it.each<[string, Partial<BitmapSuperblock>]>([
    ["a region of no size", { regionSectors: 0 }],
    ["a region that is no power of two", { regionSectors: 384 }],
    ["a region of less than a sector", { regionSectors: 0.5 }],
    ["a bit more than fits behind the header", { syncSizeSectors: 1_046_529 * 131_072 }],
    ["a bit more than fits in a sector", { sectorsReserved: 1, syncSizeSectors: 2049 * 131_072 }],
    ["no daemon sleep", { daemonSleepSeconds: 0 }],
    ["more writes behind than md can count", { writeBehind: 16_384 }],
  ])("is corrupt, as an internal one: %s", (_, change) => {
    expect(refusalOf(change, INTERNAL)).toMatch(/^bitmap-corrupt: /);
    expect(refusalOf({ ...change, state: BITMAP_FIRST_USE }, INTERNAL)).toMatch(
      /^bitmap-corrupt: /,
    );
  });

  it.each<[string, Partial<BitmapSuperblock>]>([
    ["the largest region its field holds", { regionSectors: 2 ** 22 }],
    ["as many bits as fit behind the header", { syncSizeSectors: 1_046_528 * 131_072 }],
    ["as many as fit in a sector", { sectorsReserved: 1, syncSizeSectors: 2048 * 131_072 }],
    ["any number where the space is unknown", { sectorsReserved: 0, syncSizeSectors: 2 ** 40 }],
    ["as many writes behind as md counts", { writeBehind: 16_383 }],
  ])("is accepted, as an internal one: %s", (_, change) => {
    expect(refusalOf(change, INTERNAL)).toBe("accepted");
  });

  it("is corrupt with events beyond what counts exactly", () => {
    const bytes = encodeBitmapSuperblock(BITMAP);
    bytes.fill(0xff, 24, 32);
    expect(refusal(bytes)).toBe(
      "bitmap-corrupt: /images/a: bitmap superblock: events is out of range",
    );
  });
});
