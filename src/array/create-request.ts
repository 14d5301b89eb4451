/** What `create` is asked for, and what can be refused before any member is looked at. */
import { type BitmapKind, SLOTS_MAX } from "../metadata/layout.ts";
import { type LevelName, LEVELS } from "../metadata/levels.ts";
import type { Refusal } from "../metadata/refusals.ts";
import { SET_NAME_BYTES } from "../metadata/superblock.ts";
import { defaultLayout, layoutNames, layoutNumber } from "../raid/geometry/layouts.ts";
import { type ArrayForm, formRefusal } from "../raid/geometry/refusals.ts";

/** In place of a path: the slot stays empty. */
export const MISSING = "missing";

export interface CreateRequest {
  /** 1 to 32 bytes of UTF-8 without "/" and control characters; also the export's name. */
  readonly name: string;
  /** As the command line has it: "1", "10", "linear". */
  readonly level: string;
  /** Paths in slot order, {@link MISSING} for an empty slot, the spares last. */
  readonly members: readonly string[];
  /** Usable bytes of each member; absent files are made. Default: what the smallest one has. */
  readonly sizeBytes?: number;
  /** Default: {@link CHUNK_BYTES_DEFAULT}; at level linear none. */
  readonly chunkBytes?: number;
  /** By mdadm's name for it. Default: mdadm's. */
  readonly layout?: string;
  readonly bitmap: BitmapKind | "none";
  /** Bytes one state of the bitmap covers. Default: see regionBytesFor. */
  readonly regionBytes?: number;
  /** The members' data is kept and equal already. */
  readonly assumeClean: boolean;
  /** All of the members' space is allocated. */
  readonly preallocate: boolean;
  /** How many of `members`, the last ones, are spares. */
  readonly spares: number;
  /** Those of `members` that are read from last. */
  readonly writeMostly: readonly string[];
  /** Members are overwritten, whatever they hold. */
  readonly force: boolean;
}

/** mdadm's. */
export const CHUNK_BYTES_DEFAULT = 512 * 1024;

/** What the levels differ in, as far as a request can be wrong about it. */
interface LevelRules {
  /** Optional: members are rounded to chunks if there are any. */
  readonly chunks: "none" | "optional" | "needed";
  /** False: a member that is missing is missed, and nothing is ever synced. */
  readonly redundant: boolean;
  /** Reads choose between copies. md takes the flag at level 10 too, and does not look at it. */
  readonly writeMostly: boolean;
}

const STRIPED: LevelRules = { chunks: "needed", redundant: true, writeMostly: false };

const RULES: Readonly<Record<LevelName, LevelRules>> = {
  linear: { chunks: "optional", redundant: false, writeMostly: false },
  "0": { chunks: "needed", redundant: false, writeMostly: false },
  "1": { chunks: "none", redundant: true, writeMostly: true },
  "4": STRIPED,
  "5": STRIPED,
  "6": STRIPED,
  "10": { ...STRIPED, writeMostly: true },
};

/** Chunks of levels that need no power of two are whole pages, as in mdadm. */
const CHUNK_UNIT_BYTES = 4096;

const NAME_FORBIDDEN = /[/\p{Control}\p{Surrogate}]/u;

const usage = (finds: (request: CreateRequest) => string | null): Refusal<CreateRequest> => ({
  code: "usage",
  finds,
});
/** The levels for which `has` is false refuse what `asks` for, with these words. */
const without = (
  has: (rules: LevelRules) => boolean,
  asks: (request: CreateRequest) => boolean,
  words: string,
): Refusal<CreateRequest> =>
  usage((request) =>
    !has(rulesOf(request)) && asks(request) ? `level ${request.level} ${words}` : null,
  );

