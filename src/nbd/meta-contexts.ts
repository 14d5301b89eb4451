/**
 * Metadata contexts: what they are called, which of them a query means, and what they say of a
 * range (NBD protocol, "Metadata querying"). A new one is a new line in the table.
 */
import type { BlockDevice } from "./block-device.ts";
import { AllocationFlag } from "./constants.ts";

/** Part of an export and its flags in some context. */
export interface Status {
  readonly length: number;
  readonly flags: number;
}

export interface MetaContext {
  readonly name: string;
  /** Unique; the same in every session, though clients must not know that. */
  readonly id: number;
  offeredBy(device: BlockDevice): boolean;
  /** Consecutive parts from `offset` on, at most `max`, which may end before `length` bytes. */
  statusOf(device: BlockDevice, offset: number, length: number, max: number): Promise<Status[]>;
}

const ALLOCATION: MetaContext = {
  name: "base:allocation",
  id: 1,
  offeredBy: () => true,
  async statusOf(device, offset, length, max) {
    const extents = await device.extents(offset, length, max);
    return extents.map(({ length, hole, zero }) => ({
      length,
      flags: (hole ? AllocationFlag.HOLE : 0) | (zero ? AllocationFlag.ZERO : 0),
    }));
  },
};

/** What the bitmap says: the state of the region that holds each byte, as its number. */
const REGIONS: MetaContext = {
  name: "x-nbd-raid:regions",
  id: 2,
  offeredBy: (device) => device.hasRegions,
  statusOf: (device, offset, length, max) =>
    Promise.resolve(
      device
        .regionStates(offset, length, max)
        .map(({ length, state }) => ({ length, flags: state })),
    ),
};

export const META_CONTEXTS: readonly MetaContext[] = [ALLOCATION, REGIONS];

/** True for a name as queries must have it: a namespace, a colon, and perhaps more. */
export function isQuery(text: string): boolean {
  return /^[^\s:]+:/u.test(text);
}

/** The contexts to list: those that a query names or, by an empty leaf name, stands for. */
export function listed(device: BlockDevice, queries: readonly string[]): MetaContext[] {
  const wanted = (name: string): boolean =>
    queries.length === 0 ||
    queries.some((query) => query === name || (query.endsWith(":") && name.startsWith(query)));
  return META_CONTEXTS.filter((context) => context.offeredBy(device) && wanted(context.name));
}

/** The contexts that are selected: by their names only. Unknown ones are ignored. */
export function selected(device: BlockDevice, queries: readonly string[]): MetaContext[] {
  return META_CONTEXTS.filter(
    (context) => context.offeredBy(device) && queries.includes(context.name),
  );
}
