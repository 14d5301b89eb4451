// Each test takes a good superblock, spoils one thing, makes the checksum right again where the
// checksum is not the point, and expects the refusal that md's super_1_load would give.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { holds } from "./properties.ts";
import { MEMBER_SECTORS, RAID5, RAID5_MEMBER_SECTORS, superblock } from "./samples.ts";
import { reseal } from "./seal.ts";

/** "code: message" of the refusal, or "accepted". */
function refusal(bytes: Uint8Array, memberSectors = RAID5_MEMBER_SECTORS): string {
  try {
    decodeSuperblock(bytes, "/images/a", memberSectors);
    return "accepted";
  } catch (error) {
    if (!(error instanceof NbdRaidError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

const refusalOf = (change: Partial<Superblock>) =>
  refusal(encodeSuperblock({ ...RAID5, ...change }));

function patched(at: number, hex: string): Uint8Array {
  const bytes = Buffer.from(encodeSuperblock(RAID5));
  bytes.write(hex, at, "hex");
  reseal(bytes);
  return bytes;
}

describe("no superblock of ours to read", () => {
  it("is foreign: zeroes", () => {
    expect(refusal(new Uint8Array(4096))).toBe(
      "member-foreign: /images/a: no md superblock at byte 4096",
    );
  });

  it("is foreign: another magic, whatever else is right", () => {
    expect(refusal(patched(0, "fd"))).toMatch(/^member-foreign: /);
  });

  it("is unsupported: another major version", () => {
    expect(refusal(patched(4, "02000000"))).toMatch(/^superblock-unsupported: .* version 2 /);
  });

  it.each([
    ["1.1", 0, "0000000000000000"],
    ["1.0", 8_388_592, "f0ff7f0000000000"],
  ])("is unsupported: metadata %s, whose place is sector %i", (_, sector, hex) => {
    expect(refusal(patched(144, hex))).toMatch(
      new RegExp(`^superblock-unsupported: .* sector ${sector};`),
    );
  });
});

describe("damage", () => {
  it("is found by the checksum", () => {
    const bytes = encodeSuperblock(RAID5);
    bytes[216]! ^= 1;
    expect(refusal(bytes)).toBe("superblock-corrupt: /images/a: superblock checksum is wrong");
  });

  it("is refused wherever a single bit turns", () => {
    holds(
      fc.property(superblock, fc.nat(), fc.nat(7), (value, position, bit) => {
        const bytes = encodeSuperblock(value);
        bytes[position % (256 + 2 * value.roles.length)]! ^= 1 << bit;
        expect(refusal(bytes, MEMBER_SECTORS)).toMatch(/^(member-foreign|superblock-corrupt): /);
      }),
    );
  });

  it("is refused for every single bit of one superblock", () => {
    const bytes = encodeSuperblock(RAID5);
    const accepted: number[] = [];
    for (let bit = 0; bit < 8 * (256 + 2 * 128); bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      if (refusal(bytes) === "accepted") accepted.push(bit);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(accepted).toEqual([]);
  });

  it("does not read past the roles: noise behind them does not count", () => {
    const bytes = encodeSuperblock(RAID5);
    bytes.fill(0xa5, 256 + 2 * 128);
    expect(refusal(bytes)).toBe("accepted");
  });

  it.each([
    ["1921", "81070000"],
    ["4294967295", "ffffffff"],
  ])("is refused: %s roles, more than fit", (count, hex) => {
    const bytes = Buffer.from(encodeSuperblock(RAID5));
    bytes.write(hex, 220, "hex");
    expect(refusal(bytes)).toMatch(new RegExp(`^superblock-corrupt: .* has ${count} device roles`));
  });
});

describe("features", () => {
  it.each([
    [0x4, "a reshape in progress (let mdadm finish it)"],
    [0x8, "a list of bad blocks (have mdadm rebuild that member)"],
    [0x10, "a replacement in progress (let mdadm finish it)"],
    [0x20, "a backwards reshape"],
    [0x40, "a reshape that moves the data offset"],
    [0x100, "a clustered array (mdadm --grow --bitmap=none ends that)"],
    [0x200, "a journal device"],
    [0x400, "a partial parity log, PPL (mdadm --grow --consistency-policy=resync ends it)"],
    [0x800, "a partial parity log, PPL (mdadm --grow --consistency-policy=resync ends it)"],
    [0x2000, "unknown features 0x2000"],
    [0x80000000, "unknown features 0x80000000"],
    [0x80002201, "a journal device, unknown features 0x80002000"],
  ])("0x%s is refused by name", (featureMap, name) => {
    expect(refusalOf({ featureMap })).toBe(
      `superblock-unsupported: /images/a: not supported: ${name}`,
    );
  });

  it.each([0, 0x1, 0x2, 0x80, 0x83])("0x%s is accepted", (featureMap) => {
    expect(refusalOf({ featureMap })).toBe("accepted");
  });

  it("the raid0 layout bit is accepted at level 0 and at no other", () => {
    expect(refusalOf({ featureMap: 0x1000, level: 0 })).toBe("accepted");
    expect(refusalOf({ featureMap: 0x1000 })).toMatch(/^superblock-corrupt: .* raid0 layout/);
  });

  it.each([
    ["pad0", 12],
    ["the first byte of the padding at the end", 228],
    ["its last byte", 255],
  ])("yet unknown may lie in the padding: refused for %s", (_, at) => {
    expect(refusal(patched(at, "01"))).toMatch(/^superblock-unsupported: .* unknown so far/);
  });
});

describe("claims", () => {
  it.each<[string, Partial<Superblock>]>([
    ["no slots", { raidDisks: 0 }],
    ["more slots than an array can have", { raidDisks: 1921 }],
    ["a data area of 9 sectors", { level: 0, dataSizeSectors: 9 }],
    ["a data area that starts inside the superblock", { dataOffsetSectors: 15 }],
    ["a data area that ends behind the member", { dataOffsetSectors: 4097 }],
    ["more sectors used than the data area has", { sizeSectors: 405_505 }],
    ["a bitmap inside the superblock", { bitmapOffsetSectors: 7 }],
    ["a bitmap in front of the superblock", { bitmapOffsetSectors: -8 }],
    ["a bitmap inside the data area", { bitmapOffsetSectors: 4087 }],
  ])("are refused as corrupt: %s", (_, change) => {
    expect(refusalOf(change)).toMatch(/^superblock-corrupt: \/images\/a: /);
  });

  it.each<[string, Partial<Superblock>]>([
    ["a data area of 10 sectors", { level: 0, dataSizeSectors: 10 }],
    ["a data area right behind the superblock", { featureMap: 0, dataOffsetSectors: 16 }],
    ["a used size that level 0 does not use", { level: 0, sizeSectors: 405_505 }],
    ["a bitmap offset that does not count", { featureMap: 0, bitmapOffsetSectors: 1 }],
    ["a bitmap that ends where the data begins", { bitmapOffsetSectors: 4086 }],
  ])("are accepted: %s", (_, change) => {
    expect(refusalOf(change)).toBe("accepted");
  });

  it("are unsupported: more slots than a sync keeps count of", () => {
    expect(refusalOf({ raidDisks: 384 })).toBe("accepted");
    expect(refusalOf({ raidDisks: 385 })).toMatch(/^superblock-unsupported: .* 385 slots /);
  });

  it.each([
    [-5, "-5 (faulty)"],
    [-4, "-4 (multipath)"],
    [2, "2"],
    [11, "11"],
  ])("are unsupported: level %i", (level, words) => {
    expect(refusalOf({ level })).toBe(
      `superblock-unsupported: /images/a: level ${words} is not supported`,
    );
  });

  it.each([
    ["events", 200, "ffffffffffffffff"],
    ["sizeSectors", 80, "0100000000100000"],
    ["dataOffsetSectors", 128, "0100000000100000"],
    ["resyncOffsetSectors", 208, "feffffffffffffff"],
  ])("are refused as out of range: %s", (name, at, hex) => {
    expect(refusal(patched(at, hex))).toMatch(
      new RegExp(`^superblock-corrupt: .* ${name} is out of range`),
    );
  });

  it("are refused by a member one sector too short", () => {
    const bytes = encodeSuperblock(RAID5);
    expect(refusal(bytes, RAID5_MEMBER_SECTORS - 1)).toBe(
      "superblock-corrupt: /images/a: data area ends at sector 409600, the member at sector 409599",
    );
  });
});