/** In this order: what follows the level relies on it. */
export const REQUEST_REFUSALS: readonly Refusal<CreateRequest>[] = [
  usage(({ name }) => {
    const bytes = Buffer.byteLength(name);
    return bytes >= 1 && bytes <= SET_NAME_BYTES
      ? null
      : `the name ${JSON.stringify(name)} has ${bytes} bytes, 1 to ${SET_NAME_BYTES} are allowed`;
  }),
  usage(({ name }) =>
    NAME_FORBIDDEN.test(name)
      ? `the name ${JSON.stringify(name)} has a "/" or a control character in it`
      : null,
  ),
  usage(({ level }) => (Object.hasOwn(LEVELS, level) ? null : `level ${level} is unknown`)),
  without(
    ({ redundant }) => redundant,
    ({ bitmap }) => bitmap !== "none",
    "has no bitmap: there is nothing to sync",
  ),
  without(
    ({ chunks }) => chunks !== "none",
    ({ chunkBytes }) => chunkBytes !== undefined,
    "has no chunks",
  ),
  usage(({ level, chunkBytes = CHUNK_BYTES_DEFAULT }) =>
    chunkBytes > 0 && chunkBytes % CHUNK_UNIT_BYTES === 0
      ? null
      : `a chunk of ${chunkBytes} bytes: level ${level} needs a multiple of ${CHUNK_UNIT_BYTES}`,
  ),
  usage(layoutRefusal),
  usage(({ bitmap, regionBytes }) =>
    bitmap === "none" && regionBytes !== undefined ? "a region size asks for a bitmap" : null,
  ),
  without(
    ({ redundant }) => redundant,
    ({ spares }) => spares > 0,
    "has no spares: there is nothing to rebuild one from",
  ),
  without(
    ({ writeMostly }) => writeMostly,
    ({ writeMostly }) => writeMostly.length > 0,
    "reads every member: write-mostly is for levels 1 and 10",
  ),
  usage(({ members, spares }) => {
    const slots = members.length - spares;
    return slots >= 1 && slots <= SLOTS_MAX
      ? null
      : `${members.length} members with ${spares} spares among them: an array has 1 to ${SLOTS_MAX} slots`;
  }),
  usage((request) => formRefusal(formOf(request))),
  usage((request) =>
    membersOf(request).every((member) => member === MISSING)
      ? "all members are missing: one at least must be there"
      : null,
  ),
  without(
    ({ redundant }) => redundant,
    ({ members }) => members.includes(MISSING),
    "needs all of its members: none can be missing",
  ),
  usage(({ members, spares }) =>
    members.slice(members.length - spares).includes(MISSING)
      ? "a spare cannot be missing: leave it out"
      : null,
  ),
];

/** The level of a request that was not refused. */
export function levelOf({ level }: CreateRequest): LevelName {
  return level as LevelName;
}

/** What is known of the array's shape before its members are looked at; defaults filled in. */
export function formOf(request: CreateRequest): ArrayForm {
  const level = LEVELS[levelOf(request)];
  return {
    level,
    layout:
      request.layout === undefined
        ? defaultLayout(level)
        : (layoutNumber(level, request.layout) ?? 0),
    chunkBytes: request.chunkBytes ?? chunkBytesDefault(rulesOf(request)),
    raidDisks: membersOf(request).length,
  };
}

function chunkBytesDefault({ chunks }: LevelRules): number {
  return chunks === "needed" ? CHUNK_BYTES_DEFAULT : 0;
}

function rulesOf(request: CreateRequest): LevelRules {
  return RULES[levelOf(request)];
}

function layoutRefusal({ level, layout }: CreateRequest): string | null {
  const number = LEVELS[level as LevelName];
  if (layout === undefined || layoutNumber(number, layout) !== null) return null;
  const names = layoutNames(number);
  if (names === null) return `level ${level} has no layouts`;
  return `level ${level} has no layout ${JSON.stringify(layout)}: there are ${names}`;
}

/** The members that get a slot, in slot order. */
export function membersOf({ members, spares }: CreateRequest): readonly string[] {
  return members.slice(0, members.length - spares);
}
