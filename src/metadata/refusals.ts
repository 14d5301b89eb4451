/**
 * What makes a superblock unusable although its checksum is right: as md's super_1_load, and a
 * little more, so that what is read and written by it stays inside the member.
 */
import { NbdRaidError, type ErrorCode } from "../errors.ts";
import { FEATURE_BITMAP_OFFSET, FEATURE_RAID0_LAYOUT } from "./features.ts";
import {
  DATA_SIZE_SECTORS_MIN,
  MAX_DEV,
  SLOTS_MAX,
  SUPERBLOCK_OFFSET_SECTORS,
  SUPERBLOCK_SECTORS,
} from "./layout.ts";
import { levelInWords, levelName } from "./levels.ts";

/** A reason to refuse: `finds` says in words what is wrong, or null. */
export interface Refusal<S> {
  readonly code: ErrorCode;
  readonly finds: (subject: S) => string | null;
}

/** Throws the first of `refusals` that finds something. */
export function refuse<S>(path: string, refusals: readonly Refusal<S>[], subject: S): void {
  for (const { code, finds } of refusals) {
    const found = finds(subject);
    if (found !== null) throw new NbdRaidError(code, `${path}: ${found}`);
  }
}

/** What a superblock claims about its array and its member. */
interface Claims {
  readonly featureMap: number;
  readonly level: number;
  readonly raidDisks: number;
  readonly sizeSectors: number;
  readonly bitmapOffsetSectors: number;
  readonly dataOffsetSectors: number;
  readonly dataSizeSectors: number;
  /** The length of the member. */
  readonly memberSectors: number;
}

const SUPERBLOCK_END_SECTORS = SUPERBLOCK_OFFSET_SECTORS + SUPERBLOCK_SECTORS;
/** The bitmap superblock and what is up to the first region's state. */
const BITMAP_HEADER_SECTORS = 2;

const unsupported = (finds: (claims: Claims) => string | null): Refusal<Claims> => ({
  code: "superblock-unsupported",
  finds,
});
const corrupt = (finds: (claims: Claims) => string | null): Refusal<Claims> => ({
  code: "superblock-corrupt",
  finds,
});

export const CLAIM_REFUSALS: readonly Refusal<Claims>[] = [
  unsupported(({ level }) =>
    levelName(level) === null ? `level ${levelInWords(level)} is not supported` : null,
  ),
  corrupt(({ raidDisks }) =>
    raidDisks >= 1 && raidDisks <= MAX_DEV ? null : `superblock has ${raidDisks} slots`,
  ),
  unsupported(({ raidDisks }) =>
    raidDisks <= SLOTS_MAX ? null : `${raidDisks} slots are not supported, ${SLOTS_MAX} at most`,
  ),
  corrupt(({ featureMap, level }) =>
    (featureMap & FEATURE_RAID0_LAYOUT) !== 0 && level !== 0
      ? `superblock has a raid0 layout at level ${level}`
      : null,
  ),
  corrupt(({ dataSizeSectors }) =>
    dataSizeSectors < DATA_SIZE_SECTORS_MIN
      ? `superblock has a data area of ${dataSizeSectors} sectors`
      : null,
  ),
  corrupt(({ dataOffsetSectors }) =>
    dataOffsetSectors < SUPERBLOCK_END_SECTORS
      ? `superblock lies in its own data area, which starts at sector ${dataOffsetSectors}`
      : null,
  ),
  corrupt(({ dataOffsetSectors, dataSizeSectors, memberSectors }) =>
    dataOffsetSectors + dataSizeSectors > memberSectors
      ? `data area ends at sector ${dataOffsetSectors + dataSizeSectors}, ` +
        `the member at sector ${memberSectors}`
      : null,
  ),
  // Levels 0 and linear use all of each member and may say anything here.
  corrupt(({ level, sizeSectors, dataSizeSectors }) =>
    level > 0 && sizeSectors > dataSizeSectors
      ? `superblock uses ${sizeSectors} sectors of a data area of ${dataSizeSectors}`
      : null,
  ),
  // Not md's: 4096 bytes of superblock are written, and must hit neither bitmap nor data.
  corrupt(({ featureMap, bitmapOffsetSectors, dataOffsetSectors }) => {
    if ((featureMap & FEATURE_BITMAP_OFFSET) === 0) return null;
    const start = SUPERBLOCK_OFFSET_SECTORS + bitmapOffsetSectors;
    const clear =
      start >= SUPERBLOCK_END_SECTORS && start + BITMAP_HEADER_SECTORS <= dataOffsetSectors;
    return clear ? null : `bitmap at sector ${start} overlaps superblock or data`;
  }),
];
