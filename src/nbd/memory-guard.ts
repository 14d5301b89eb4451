/**
 * Keeps buffer memory from those who only hold it. Each client is bounded by itself; many together
 * are bounded by the pool, and here: while others wait for memory, clients that hold it and make no
 * headway have to go. As long as there is plenty, nobody is hurried.
 */
import type { Limits } from "./limits.ts";
import { SMALL_BYTES, type SlabPool } from "./slab.ts";

/** A connection, as far as it matters here. */
export interface Holder {
  readonly heldBytes: number;
  /** Bytes that came from the client, and that its socket took, so far. */
  readonly movedBytes: number;
  /** It is for the client to go on: to take replies, or to send the rest of a message. */
  readonly owing: boolean;
  /** The device works for it: it is not the client who makes the others wait. */
  readonly served: boolean;
}

/** So often a client is looked at before it is found to be stuck. */
const LOOKS = 4;
/**
 * Headway is to move at least this much meanwhile, and this share of what is held: who takes a byte
 * now and then is stuck as well, and nobody is at the same message for ever.
 */
const HEADWAY_BYTES_MIN = 64 * 2 ** 10;
const HEADWAY_SHARE = 1 / 32;

export class MemoryGuard<H extends Holder> {
  readonly #pool: SlabPool;
  readonly #limits: Limits;
  #seen = new Map<H, { movedBytes: number; looks: number }>();

  constructor(pool: SlabPool, limits: Limits) {
    this.#pool = pool;
    this.#limits = limits;
  }

  /** How long to wait between two looks. */
  get periodMs(): number {
    return this.#limits.stallMs / LOOKS;
  }

  /**
   * Who has to go, of all holders: the largest of those that are stuck, and no more than it takes
   * for others to go on. To be asked once a period.
   */
  look(holders: Iterable<H>): H[] {
    const before = this.#seen;
    this.#seen = new Map();
    let missingBytes = this.#pool.missingBytes;
    if (missingBytes === 0) return [];
    const stuck: H[] = [];
    for (const holder of holders) {
      const { heldBytes, movedBytes, owing, served } = holder;
      if (served || !owing || heldBytes <= 2 * SMALL_BYTES) continue;
      const last = before.get(holder);
      const headway = Math.max(HEADWAY_BYTES_MIN, heldBytes * HEADWAY_SHARE);
      const moves = last === undefined || movedBytes - last.movedBytes >= headway;
      const seen = moves ? { movedBytes, looks: 0 } : { ...last, looks: last.looks + 1 };
      this.#seen.set(holder, seen);
      if (seen.looks >= LOOKS) stuck.push(holder);
    }
    stuck.sort((a, b) => b.heldBytes - a.heldBytes);
    const leaving: H[] = [];
    for (const holder of stuck) {
      if (missingBytes <= 0) break;
      missingBytes -= holder.heldBytes;
      leaving.push(holder);
    }
    return leaving;
  }
}
