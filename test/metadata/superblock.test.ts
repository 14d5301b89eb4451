import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeSuperblock,
  emptySuperblock,
  encodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
  roleOf,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { holds } from "./properties.ts";
import { MEMBER_SECTORS, RAID5, RAID5_MEMBER_SECTORS, superblock } from "./samples.ts";
import { reseal } from "./seal.ts";

const PATH = "/images/a";
const decode = (bytes: Uint8Array) => decodeSuperblock(bytes, PATH, MEMBER_SECTORS);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("superblock: known bytes", () => {
  it("has the checksum that mdadm calls correct for the published sample", () => {
    expect(Buffer.from(encodeSuperblock(RAID5)).readUInt32LE(216)).toBe(0x02711771);
  });

  it("starts with magic and major version, and says it lies at sector 8", () => {
    const bytes = encodeSuperblock(RAID5);
    expect(bytes.length).toBe(4096);
    expect(hex(bytes.subarray(0, 8))).toBe("fc4e2ba901000000");
    expect(hex(bytes.subarray(144, 152))).toBe("0800000000000000");
  });

  it("is zero behind its roles", () => {
    const { length } = RAID5.roles;
    expect(encodeSuperblock(RAID5).subarray(256 + 2 * length)).toEqual(
      new Uint8Array(4096 - 256 - 2 * length),
    );
  });
});

// Each field is set alone in a superblock of zeroes; only its own bytes may then differ.
const POSITIONS: readonly [at: number, bytes: string, change: Partial<Superblock>][] = [
  [8, "83000000", { featureMap: 0x83 }],
  [16, "000102030405060708090a0b0c0d0e0f", { setUuid: "00010203:04050607:08090a0b:0c0d0e0f" }],
  [32, "686f73743ac3a400", { setName: "host:ä" }],
  [64, "0403020100060000", { ctime: { seconds: 0x01020304, microseconds: 6 } }],
  [64, "ffffffffffffffff", { ctime: { seconds: 2 ** 40 - 1, microseconds: 2 ** 24 - 1 } }],
  [72, "ffffffff", { level: -1 }],
  [76, "04030201", { layout: 0x01020304 }],
  [80, "0504030201000000", { sizeSectors: 0x0102030405 }],
  [88, "00040000", { chunksizeSectors: 1024 }],
  [92, "03000000", { raidDisks: 3 }],
  [96, "f8ffffff", { bitmapOffsetSectors: -8 }],
  [100, "fcffffff", { newLevel: -4 }],
  [104, "0504030201000000", { reshapePositionSectors: 0x0102030405 }],
  [104, "ffffffffffffffff", { reshapePositionSectors: "none" }],
  [112, "ffffffff", { deltaDisks: -1 }],
  [116, "04030201", { newLayout: 0x01020304 }],
  [120, "80000000", { newChunkSectors: 128 }],
  [124, "00ffffff", { newOffsetSectors: -256 }],
  [128, "0008000000000000", { dataOffsetSectors: 2048 }],
  [136, "0504030201000000", { dataSizeSectors: 0x0102030405 }],
  [152, "0504030201000000", { recoveryOffsetSectors: 0x0102030405 }],
  [152, "ffffffffffffffff", { recoveryOffsetSectors: "done" }],
  [160, "04030201", { devNumber: 0x01020304 }],
  [164, "04030201", { cntCorrectedRead: 0x01020304 }],
  [168, "000102030405060708090a0b0c0d0e0f", { deviceUuid: "00010203:04050607:08090a0b:0c0d0e0f" }],
  [184, "03", { devflags: 3 }],
  [185, "09", { bblogShift: 9 }],
  [186, "0201", { bblogSizeSectors: 0x0102 }],
  [188, "f0ffffff", { bblogOffsetSectors: -16 }],
  [192, "0403020100400000", { utime: { seconds: 0x01020304, microseconds: 0x40 } }],
  [200, "0102030405060700", { events: Number(0x0007060504030201n) }],
  [208, "0504030201000000", { resyncOffsetSectors: 0x0102030405 }],
  [208, "ffffffffffffffff", { resyncOffsetSectors: "clean" }],
  [224, "00100000", { logicalBlockSizeBytes: 4096 }],
  [256, "0000feffffff0500", { roles: [0, ROLE_FAULTY, ROLE_SPARE, 5] }],
];

