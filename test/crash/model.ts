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

/** A read under way: what each of its blocks must hold; null where a change is under way. */
export interface PendingRead {
  readonly first: number;
  readonly began: number;
  readonly expected: readonly (ReadonlySet<Content> | null)[];
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
  /** By block: when its last change began. */
  private readonly latest = new Map<number, number>();

  begin(first: number, count: number, zeroes: boolean): Change {
    const change = { first, count, began: ++this.clock, ended: Infinity, zeroes };
    for (let block = first; block < first + count; block++) {
      this.blocks.set(block, [...this.changes(block), change]);
      this.latest.set(block, change.began);
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
    const expected = Array.from({ length: count }, (_, index) => {
      const changes = this.changes(first + index);
      return changes.some(({ ended }) => ended === Infinity) ? null : contentsOf(changes);
    });
    return { first, began: ++this.clock, expected };
  }

  /** Throws unless every block is as it must be. One that changed meanwhile may even be torn. */
  endRead({ first, began, expected }: PendingRead, data: Buffer): void {
    for (const [index, contents] of expected.entries()) {
      const block = first + index;
      if (contents === null || (this.latest.get(block) ?? 0) > began) continue;
      expectOneOf(contents, blockOf(data, index), block);
    }
  }

  /** Nothing is under way: whatever is found now stays, or the next `settle` throws. */
  settle(first: number, data: Buffer): void {
    for (let index = 0; index * BLOCK_BYTES < data.length; index++) {
      const block = first + index;
      const contents = contentsOf(this.changes(block));
      const content = expectOneOf(contents, blockOf(data, index), block);
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
}

function contentsOf(changes: readonly Change[]): ReadonlySet<Content> {
  return new Set(changes.map(({ zeroes, began }) => (zeroes ? ZEROES : began)));
}

function expectOneOf(contents: ReadonlySet<Content>, bytes: Buffer, block: number): Content {
  const content = decodeBlock(bytes, block);
  if (contents.has(content)) return content;
  throw new Error(`block ${block} holds ${content}, not one of ${[...contents].join(", ")}`);
}

function blockOf(data: Buffer, index: number): Buffer {
  return data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
}
