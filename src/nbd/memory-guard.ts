/**
 * Keeps buffer memory from those who only hold it. Each client is bounded by itself; many together
 * are bounded here: while more than the server's share is held, clients that make no headway have
 * to go. As long as there is plenty, nobody is hurried.
 */
import type { Limits } from "./limits.ts";
import type { SlabPool } from "./slab.ts";

/** A connection, as far as it matters here. */
export interface Holder {
  readonly heldBytes: number;
  /** Counts the writes of replies: who sends half a request, or reads no reply, gets no more. */
  readonly headway: number;
  /** The device works for it: it is not the client who makes the others wait. */
  readonly served: boolean;
}

/** What an idle client holds, at most: the buffer that its next request lands in. */
const IDLE_BYTES_MAX = 2 * 2 ** 20;
/** So often a client is looked at before it is found to be stuck. */
const LOOKS = 4;

export class MemoryGuard<H extends Holder> {
  readonly #pool: SlabPool;
  readonly #limits: Limits;
  #seen = new Map<H, { headway: number; looks: number }>();

  constructor(pool: SlabPool, limits: Limits) {
    this.#pool = pool;
    this.#limits = limits;
  }

  /** How long to wait between two looks. */
  get periodMs(): number {
    return this.#limits.stallMs / LOOKS;
  }

  /** Who has to go, of all holders. To be asked once a period. */
  look(holders: Iterable<H>): H[] {
    const before = this.#seen;
    this.#seen = new Map();
    if (!this.#pool.scarce) return [];
    const stuck: H[] = [];
    for (const holder of holders) {
      const { headway, heldBytes, served } = holder;
      if (served || heldBytes <= IDLE_BYTES_MAX) continue;
      const last = before.get(holder);
      const looks = last?.headway === headway ? last.looks + 1 : 0;
      this.#seen.set(holder, { headway, looks });
      if (looks >= LOOKS) stuck.push(holder);
    }
    return stuck;
  }
}