describe("superblock: byte positions", () => {
  const empty = { ...emptySuperblock(4), roles: [0, 0, 0, 0] };

  it.each(POSITIONS)("byte %i holds %s for %o", (at, bytes, change) => {
    const encoded = Buffer.from(encodeSuperblock({ ...empty, ...change }));
    const expected = Buffer.from(encodeSuperblock(empty));
    expected.write(bytes, at, "hex");
    encoded.copy(expected, 216, 216, 220);
    expect(hex(encoded)).toBe(hex(expected));
  });

  it("has a row for every field", () => {
    const inTable = new Set(POSITIONS.flatMap(([, , change]) => Object.keys(change)));
    expect([...inTable].sort()).toEqual(Object.keys(RAID5).sort());
  });

  it("counts its roles at byte 220", () => {
    expect(Buffer.from(encodeSuperblock(emptySuperblock(384))).readUInt32LE(220)).toBe(384);
  });
});

describe("superblock: round trips", () => {
  it("decodes what it has encoded", () => {
    holds(
      fc.property(superblock, (value) => {
        expect(decode(encodeSuperblock(value))).toEqual(value);
      }),
    );
  });

  // The bytes are random where md leaves a choice, so names are mostly not UTF-8.
  it("encodes what it has decoded to the same bytes", () => {
    holds(
      fc.property(superblock, fc.nat(), (value, seed) => {
        const noise = noiseOf(seed);
        const bytes = encodeSuperblock(value);
        for (const [start, end] of [
          [16, 64],
          [112, 124],
          [160, 192],
          [256, 256 + 2 * value.roles.length],
        ] as const)
          bytes.set(noise.subarray(start, end), start);
        reseal(bytes);
        expect(hex(encodeSuperblock(decode(bytes)))).toBe(hex(bytes));
      }),
    );
  });

  it("keeps a name that was cut in the middle of a character", () => {
    const bytes = encodeSuperblock(RAID5);
    const cut = Buffer.from("x".repeat(31) + "ä").subarray(0, 32);
    bytes.set(cut, 32);
    reseal(bytes);
    const decoded = decodeSuperblock(bytes, PATH, RAID5_MEMBER_SECTORS);
    expect(decoded.setName.slice(0, 31)).toBe("x".repeat(31));
    expect(hex(encodeSuperblock(decoded).subarray(32, 64))).toBe(hex(cut));
  });

  it("decodes the same from a slice of a larger buffer", () => {
    const buffer = new Uint8Array(8192);
    buffer.set(encodeSuperblock(RAID5), 4096);
    expect(decodeSuperblock(buffer.subarray(4096), PATH, RAID5_MEMBER_SECTORS)).toEqual(RAID5);
  });
});

describe("superblock: what may not be encoded", () => {
  it.each<[string, Partial<Superblock>]>([
    ["a fraction of a sector", { sizeSectors: 0.5 }],
    ["an unsafe number", { events: 2 ** 53 }],
    ["a negative size", { dataSizeSectors: -1 }],
    ["a name of 33 bytes", { setName: "ä".repeat(16) + "x" }],
    ["a malformed uuid", { setUuid: "10111213-1415-1617-1819-1a1b1c1d1e1f" }],
    ["a role of 17 bits", { roles: [0x10000] }],
    ["more roles than fit", { roles: new Array<number>(1921).fill(ROLE_SPARE) }],
    ["a time with too many microseconds", { utime: { seconds: 0, microseconds: 2 ** 24 } }],
  ])("%s is a broken invariant", (_, change) => {
    expect(() => encodeSuperblock({ ...RAID5, ...change })).toThrow(/^invariant broken/);
  });
});

describe("roleOf", () => {
  const array = { ...RAID5, roles: [2, ROLE_FAULTY, ROLE_SPARE, 3] };

  it.each([
    ["a slot", 0, 2],
    ["faulty", 1, ROLE_FAULTY],
    ["spare", 2, ROLE_SPARE],
    ["spare for a slot the array does not have", 3, ROLE_SPARE],
    ["spare for a number without a role", 4, ROLE_SPARE],
  ])("is %s", (_, devNumber, role) => {
    expect(roleOf(array, devNumber)).toBe(role);
  });
});

/** 4096 bytes that a seed determines: they shrink as one number. */
function noiseOf(seed: number): Uint8Array {
  const blocks = Array.from({ length: 128 }, (_, index) =>
    createHash("sha256").update(`${seed} ${index}`).digest(),
  );
  return Buffer.concat(blocks);
}
