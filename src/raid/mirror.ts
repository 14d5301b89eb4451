import { MemberError } from "../member/member.ts";
import { byWriteMostly, INLINE_COPY_BYTES_MAX, onEach } from "./legs.ts";
import {
  FALLBACK_BLOCK_BYTES,
  type Leg,
  type LegFailure,
  type Legs,
  type Level,
  type UnreadBlock,
} from "./level.ts";
import { ReadLoads } from "./read-loads.ts";

/**
 * Level 1: every leg holds the array's bytes at the same offsets of its data area. Knows how to
 * read from one and to write to all; what becomes of a leg that fails is the caller's policy.
 */
export class Mirror<L extends Leg> implements Level<L> {
  private readonly legs: Legs<L>;
  private readonly loads = new ReadLoads();
  /** The source of pinned reads: stays so while it is in sync. */
  private pinned: L | null = null;

  constructor(legs: Legs<L>) {
    this.legs = legs;
  }

  /**
   * Legs in the order in which pinned reads and syncs ask them: the source first (lowest in-sync
   * slot, not write-mostly if there is another), then the others.
   */
  sources(): L[] {
    const { inSync } = this.legs;
    if (this.pinned === null || !inSync.includes(this.pinned)) {
      this.pinned = inSync.find((leg) => !leg.writeMostly) ?? inSync[0] ?? null;
    }
    const { pinned } = this;
    const others = inSync.filter((leg) => leg !== pinned);
    return pinned === null ? others : [pinned, ...others.sort(byWriteMostly)];
  }

  tryRead(into: Uint8Array, offset: number, pinned: boolean): boolean {
    const leg = this.choose(offset, pinned);
    if (leg === undefined) return false;
    if (!leg.member.tryRead(into, leg.dataOffset + offset)) return false;
    this.turnTo(leg, offset + into.length);
    return true;
  }

  /**
   * Fills `into`. Blocks that a leg could not read were read from others and are named, so that
   * they are repaired. Rejects with the last MemberError if some block can be read nowhere.
   */
  async read(into: Uint8Array, offset: number, pinned: boolean): Promise<UnreadBlock<L>[]> {
    const leg = this.choose(offset, pinned);
    if (leg === undefined) throw new Error("a mirror that runs has a leg in sync");
    this.turnTo(leg, offset + into.length);
    return this.loads.during(leg, async () => {
      try {
        await leg.member.read(into, leg.dataOffset + offset);
        return [];
      } catch (error) {
        if (!(error instanceof MemberError)) throw error;
        const unread = await this.readBlocks(leg, into, offset);
        // It may have failed but for once: that counts too, and there is nothing to repair.
        return unread.length > 0 ? unread : [{ leg, error, offset, length: into.length }];
      }
    });
  }

  /**
   * Block by block, from the leg that was asked where it can. A pinned read asks the sources in
   * their order, as a sync does (copiesCopier), so that both find the same data.
   */
  private async readBlocks(asked: L, into: Uint8Array, offset: number): Promise<UnreadBlock<L>[]> {
    const unread: UnreadBlock<L>[] = [];
    for (let at = 0; at < into.length;) {
      const toBoundary = FALLBACK_BLOCK_BYTES - ((offset + at) % FALLBACK_BLOCK_BYTES);
      const block = into.subarray(at, Math.min(into.length, at + toBoundary));
      unread.push(...(await this.readBlock(asked, block, offset + at)));
      at += block.length;
    }
    return unread;
  }

  private async readBlock(asked: L, block: Uint8Array, offset: number): Promise<UnreadBlock<L>[]> {
    const unread: UnreadBlock<L>[] = [];
    const others = this.sources().filter((leg) => leg !== asked);
    const order = this.legs.inSync.includes(asked) ? [asked, ...others] : others;
    for (const leg of order) {
      try {
        await leg.member.read(block, leg.dataOffset + offset);
        return unread;
      } catch (error) {
        if (!(error instanceof MemberError)) throw error;
        unread.push({ leg, error, offset, length: block.length });
      }
    }
    const last = unread.at(-1);
    throw last?.error ?? new Error("a mirror that runs has a leg in sync");
  }

  /**
   * Rewrites a range that `leg` could not read, from the first other leg that can, and reads it
   * back. The caller holds the range like a write. The failure of `leg`, if it fails at that.
   */
  async repair(leg: L, offset: number, length: number): Promise<LegFailure<L>[]> {
    if (!this.legs.inSync.includes(leg)) return [];
    if (await this.reads(leg, new Uint8Array(length), offset)) return [];
    const good = new Uint8Array(length);
    for (const other of this.sources()) {
      if (other === leg || !(await this.reads(other, good, offset))) continue;
      try {
        await leg.member.write(good, leg.dataOffset + offset);
        await leg.member.read(new Uint8Array(length), leg.dataOffset + offset);
        return [];
      } catch (error) {
        if (!(error instanceof MemberError)) throw error;
        return [{ leg, error }];
      }
    }
    return [];
  }

  private async reads(leg: L, into: Uint8Array, offset: number): Promise<boolean> {
    try {
      await leg.member.read(into, leg.dataOffset + offset);
      return true;
    } catch (error) {
      if (error instanceof MemberError) return false;
      throw error;
    }
  }

  /** True if writing this much to one leg after the other is the quick way, and cannot block. */
  writesInline(_offset: number, length: number): boolean {
    if (length > INLINE_COPY_BYTES_MAX && this.legs.writable.length > 1) return false;
    for (const leg of this.legs.writable) if (!leg.member.writesInline(length)) return false;
    return true;
  }

  /** Writes to every leg now; false if one failed: the caller writes again with `write`. */
  tryWrite(from: Uint8Array, offset: number): boolean {
    for (const leg of this.legs.writable) {
      if (!leg.member.tryWrite(from, leg.dataOffset + offset)) return false;
    }
    return true;
  }

  /** Every fdatasync is a no-op: what is written is as durable as it gets. */
  get syncsInline(): boolean {
    for (const leg of this.legs.writable) if (!leg.member.syncsInline) return false;
    return true;
  }

  /** Writes to every leg at once; the legs that failed. */
  write(from: Uint8Array, offset: number): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.write(from, leg.dataOffset + offset));
  }

  punch(offset: number, length: number): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.punch(leg.dataOffset + offset, length));
  }

  zero(offset: number, length: number): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.zero(leg.dataOffset + offset, length));
  }

  sync(): Promise<LegFailure<L>[]> {
    return onEach(this.legs.writable, (leg) => leg.member.sync());
  }

  async prefetch(offset: number, length: number): Promise<void> {
    const leg = this.choose(offset, true);
    await leg?.member.prefetch(leg.dataOffset + offset, length);
  }

  /** A stream stays on its leg; other reads go to the least busy, in turn; write-mostly last. */
  private choose(offset: number, pinned: boolean): L | undefined {
    const { inSync } = this.legs;
    if (inSync.length === 1) return inSync[0];
    if (pinned) return this.sources()[0];
    let best: L | undefined;
    let bestLoad = Infinity;
    for (let index = 0; index < inSync.length; index++) {
      const leg = inSync[(this.loads.turn + index) % inSync.length]!;
      if (this.loads.continues(leg, offset)) return leg;
      const load = this.loads.of(leg);
      if (load < bestLoad) {
        best = leg;
        bestLoad = load;
      }
    }
    return best;
  }

  /** A read went to `leg`: its stream may go on there, and the next scattered read elsewhere. */
  private turnTo(leg: L, end: number): void {
    this.loads.readTo(leg, end);
    this.loads.turn++;
  }
}
