/**
 * What storage holds that has no superblock of md's version 1.2: metadata of other kinds, file
 * systems, partition tables. Only to name it in a refusal: nothing here is used otherwise.
 *
 * Positions and marks are those of mdadm (super0.c, super1.c, super-ddf.c, super-intel.c) and of
 * libblkid's probes.
 */
import { viewOf } from "./fields.ts";
import { SUPERBLOCK_BYTES, superblockSector } from "./superblock.ts";

/** Something that is told by a few bytes at one place. */
export interface ForeignSign {
  /** Where they lie on a member of so many bytes; negative: nowhere. */
  readonly at: (memberBytes: number) => number;
  readonly length: number;
  /** What those bytes, found at `offset`, are a sign of, in words; null: of nothing. */
  readonly reads: (bytes: Uint8Array, offset: number) => string | null;
}

const SECTOR_BYTES = 512;
const MD_MAGIC = 0xa92b4efc;
const MD_0_90_UNIT_BYTES = 64 * 1024;

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (one) => one.charCodeAt(0));

/** The bytes of `mark` at a fixed offset. */
function mark(name: string, offset: number, bytes: string): ForeignSign {
  const expected = ascii(bytes);
  return {
    at: () => offset,
    length: expected.length,
    reads: (found) => (expected.every((byte, index) => found[index] === byte) ? name : null),
  };
}

function mdVersion1(minor: number, at: (memberBytes: number) => number): ForeignSign {
  return {
    at,
    length: SUPERBLOCK_BYTES,
    reads: (bytes, offset) =>
      superblockSector(bytes) === offset / SECTOR_BYTES ? mdName(`1.${minor}`, offset) : null,
  };
}

const mdName = (version: string, offset: number): string =>
  `md metadata ${version} at byte ${offset}`;

/** Metadata of other RAIDs. They come before what is in an array: that is their members, too. */
export const FOREIGN_RAID: readonly ForeignSign[] = [
  mdVersion1(1, () => 0),
  mdVersion1(0, (bytes) => {
    const sector = Math.floor(bytes / SECTOR_BYTES) - 16;
    return (sector - (sector % 8)) * SECTOR_BYTES;
  }),
  {
    at: (bytes) => bytes - (bytes % MD_0_90_UNIT_BYTES) - MD_0_90_UNIT_BYTES,
    length: 12,
    reads: (bytes, offset) => {
      const view = viewOf(bytes);
      // In the byte order of the machine that made it.
      const order = [true, false].find((little) => view.getUint32(0, little) === MD_MAGIC);
      if (order === undefined || view.getUint32(4, order) !== 0) return null;
      return mdName(`0.${view.getUint32(8, order)}`, offset);
    },
  },
  {
    // The anchor header; what it points to is not looked at.
    at: (bytes) => bytes - (bytes % SECTOR_BYTES) - SECTOR_BYTES,
    length: 4,
    reads: (bytes) => (viewOf(bytes).getUint32(0) === 0xde11de11 ? "DDF metadata" : null),
  },
  {
    ...mark("Intel RAID metadata (IMSM)", 0, "Intel Raid ISM Cfg Sig. "),
    at: (bytes) => bytes - (bytes % SECTOR_BYTES) - 2 * SECTOR_BYTES,
  },
];

/** What storage that is no member is used for. */
export const FOREIGN_DATA: readonly ForeignSign[] = [
  mark("a LUKS volume", 0, "LUKS\xba\xbe"),
  mark("an LVM physical volume", 512, "LABELONE"),
  mark("a bcache device", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
  {
    at: () => 1024,
    length: 256,
    reads: (bytes) => {
      const view = viewOf(bytes);
      if (view.getUint16(56, true) !== 0xef53) return null;
      // Extents, 64 bit or flexible groups make an ext4; a journal alone an ext3.
      if ((view.getUint32(96, true) & 0x2c0) !== 0) return "an ext4 file system";
      return `an ext${(view.getUint32(92, true) & 0x4) === 0 ? 2 : 3} file system`;
    },
  },
  mark("an XFS file system", 0, "XFSB"),
  mark("a btrfs file system", 65536 + 64, "_BHRfS_M"),
  mark("an F2FS file system", 1024, "\x10\x20\xf5\xf2"),
  mark("an NTFS file system", 3, "NTFS    "),
  mark("an exFAT file system", 3, "EXFAT   "),
  mark("a FAT file system", 82, "FAT32   "),
  mark("a FAT file system", 54, "FAT1"),
  mark("an ISO 9660 file system", 32769, "CD001"),
  mark("a squashfs file system", 0, "hsqs"),
  mark("a swap area", 4086, "SWAPSPACE2"),
  mark("an image in qcow2 format, not a raw one", 0, "QFI\xfb"),
  mark("an image in VMDK format, not a raw one", 0, "KDMV"),
  mark("an image in VHDX format, not a raw one", 0, "vhdxfile"),
  mark("an image in VDI format, not a raw one", 64, "\x7f\x10\xda\xbe"),
  // Last: boot sectors of file systems end in the same two bytes.
  mark("a partition table (GPT)", 512, "EFI PART"),
  {
    at: () => 446,
    length: 66,
    reads: (bytes) => {
      if (bytes[64] !== 0x55 || bytes[65] !== 0xaa) return null;
      // Four entries, at least one of them used; each is active or not, nothing else.
      const entries = [0, 16, 32, 48].map((start) => bytes.subarray(start, start + 16));
      const used = entries.some(([, , , , type]) => type !== 0);
      const whole = entries.every(([active]) => active === 0 || active === 0x80);
      return used && whole ? "a partition table (MBR)" : null;
    },
  },
];
