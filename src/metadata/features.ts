/** md's feature_map: what a superblock's reader must understand (md_p.h, MD_FEATURE_*). */

export const FEATURE_BITMAP_OFFSET = 0x1;
export const FEATURE_RECOVERY_OFFSET = 0x2;
export const FEATURE_RECOVERY_BITMAP = 0x80;
export const FEATURE_RAID0_LAYOUT = 0x1000;

const SUPPORTED =
  FEATURE_BITMAP_OFFSET | FEATURE_RECOVERY_OFFSET | FEATURE_RECOVERY_BITMAP | FEATURE_RAID0_LAYOUT;

const NO_PPL = "(mdadm --grow --consistency-policy=resync ends it)";
/**
 * Features md has and this program lacks: a member with one of them is refused, by name, and with
 * what mdadm can do about it.
 */
const UNSUPPORTED: readonly (readonly [bit: number, name: string])[] = [
  [0x4, "a reshape in progress (let mdadm finish it)"],
  [0x8, "a list of bad blocks (have mdadm rebuild that member)"],
  [0x10, "a replacement in progress (let mdadm finish it)"],
  [0x20, "a backwards reshape"],
  [0x40, "a reshape that moves the data offset"],
  [0x100, "a clustered array (mdadm --grow --bitmap=none ends that)"],
  [0x200, "a journal device"],
  [0x400, `a partial parity log, PPL ${NO_PPL}`],
  [0x800, `a partial parity log, PPL ${NO_PPL}`],
];

/** What in `featureMap` this program does not support, in words; empty if it may be used. */
export function unsupportedFeatures(featureMap: number): string[] {
  const known = UNSUPPORTED.filter(([bit]) => (featureMap & bit) !== 0);
  const unknown = known.reduce((map, [bit]) => map & ~bit, featureMap & ~SUPPORTED) >>> 0;
  const names = known.map(([, name]) => name);
  return unknown === 0 ? names : [...names, `unknown features 0x${unknown.toString(16)}`];
}
