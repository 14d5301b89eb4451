import { assert } from "../errors.ts";

/** What one write may tear: a sector is written whole or not at all. */
const SECTOR = 512;
const ZERO_SECTOR = new Uint8Array(SECTOR);

/** A number in [0, 1): a seeded generator, so that a run can be repeated. */
export type Random = () => number;

/** A write from its issue on. Until it takes effect a cut may find it on any of its sectors. */
export interface DiskWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** When its caller was told that it is done, on the disk's own clock; Infinity: not yet. */
  completedAt: number;
}

/** What a sector held after a write took effect on it. */
interface Version {
  readonly write: DiskWrite;
  readonly bytes: Uint8Array;
}

/**
 * A disk behind a volatile cache that is as unkind as the rules of storage allow. Reads see the
 * cache. Stable storage, the media, gets what syncs and durable writes promise; a power cut decides
 * for every other sector, one by one, which of the versions since then it finds.
 *
 * A disk is used up by {@link cut} or {@link kill}, which give the disk found afterwards.
 */
export class SimulatedDisk {
  readonly sizeBytes: number;
  readonly #cache: Buffer;
  readonly #media: Uint8Array;
  /** By sector: the versions newer than the media, in the order they took effect. */
  readonly #unsynced: Map<number, Version[]>;
  /** Sectors that a failed sync left different in the cache and on the media. */
  readonly #lost: Set<number>;
  readonly #inFlight = new Set<DiskWrite>();
  #now = 0;
  #usedUp = false;

  /** `sizeBytes` of zeroes, a multiple of 512. `state` is what a crash left. */
  constructor(sizeBytes: number, state?: DiskState) {
    assert(sizeBytes % SECTOR === 0, "a disk has whole sectors");
    this.sizeBytes = sizeBytes;
    this.#media = state?.media ?? new Uint8Array(sizeBytes);
    this.#cache = state?.cache ?? Buffer.alloc(sizeBytes);
    this.#unsynced = state?.unsynced ?? new Map<number, Version[]>();
    this.#lost = state?.lost ?? new Set<number>();
  }

  /** True after a cut or a kill: nothing happens on this disk any more. */
  get usedUp(): boolean {
    return this.#usedUp;
  }

