/**
 * What an array may hold. Every change of bytes is kept, with when it was issued and when it
 * ended; of two that cover a byte the later one wins if it was issued after the other had ended,
 * else either may be there.
 */
import { expect } from "vitest";

const SECTOR = 512;

/** A write, trim or zero. Times are the model's own. */
interface Change {
  readonly offset: number;
  readonly end: number;
  /** Null: zeroes. */
  readonly bytes: Uint8Array | null;
  readonly issued: number;
  ended: number;
  /** It was answered: nobody reads what was there before. */
  answered: boolean;
  /** A flush covers it: no cut brings back what was there before. */
  durable: boolean;
}

/** Bytes of the array. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export class Model {
  /** What is there where no change is known. */
  private base: Buffer;
  private readonly changes = new Map<number, Change[]>();
  /** Sectors of which nobody knows what is there where no change is known. */
  private readonly unknown = new Set<number>();
  private time = 0;
  private reads = 0;

  constructor(sizeBytes: number) {
    this.base = Buffer.alloc(sizeBytes);
  }

  get sizeBytes(): number {
    return this.base.length;
  }

  // ---- changes

  /** A change is issued; what it returns is told how that ended. Bytes must stay as they are. */
  begin(offset: number, length: number, bytes: Uint8Array | null): Change {
    const issued = ++this.time;
    const change: Change = {
      ...{ offset, end: offset + length, bytes, issued },
      ...{ ended: Infinity, answered: false, durable: false },
    };
    for (const sector of sectors(offset, offset + length)) {
      const list = this.changes.get(sector);
      if (list === undefined) this.changes.set(sector, [change]);
      else list.push(change);
    }
    return change;
  }

  answered(change: Change, fua: boolean): void {
    change.ended = ++this.time;
    change.answered = true;
    change.durable ||= fua;
  }

  /** It was refused: perhaps a part of it is there. */
  refused(change: Change): void {
    change.ended = ++this.time;
  }

  /** A flush is issued; the result is called when it was answered. */
  beginFlush(): () => void {
    const issued = ++this.time;
    return () => {
      this.time++;
      for (const list of this.changes.values()) {
        for (const change of list) {
          if (change.answered && change.ended < issued) change.durable = true;
        }
      }
      if (this.reads === 0) this.forget();
    };
  }

  // ---- crashes

  /** The power was cut: nothing goes on, and what was not durable may be gone. */
  cut(): void {
    this.end((change) => change.durable);
  }

  /** The process died: nothing goes on; what was answered is there. */
  killed(): void {
    this.end((change) => change.answered);
  }

  private end(kept: (change: Change) => boolean): void {
    const now = ++this.time;
    this.reads = 0;
    for (const list of this.changes.values()) {
      for (const change of list) {
        change.answered = kept(change);
        change.ended = Math.min(change.ended, now);
      }
    }
  }

  /** From now on the array holds exactly these bytes; anything where they are unknown. */
  adopt(bytes: Uint8Array, unknown: readonly Range[] = []): void {
    this.base = Buffer.from(bytes);
    this.changes.clear();
    this.unknown.clear();
    this.lose(unknown);
  }

  /** Bytes that cannot be known any more: they may turn out to be anything, until they are written. */
  lose(ranges: readonly Range[]): void {
    for (const { start, end } of ranges) {
      for (const sector of sectors(start, end)) {
        this.changes.delete(sector);
        this.unknown.add(sector);
      }
    }
  }

  // ---- reads

  /** A read is issued; the result checks what it gave, if that is to be trusted. */
  beginRead(offset: number): (bytes: Uint8Array | null) => void {
    const issued = ++this.time;
    this.reads++;
    return (bytes) => {
      this.reads--;
      if (bytes !== null) this.check(offset, bytes, issued);
    };
  }

  /** Fails unless `bytes` may be what lies at `offset`, for a read issued at that time. */
  check(offset: number, bytes: Uint8Array, issued = this.time + 1): void {
    const settled = (change: Change): boolean => change.answered && change.ended < issued;
    const end = offset + bytes.length;
    let plain = offset;
    const checkPlain = (until: number): void => {
      if (until <= plain) return;
      const part = bytes.subarray(plain - offset, until - offset);
      if (this.base.compare(part, 0, part.length, plain, until) === 0) return;
      const at = part.findIndex((byte, index) => byte !== this.base[plain + index]);
      expect.fail(`byte ${plain + at} changed and was not written`);
    };
    for (const sector of sectors(offset, end)) {
      const list = this.changes.get(sector) ?? (this.unknown.has(sector) ? [] : undefined);
      if (list === undefined) continue;
      const first = Math.max(offset, sector * SECTOR);
      checkPlain(first);
      plain = Math.min(end, (sector + 1) * SECTOR);
      for (const [start, stop] of segments(list, first, plain)) {
        const part = bytes.subarray(start - offset, stop - offset);
        this.checkSegment(list, sector, part, start, settled);
      }
    }
    checkPlain(end);
  }

  /** No change begins or ends inside the segment, and disks keep or lose it as a whole. */
  private checkSegment(
    list: readonly Change[],
    sector: number,
    bytes: Uint8Array,
    start: number,
    settled: (change: Change) => boolean,
  ): void {
    const covering = list.filter(({ offset, end }) => offset <= start && start < end);
    const gone = (ended: number): boolean =>
      covering.some((later) => settled(later) && ended < later.issued);
    const allowed = covering.filter(({ ended }) => !gone(ended));
    if (allowed.some((change) => holds(change, bytes, start))) return;
    const { base } = this;
    if (!gone(0) && this.unknown.has(sector)) return;
    if (!gone(0) && base.compare(bytes, 0, bytes.length, start, start + bytes.length) === 0) return;
    const stale = covering.find((change) => holds(change, bytes, start));
    const what = stale === undefined ? "bytes of nobody" : `change ${stale.issued}, overwritten`;
    const wanted = allowed.map(({ issued, durable }) => `${issued}${durable ? " (durable)" : ""}`);
    expect.fail(`bytes ${start}+${bytes.length}: ${what}; allowed are ${wanted.join(", ")}`);
  }

  /** Drops changes that nothing can bring back. */
  private forget(): void {
    for (const [sector, list] of this.changes) {
      const kept = list.filter((change) => {
        const overwritten = (later: Change): boolean =>
          later.durable && change.ended < later.issued && covers(later, change, sector);
        return !list.some(overwritten);
      });
      this.changes.set(sector, kept);
    }
  }
}

export type { Change };

function* sectors(offset: number, end: number): Iterable<number> {
  for (let sector = Math.floor(offset / SECTOR); sector * SECTOR < end; sector++) yield sector;
}

/** [first, end) cut where a change begins or ends. */
function segments(list: readonly Change[], first: number, end: number): [number, number][] {
  const inside = list.flatMap(({ offset, end: stop }) => [offset, stop]);
  const edges = new Set([first, end, ...inside.filter((edge) => edge > first && edge < end)]);
  const sorted = [...edges].sort((a, b) => a - b);
  return sorted.slice(1).map((stop, index) => [sorted[index] ?? first, stop]);
}

function holds({ offset, bytes: written }: Change, bytes: Uint8Array, start: number): boolean {
  if (written === null) return bytes.every((byte) => byte === 0);
  const part = written.subarray(start - offset, start - offset + bytes.length);
  return Buffer.compare(part, bytes) === 0;
}

/** True if `later` covers what `change` has in the sector. */
function covers(later: Change, change: Change, sector: number): boolean {
  const first = Math.max(change.offset, sector * SECTOR);
  const end = Math.min(change.end, (sector + 1) * SECTOR);
  return later.offset <= first && end <= later.end;
}
