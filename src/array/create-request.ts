/** What `create` is asked for, and what can be refused before any member is looked at. */
import type { Refusal } from "../metadata/refusals.ts";
import { SET_NAME_BYTES } from "../metadata/superblock.ts";

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
  readonly chunkBytes?: number;
  readonly layout?: string;
  readonly bitmap: "lockless" | "internal" | "none";
  /** Bytes one bitmap byte covers. Default: the smallest that fits. */
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

export const SLOTS_MAX = 16;

const NAME_FORBIDDEN = /[/\p{Control}\p{Surrogate}]/u;

const usage = (finds: (request: CreateRequest) => string | null): Refusal<CreateRequest> => ({
  code: "usage",
  finds,
});
const notSupported = (
  finds: (request: CreateRequest) => string | null,
): Refusal<CreateRequest> => ({ code: "not-supported", finds });

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
  notSupported(({ level }) =>
    level === "1" ? null : `level ${level} is not supported yet, only level 1`,
  ),
  notSupported(({ bitmap }) =>
    bitmap === "internal" ? "an internal bitmap is not supported yet, only a lockless one" : null,
  ),
  usage(({ chunkBytes }) => (chunkBytes === undefined ? null : "level 1 has no chunks")),
  usage(({ layout }) => (layout === undefined ? null : "level 1 has no layouts")),
  usage(({ bitmap, regionBytes }) =>
    bitmap === "none" && regionBytes !== undefined ? "a region size asks for a bitmap" : null,
  ),
  usage(({ members, spares }) => {
    const slots = members.length - spares;
    return slots >= 1 && slots <= SLOTS_MAX
      ? null
      : `${members.length} members with ${spares} spares among them: level 1 has 1 to ${SLOTS_MAX} slots`;
  }),
  usage((request) =>
    membersOf(request).every((member) => member === MISSING)
      ? "all members are missing: one at least must be there"
      : null,
  ),
  usage(({ members, spares }) =>
    members.slice(members.length - spares).includes(MISSING)
      ? "a spare cannot be missing: leave it out"
      : null,
  ),
];

/** The members that get a slot, in slot order. */
export function membersOf({ members, spares }: CreateRequest): readonly string[] {
  return members.slice(0, members.length - spares);
}
