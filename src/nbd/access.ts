/**
 * Who may connect, and who has to give way when there are too many. Pure: the server asks before
 * it says a word, so that those who are turned away learn nothing.
 */
import { BlockList, isIP } from "node:net";
import { NbdRaidError } from "../errors.ts";
import type { Limits } from "./limits.ts";

/** Addresses that may connect; Unix sockets are not asked, for they have a mode and an owner. */
export class AllowList {
  readonly #rules = new BlockList();

  /** From addresses and networks, `10.0.0.7` or `10.0.0.0/8` or `fd00::/8`. Throws "usage". */
  constructor(entries: readonly string[]) {
    for (const entry of entries) this.#add(entry);
  }

  /** Compared as numbers; an IPv4 address is the same as its IPv6-mapped form. */
  allows(address: string): boolean {
    const [plain = ""] = address.split("%"); // a link-local one may name its interface
    const family = isIP(plain);
    return family !== 0 && this.#rules.check(plain, family === 4 ? "ipv4" : "ipv6");
  }

  #add(entry: string): void {
    const [, address = "", bits] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? [];
    const family = isIP(address);
    const bitsMax = family === 4 ? 32 : 128;
    if (family === 0 || Number(bits ?? 0) > bitsMax)
      throw new NbdRaidError("usage", `not an address or a network (10.0.0.0/8): ${entry}`);
    const type = family === 4 ? "ipv4" : "ipv6";
    this.#rules.addSubnet(address, Number(bits ?? bitsMax), type);
  }
}

/** A connection, as far as it matters here. */
export interface Guest {
  /** Null: a Unix socket. */
  readonly address: string | null;
  /** No export is chosen yet. */
  readonly negotiating: boolean;
}

/** `displaced` has to go first; it has not chosen an export. */
export type Admission<G> =
  | { readonly admitted: true; readonly displaced: G | null }
  | { readonly admitted: false; readonly reason: keyof Limits };

/**
 * Whether one more client, from `address`, may come to those `present` (oldest first). One that
 * only connects and never chooses an export keeps nobody out: it gives way to who comes later. A
 * flood from one address displaces its own, and leaves others the time for their handshakes.
 */
export function admit<G extends Guest>(
  address: string | null,
  present: Iterable<G>,
  limits: Limits,
): Admission<G> {
  const all = [...present];
  const near = address === null ? [] : all.filter((guest) => guest.address === address);
  const negotiating = all.filter((guest) => guest.negotiating);
  const bounds = [
    { reason: "connectionsPerAddress", count: near.length, crowd: near },
    { reason: "negotiating", count: negotiating.length, crowd: negotiating },
    { reason: "connections", count: all.length, crowd: all },
  ] as const;
  const met = bounds.find(({ reason, count }) => count >= limits[reason]);
  if (met === undefined) return { admitted: true, displaced: null };
  const displaced = displacedBy(address, met.crowd);
  if (displaced === null) return { admitted: false, reason: met.reason };
  return { admitted: true, displaced };
}

/**
 * The oldest of the address that has the most clients negotiating, the newcomer at `address`
 * included; of the address that came first where several have as many. Those of Unix sockets count
 * as one address. Null: all have chosen an export.
 */
function displacedBy<G extends Guest>(address: string | null, crowd: readonly G[]): G | null {
  const groups = new Map<string | null, { readonly oldest: G; count: number }>();
  for (const guest of crowd) {
    if (!guest.negotiating) continue;
    const group = groups.get(guest.address);
    if (group !== undefined) group.count++;
    else groups.set(guest.address, { oldest: guest, count: guest.address === address ? 2 : 1 });
  }
  let most: { readonly oldest: G; readonly count: number } | null = null;
  for (const group of groups.values()) if (group.count > (most?.count ?? 0)) most = group;
  return most?.oldest ?? null;
}