  read(into: Uint8Array, offset: number): void {
    into.set(this.#cache.subarray(offset, offset + into.length));
  }

  /** The first offset >= `from` and < `end` in a sector that is not all zeroes, or null. */
  nextData(from: number, end: number): number | null {
    for (let at = from; at < end; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
      if (!this.#cached(Math.floor(at / SECTOR)).equals(ZERO_SECTOR)) return at;
    }
    return null;
  }

  /** The first offset >= `from` and < `end` in a sector that is all zeroes, or `end`. */
  nextHole(from: number, end: number): number {
    for (let at = from; at < end; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
      if (this.#cached(Math.floor(at / SECTOR)).equals(ZERO_SECTOR)) return at;
    }
    return end;
  }

  /** Issues a write: its bytes may reach the media from now on. */
  begin(bytes: Uint8Array, offset: number): DiskWrite {
    const write = { offset, bytes: new Uint8Array(bytes), completedAt: Infinity };
    this.#inFlight.add(write);
    return write;
  }

  /** The write takes effect: reads see it, on those of its sectors that `taken` says. */
  takeEffect(write: DiskWrite, taken: (sector: number) => boolean = () => true): void {
    this.#inFlight.delete(write);
    for (const sector of sectorsOf(write)) {
      if (!taken(sector)) continue;
      const bytes = overlay(this.#cached(sector), sector, write);
      this.#cached(sector).set(bytes);
      const versions = this.#unsynced.get(sector);
      if (versions === undefined) this.#unsynced.set(sector, [{ write, bytes }]);
      else versions.push({ write, bytes });
    }
  }

  /** The caller is told: from now on syncs must cover the write. */
  complete(write: DiskWrite): void {
    write.completedAt = ++this.#now;
  }

  /** A point in time for {@link makeDurable}: every write completed so far is before it. */
  get now(): number {
    return this.#now;
  }

  /** Writes completed up to `time` are on the media, in `sectors` or everywhere. */
  makeDurable(time: number, sectors: Iterable<number> = this.#unsynced.keys()): void {
    for (const sector of sectors) {
      const newest = this.#takeVersions(sector, time).at(-1);
      if (newest !== undefined) this.#stored(sector).set(newest.bytes);
    }
  }

  /**
   * A failed sync, as on Linux: each sector it was to cover is now any of its versions, counts as
   * synced, and no later sync tells of it. The cache may have lost it as well.
   */
  loseVersions(
    time: number,
    random: Random,
    sectors: Iterable<number> = this.#unsynced.keys(),
  ): void {
    for (const sector of sectors) {
      const covered = this.#takeVersions(sector, time);
      if (covered.length === 0) continue;
      const kept = pick(random, [this.#stored(sector), ...covered.map(({ bytes }) => bytes)]);
      this.#stored(sector).set(kept);
      if (!this.#unsynced.has(sector) && random() < 0.5) this.#cached(sector).set(kept);
      else this.#lost.add(sector);
    }
  }

  /**
   * Power fails now. Every sector keeps the media or becomes any version since, those of writes in
   * flight included: half of the time each by itself, else all the oldest or all the newest.
   */
  cut(random: Random): SimulatedDisk {
    const choose = pick(random, CUTS);
    const candidates = new Map<number, Uint8Array[]>();
    const candidatesOf = (sector: number): Uint8Array[] => {
      const list = candidates.get(sector) ?? [this.#stored(sector)];
      candidates.set(sector, list);
      return list;
    };
    for (const [sector, versions] of this.#unsynced) {
      candidatesOf(sector).push(...versions.map(({ bytes }) => bytes));
    }
    for (const write of this.#inFlight) {
      for (const sector of sectorsOf(write)) {
        candidatesOf(sector).push(overlay(this.#cached(sector), sector, write));
      }
    }
    this.#usedUp = true;
    for (const [sector, list] of candidates) this.#stored(sector).set(choose(random, list));
    for (const sector of [...candidates.keys(), ...this.#lost]) {
      this.#cached(sector).set(this.#stored(sector));
    }
    return this.#after(new Map(), new Set());
  }

  /** The process dies now: the cache lives on, and of a write in flight any sectors are in it. */
  kill(random: Random): SimulatedDisk {
    for (const write of this.#inFlight) {
      const share = pick(random, [0, 0.5, 1]);
      this.takeEffect(write, () => random() < share);
    }
    this.#usedUp = true;
    const unsynced = this.#unsynced;
    for (const { write } of [...unsynced.values()].flat()) write.completedAt = 0; // due to any sync
    return this.#after(unsynced, this.#lost);
  }

  #after(unsynced: Map<number, Version[]>, lost: Set<number>): SimulatedDisk {
    const [media, cache] = [this.#media, this.#cache];
    return new SimulatedDisk(this.sizeBytes, { media, cache, unsynced, lost });
  }

  #cached(sector: number): Buffer {
    return this.#cache.subarray(sector * SECTOR, (sector + 1) * SECTOR);
  }

  #stored(sector: number): Uint8Array {
    return this.#media.subarray(sector * SECTOR, (sector + 1) * SECTOR);
  }

  /** Takes out the versions up to the newest that had completed by `time`, and gives them. */
  #takeVersions(sector: number, time: number): Version[] {
    const versions = this.#unsynced.get(sector) ?? [];
    const covered = versions.findLastIndex(({ write }) => write.completedAt <= time) + 1;
    if (covered === versions.length) this.#unsynced.delete(sector);
    return versions.splice(0, covered);
  }
}

interface DiskState {
  readonly media: Uint8Array;
  readonly cache: Buffer;
  readonly unsynced: Map<number, Version[]>;
  readonly lost: Set<number>;
}

type Choice = (random: Random, candidates: readonly Uint8Array[]) => Uint8Array;

const first: Choice = (_random, candidates) => pick(() => 0, candidates);
const last: Choice = (_random, candidates) => pick(() => 1 - Number.EPSILON, candidates);
/** What a cut keeps of a sector: media first, newest last. */
const CUTS: readonly Choice[] = [first, last, pick, pick];

/** The numbers of the sectors that a range touches. */
export function* sectorsOf(range: { offset: number; bytes: Uint8Array }): Iterable<number> {
  const end = range.offset + range.bytes.length;
  for (let sector = Math.floor(range.offset / SECTOR); sector * SECTOR < end; sector++) {
    if (range.bytes.length > 0) yield sector;
  }
}

/** A sector's content `before`, with the write over it: a part of the write's bytes, if all new. */
function overlay(before: Uint8Array, sector: number, write: DiskWrite): Uint8Array {
  const start = sector * SECTOR;
  const from = Math.max(start, write.offset);
  const to = Math.min(start + SECTOR, write.offset + write.bytes.length);
  const written = write.bytes.subarray(from - write.offset, to - write.offset);
  if (written.length === SECTOR) return written;
  const after = Uint8Array.from(before); // a Buffer's slice would share
  after.set(written, from - start);
  return after;
}

function pick<T>(random: Random, choices: readonly T[]): T {
  const choice = choices[Math.floor(random() * choices.length)];
  assert(choice !== undefined, "there is a choice");
  return choice;
}
