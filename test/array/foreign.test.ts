// Images that hold what is not an array's member, each told from its own bytes; none is changed.
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, describe, expect, test } from "vitest";
import { examineMember } from "../../src/array/examine.ts";
import { openArrays } from "../../src/array/open.ts";
import { encodeSuperblock } from "../../src/metadata/superblock.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { RAID5 } from "../metadata/samples.ts";
import { reseal } from "../metadata/seal.ts";

const folder = temporaryFolder();
afterAll(folder.dispose);
const KIB = 1024;
const SIZE = 1024 * KIB + 512;
const OPTIONS = { readOnly: false, run: false, force: false, logger: pino({ level: "silent" }) };

/** What lies where. */
type Piece = readonly [offset: number, bytes: Uint8Array];

function image(pieces: readonly Piece[], size = SIZE): string {
  const bytes = Buffer.alloc(size);
  for (const [offset, piece] of pieces) bytes.set(piece, offset);
  const path = join(folder.path, "member.img");
  writeFileSync(path, bytes);
  return path;
}

const text = (offset: number, bytes: string): Piece => [offset, Buffer.from(bytes, "latin1")];
const hex = (offset: number, bytes: string): Piece => [offset, Buffer.from(bytes, "hex")];

/** A superblock of version 1 that says it belongs at `sector`. */
function version1(sector: number): Piece {
  const bytes = Buffer.from(encodeSuperblock(RAID5));
  bytes.writeBigUInt64LE(BigInt(sector), 144);
  reseal(bytes);
  return [sector * 512, bytes];
}

const MAGIC = "fc4e2ba9";
/** The last 64 KiB of whole ones. */
const AT_090 = 960 * KIB;
const sectors = SIZE / 512;

const EXT_MAGIC = hex(1024 + 56, "53ef");
const BOOT_MARK = hex(510, "55aa");
const NO_SUPERBLOCK = ", no md superblock at byte 4096";
const ONLY = "; only md metadata 1.2 is supported";

const SIGNS: readonly [name: string, pieces: readonly Piece[]][] = [
  ["has md metadata 1.1 at byte 0" + ONLY, [version1(0)]],
  ["has md metadata 1.0 at byte 1040384" + ONLY, [version1(sectors - 17)]],
  ["has md metadata 0.90 at byte 983040" + ONLY, [hex(AT_090, `${MAGIC}000000005a000000`)]],
  ["has md metadata 0.90 at byte 983040" + ONLY, [hex(AT_090, "a92b4efc000000000000005a")]],
  ["has DDF metadata" + ONLY, [hex(SIZE - 512, "de11de11")]],
  ["has Intel RAID metadata (IMSM)" + ONLY, [text(SIZE - 1024, "Intel Raid ISM Cfg Sig. 1.3.00")]],
  ["holds a LUKS volume" + NO_SUPERBLOCK, [text(0, "LUKS\xba\xbe\0\x02")]],
  ["holds an LVM physical volume" + NO_SUPERBLOCK, [text(512, "LABELONE")]],
  ["holds a bcache device" + NO_SUPERBLOCK, [hex(4120, "c68573f64e1a45ca")]],
  ["holds an ext2 file system" + NO_SUPERBLOCK, [EXT_MAGIC]],
  ["holds an ext3 file system" + NO_SUPERBLOCK, [EXT_MAGIC, hex(1024 + 92, "3c000000")]],
  ["holds an ext4 file system" + NO_SUPERBLOCK, [EXT_MAGIC, hex(1024 + 96, "c2020000")]],
  ["holds an XFS file system" + NO_SUPERBLOCK, [text(0, "XFSB")]],
  ["holds a btrfs file system" + NO_SUPERBLOCK, [text(65600, "_BHRfS_M")]],
  ["holds an F2FS file system" + NO_SUPERBLOCK, [hex(1024, "1020f5f2")]],
  ["holds an NTFS file system" + NO_SUPERBLOCK, [text(3, "NTFS    "), BOOT_MARK]],
  ["holds an exFAT file system" + NO_SUPERBLOCK, [text(3, "EXFAT   "), BOOT_MARK]],
  ["holds a FAT file system" + NO_SUPERBLOCK, [text(82, "FAT32   "), BOOT_MARK]],
  ["holds a FAT file system" + NO_SUPERBLOCK, [text(54, "FAT16   "), BOOT_MARK]],
  ["holds an ISO 9660 file system" + NO_SUPERBLOCK, [text(32769, "CD001")]],
  ["holds a squashfs file system" + NO_SUPERBLOCK, [text(0, "hsqs")]],
  ["holds a swap area" + NO_SUPERBLOCK, [text(4086, "SWAPSPACE2")]],
  ["holds an image in qcow2 format, not a raw one" + NO_SUPERBLOCK, [text(0, "QFI\xfb")]],
  ["holds an image in VMDK format, not a raw one" + NO_SUPERBLOCK, [text(0, "KDMV")]],
  ["holds an image in VHDX format, not a raw one" + NO_SUPERBLOCK, [text(0, "vhdxfile")]],
  ["holds an image in VDI format, not a raw one" + NO_SUPERBLOCK, [hex(64, "7f10dabe")]],
  ["holds a partition table (GPT)" + NO_SUPERBLOCK, [text(512, "EFI PART"), BOOT_MARK]],
  ["holds a partition table (MBR)" + NO_SUPERBLOCK, [hex(446 + 4, "83"), BOOT_MARK]],
  // RAID metadata come before what the array holds.
  ["has md metadata 1.0 at byte 1040384" + ONLY, [EXT_MAGIC, version1(sectors - 17)]],
  // Neither says what it is.
  ["no md superblock at byte 4096", [BOOT_MARK]],
  ["no md superblock at byte 4096", [hex(446, "77"), hex(450, "83"), BOOT_MARK]],
  ["no md superblock at byte 4096", [version1(100)]],
];

describe("an image that is no member", () => {
  test.each(SIGNS)("%s", async (words, pieces) => {
    const path = image(pieces);
    const before = readFileSync(path);
    const code = words.startsWith("has ") ? "superblock-unsupported" : "member-foreign";
    expect((await examineMember(path)).error).toMatch(new RegExp(`^${path}:? `));
    expect((await examineMember(path)).error?.slice(path.length + 2)).toBe(words);
    await expect(openArrays([path], OPTIONS)).rejects.toMatchObject({ code });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test("a member is one, whatever an older use has left around its superblock", async () => {
    const bytes = Buffer.from(encodeSuperblock(RAID5));
    const path = image([
      [4096, bytes],
      text(0, "LUKS\xba\xbe"),
      hex(AT_090, `${MAGIC}000000005a000000`),
    ]);
    truncateSync(path, 512 * (RAID5.dataOffsetSectors + RAID5.dataSizeSectors));
    expect((await examineMember(path)).superblock).toMatchObject({ set_name: "host:arr" });
  });

  test("one that is too short for most signs", async () => {
    const path = image([], 8192);
    expect((await examineMember(path)).error).toBe(`${path}: no md superblock at byte 4096`);
  });
});
