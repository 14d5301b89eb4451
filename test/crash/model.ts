import {
  BLOCK_BYTES,
  type Content,
  decodeBlock,
  encodeBlocks,
  isMixedOf,
  ZEROES,
} from "./blocks.ts";

/** A write, trim or zeroing that was sent, or that made what a block holds. */
export interface Change {
  readonly first: number;
  readonly count: number;
  /** Ticks of the model's clock. `began` is also the sequence number that data carries. */
  readonly began: number;
  ended: number;
  answered: boolean;
  readonly zeroes: boolean;
}

/** A read under way: what each of its blocks must hold; null where a change is under way. */
export interface PendingRead {
  readonly first: number;
  readonly began: number;
  readonly expected: readonly (ReadonlySet<Content> | null)[];
}

const BLANK: Change = { first: 0, count: 0, began: 0, ended: 0, answered: true, zeroes: true };

/** What may have become of changes that were answered. */
export type Survival =
  /** A process that is killed leaves the page cache behind: all that was answered is there. */
  | "answered"
  /** NBD's own promise: what a FLUSH that was answered or FUA covers. */
  | "flushed";

/**
 * What each block may hold, by what was sent and answered. A change counts until another that
 * began after it had ended is answered, or flushed; one that was never answered, or refused, may
 * count or not.
 */
export class Model {
  private clock = 0;
  /** By block: changes that none has followed whole and durably. */
  private readonly blocks = new Map<number, readonly Change[]>();
  /** Answered, and not flushed since. */
  private readonly unflushed = new Set<Change>();
  /** An answer says that something lasts only for what began later. */
  private honestFrom = 0;
  /** By block: when its last change began. */
  private readonly latest = new Map<number, number>();
  /** Blocks that a power cut has torn; their contents are -1, -2 and so on. */
  private readonly torn: Buffer[] = [];

  begin(first: number, count: number, zeroes: boolean): Change {
    const began = ++this.clock;
    const change = { first, count, began, ended: Infinity, answered: false, zeroes };
    for (let block = first; block < first + count; block++) {
      this.blocks.set(block, [...this.changes(block), change]);
      this.latest.set(block, began);
    }
    return change;
  }

  answer(change: Change, fua: boolean): void {
    change.ended = ++this.clock;
    change.answered = true;
    if (fua && change.began > this.honestFrom) this.forgetBefore(change);
    else this.unflushed.add(change);
  }

  refuse(change: Change): void {
    change.ended = ++this.clock;
  }

  beginFlush(): number {
    return ++this.clock;
  }

  answerFlush(began: number): void {
    if (began <= this.honestFrom) return;
    for (const change of this.unflushed) {
      if (change.ended > began) continue;
      this.unflushed.delete(change);
      this.forgetBefore(change);
    }
  }

  /**
   * The file system below is about to fail. ext4 then takes an fdatasync for done that it is in the
   * middle of, though what was written to a hole reads as zeroes ever after ("failed to convert
   * unwritten extents", says its log): no answer says that anything lasts.
   */
  disksFail(): void {
    this.honestFrom = Infinity;
  }

  /** It has failed, and says so: what begins from now on is to be answered as ever. */
  disksHaveFailed(): void {
    this.honestFrom = ++this.clock;
  }

  beginRead(first: number, count: number): PendingRead {
    const expected = Array.from({ length: count }, (_, index) => {
      const changes = this.changes(first + index);
      return changes.some(({ ended }) => ended === Infinity)
        ? null
        : contentsOf(answeredLast(changes));
    });
    return { first, began: ++this.clock, expected };
  }

  /** Throws unless every block is as it must be. One that changed meanwhile may even be torn. */
  endRead({ first, began, expected }: PendingRead, data: Buffer): void {
    for (const [index, contents] of expected.entries()) {
      const block = first + index;
      if (contents === null || (this.latest.get(block) ?? 0) > began) continue;
      this.expectOneOf(contents, blockOf(data, index), block);
    }
  }

  /** Nothing is under way: whatever is found now stays, or the next `settle` throws. */
  settle(first: number, data: Buffer, survival: Survival): void {
    this.unflushed.clear();
    this.honestFrom = 0;
    for (let index = 0; index * BLOCK_BYTES < data.length; index++) {
      const block = first + index;
      const changes = this.changes(block);
      const possible = survival === "answered" ? answeredLast(changes) : changes;
      const bytes = blockOf(data, index);
      const contents = contentsOf(possible);
      const torn = survival === "flushed" ? this.tornOf(contents, bytes, block) : null;
      const content = torn ?? this.expectOneOf(contents, bytes, block);
      const found = { first: block, count: 1, began: content, ended: ++this.clock, answered: true };
      if (content === ZEROES) this.blocks.delete(block);
      else this.blocks.set(block, [{ ...found, zeroes: false }]);
    }
  }

  /** Blocks with changes that were sent and never answered: members may differ there. */
  unanswered(): number[] {
    const unanswered = [...this.blocks].filter(([, changes]) =>
      changes.some(({ ended }) => ended === Infinity),
    );
    return unanswered.map(([block]) => block);
  }

  /** Throws if the content is that of a change that was never answered. */
  expectNotUnderWay(block: number, content: Content): void {
    const change = this.changes(block).find(({ began }) => began === content);
    if (change?.ended !== Infinity) return;
    throw new Error(`block ${block} holds ${content}, which was not answered, and is not marked`);
  }

  /** The change lasts: what it replaced cannot come back. */
  private forgetBefore({ first, count, began }: Change): void {
    for (let block = first; block < first + count; block++) {
      this.blocks.set(
        block,
        this.changes(block).filter(({ ended }) => ended >= began),
      );
    }
  }

  private expectOneOf(contents: ReadonlySet<Content>, bytes: Buffer, block: number): Content {
    for (const content of contents) {
      if (this.torn[-content - 1]?.equals(bytes) === true) return content;
    }
    const content = decodeBlock(bytes, block);
    if (contents.has(content)) return content;
    throw new Error(`block ${block} holds ${content}, not one of ${[...contents].join(", ")}`);
  }

  /**
   * A block that was being written when the power was cut may be in part as it was, in part as it
   * was to be: nobody was told that it is durable. Its content from now on; null if it is whole.
   */
  private tornOf(contents: ReadonlySet<Content>, bytes: Buffer, block: number): Content | null {
    const blocks = [...contents].map((content) => {
      if (content < 0) return this.torn[-content - 1]!;
      return content === ZEROES ? Buffer.alloc(BLOCK_BYTES) : encodeBlocks(block, 1, content);
    });
    if (blocks.some((whole) => whole.equals(bytes)) || !isMixedOf(blocks, bytes)) return null;
    this.torn.push(Buffer.from(bytes));
    return -this.torn.length;
  }

  private changes(block: number): readonly Change[] {
    return this.blocks.get(block) ?? [BLANK];
  }
}

/** Those that no answered change has followed. */
function answeredLast(changes: readonly Change[]): readonly Change[] {
  return changes.filter(
    ({ ended }) => !changes.some((other) => other.answered && other.began > ended),
  );
}

function contentsOf(changes: readonly Change[]): ReadonlySet<Content> {
  return new Set(changes.map(({ zeroes, began }) => (zeroes ? ZEROES : began)));
}

function blockOf(data: Buffer, index: number): Buffer {
  return data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
}
