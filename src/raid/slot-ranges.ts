/** One contiguous range of a slot, and the parts of a client's buffer that belong there. */
export interface SlotRange {
  readonly slot: number;
  /** On the member's data area. */
  readonly offset: number;
  length: number;
  readonly parts: Uint8Array[];
}

/**
 * Collects what a request wants of each slot: what is adjacent on a slot becomes one range, and so
 * one call.
 */
export class SlotRanges {
  readonly ranges: SlotRange[] = [];
  /** By slot: the range that was last added to. */
  private readonly open: (SlotRange | undefined)[] = [];

  add(slot: number, offset: number, part: Uint8Array): void {
    const range = this.open[slot];
    if (range !== undefined && range.offset + range.length === offset) {
      range.length += part.length;
      range.parts.push(part);
      return;
    }
    const next = { slot, offset, length: part.length, parts: [part] };
    this.open[slot] = next;
    this.ranges.push(next);
  }
}
