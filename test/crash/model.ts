import { BLOCK_BYTES, type Content, decodeBlock, ZEROES } from "./blocks.ts";

/** A write, trim or zeroing that was sent, or that made what a block holds. */
export interface Change {
  readonly first: number;
  readonly count: number;
  /** Ticks of the model's clock. `began` is also the sequence number that data carries. */
  readonly began: number;
  ended: number;
  readonly zeroes: boolean;
}

/** A read under way: what each of its blocks might have held when it was sent. */
export interface PendingRead {
  readonly first: number;
  readonly began: number;
  readonly before: readonly ReadonlySet<Content>[];
}

const BLANK: Change = { first: 0, count: 0, began: 0, ended: 0, zeroes: true };

/**
 * What each block may hold, by what was sent and answered. A change counts until another has been
 * answered that began after it ended. One that was never answered, or refused, may count or not.
 *
 * A process that is killed leaves the page cache behind: all that was answered must be there
 * afterwards, whether or not a FLUSH followed. (That is more than NBD asks of a server.)
 */
export class Model {
  private clock = 0;
  private readonly blocks = new Map<number, readonly Change[]>();
  private readonly lastZeroed = new Map<number, number>();

  begin(first: number, count: number, zeroes: boolean): Change {
    const change = { first, count, began: ++this.clock, ended: Infinity, zeroes };
    for (let block = first; block < first + count; block++) {
      this.blocks.set(block, [...this.changes(block), change]);
      if (zeroes) this.lastZeroed.set(block, change.began);
    }
    return change;
  }

  end(change: Change, done: boolean): void {
    change.ended = ++this.clock;
    if (!done) return;
    for (let block = change.first; block < change.first + change.count; block++) {
      const left = this.changes(block).filter((other) => other.ended >= change.began);
      this.blocks.set(block, left);
    }
  }

  beginRead(first: number, count: number): PendingRead {
    const before = Array.from({ length: count }, (_, index) => this.possible(first + index));
    return { first, began: ++this.clock, before };
  }

  /** Throws unless every block is one that the read may have found. */
  endRead({ first, began, before }: PendingRead, data: Buffer): void {
    for (const [index, possible] of before.entries()) {
      const block = first + index;
      const content = decodeBlock(blockOf(data, index), block);
      const changed = content === ZEROES ? (this.lastZeroed.get(block) ?? 0) : content;
      if (possible.has(content) || changed > began) continue;
      throw new Error(`block ${block} reads as ${content}, not one of ${[...possible].join(", ")}`);
    }
  }

  /** Nothing is under way: whatever is found now stays, or the next `settle` throws. */
  settle(first: number, data: Buffer): void {
    for (let index = 0; index * BLOCK_BYTES < data.length; index++) {
      const block = first + index;
      const content = decodeBlock(blockOf(data, index), block);
      const possible = this.possible(block);
      if (!possible.has(content)) {
        const expected = [...possible].join(", ");
        throw new Error(`block ${block} holds ${content}, not one of ${expected}`);
      }
      if (content === ZEROES) this.blocks.delete(block);
      else this.blocks.set(block, [this.changes(block).find(({ began }) => began === content)!]);
    }
  }

  /** Blocks with changes that were sent and never answered: members may differ there. */
  unanswered(): number[] {
    const unanswered = [...this.blocks].filter(([, changes]) =>
      changes.some(({ ended }) => ended === Infinity),
    );
    return unanswered.map(([block]) => block);
  }

  private changes(block: number): readonly Change[] {
    return this.blocks.get(block) ?? [BLANK];
  }

  private possible(block: number): ReadonlySet<Content> {
    return new Set(this.changes(block).map(({ zeroes, began }) => (zeroes ? ZEROES : began)));
  }
}

function blockOf(data: Buffer, index: number): Buffer {
  return data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
}
