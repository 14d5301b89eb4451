import { expect } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { copierOf } from "../../src/raid/copiers.ts";
import type { SyncRole } from "../../src/sync/control.ts";
import { type MemberIo, type RangeCopier, WINDOW_BYTES_MAX } from "../../src/sync/engine.ts";
import { seededRandom } from "../member/seeded.ts";
import { trackedBytes, writeImages } from "../raid/oracle.ts";
import { arrayBytes, isParity, type OracleShape, placesOf } from "../raid/oracle-placement.ts";
import { lengthOf, SyncBench } from "./bench.ts";

/** Small, so that the members of many benches can be. */
export const REGION_BYTES = 16 * 1024;

/** Part of a member's data area. */
export interface MemberRange {
  readonly slot: number;
  readonly offset: number;
  readonly length: number;
}

/**
 * A sync of any level over members in memory, which hold at first what an independent writer makes
 * of random bytes. A test spoils members and says what comes out.
 */
export class LevelBench extends SyncBench {
  readonly shape: OracleShape;
  /** As the members were at first, by slot: what a sync should lead back to. */
  readonly good: readonly Buffer[];
  /** Level 10: by slot and number of the chunk there, the array's chunk. */
  private readonly chunkAt: readonly number[][];

  constructor(shape: OracleShape, seed = 1) {
    const { good, copy } = madeFor(shape, seed);
    const members = good.map((image) => Uint8Array.from(image));
    super(trackedBytes(shape), members, REGION_BYTES);
    this.shape = shape;
    this.good = good;
    this.copy = copy;
    this.chunkAt = good.map(() => []);
    if (shape.level === 10) this.findChunks();
    for (let region = 0; region < this.regions.count; region++) this.force(State.Clean, region);
  }

  private findChunks(): void {
    const { chunkBytes } = this.shape;
    for (let at = 0; at < arrayBytes(this.shape); at += chunkBytes) {
      for (const { slot, offset } of placesOf(this.shape, at)) {
        this.chunkAt[slot]![offset / chunkBytes] = at / chunkBytes;
      }
    }
  }

  /** Where the bytes of a region lie. */
  rangesOf(region: number): MemberRange[] {
    const start = region * REGION_BYTES;
    const end = Math.min(start + REGION_BYTES, this.regions.trackedBytes);
    if (this.shape.level !== 10) {
      const slots = [...this.members.keys()];
      return slots.map((slot) => ({ slot, offset: start, length: end - start }));
    }
    const ranges: MemberRange[] = [];
    const { chunkBytes } = this.shape;
    for (let at = start; at < end;) {
      const stop = Math.min(end, (Math.floor(at / chunkBytes) + 1) * chunkBytes);
      for (const place of placesOf(this.shape, at)) ranges.push({ ...place, length: stop - at });
      at = stop;
    }
    return ranges;
  }

  protected override regionsOf(io: MemberIo): number[] {
    if (this.shape.level !== 10) return super.regionsOf(io);
    const { chunkBytes } = this.shape;
    const regions: number[] = [];
    const end = io.offset + lengthOf(io);
    for (let at = io.offset; at < end; at += Math.min(512, chunkBytes)) {
      const chunk = this.chunkAt[io.slot]![Math.floor(at / chunkBytes)]!;
      regions.push(this.regions.at(chunk * chunkBytes + (at % chunkBytes)));
    }
    return [...new Set(regions)];
  }

  /** Fills part of a member with other bytes than it has: every byte changes. */
  spoil({ slot, offset, length }: MemberRange): void {
    const part = this.members[slot]!.subarray(offset, offset + length);
    for (let at = 0; at < length; at++) part[at] = part[at]! ^ (1 + ((at + slot) % 255));
  }

  /** Spoils the parts of all regions that are on this slot. */
  spoilSlot(slot: number): void {
    for (let region = 0; region < this.regions.count; region++) {
      for (const range of this.rangesOf(region)) if (range.slot === slot) this.spoil(range);
    }
  }

  /** Regions all of whose bytes on these slots are good. */
  goodRegions(slots: readonly number[] = [...this.members.keys()]): number[] {
    const regions = Array.from({ length: this.regions.count }, (_, region) => region);
    return regions.filter((region) =>
      this.rangesOf(region).every(({ slot, offset, length }) => {
        const [now, then] = [this.members[slot]!, this.good[slot]!];
        const end = offset + length;
        return (
          !slots.includes(slot) ||
          Buffer.compare(now.subarray(offset, end), then.subarray(offset, end)) === 0
        );
      }),
    );
  }

  expectAllGood(): void {
    for (const [slot, member] of this.members.entries()) {
      if (Buffer.compare(member, this.good[slot]!) === 0) continue;
      const at = member.findIndex((byte, index) => byte !== this.good[slot]![index]);
      expect.fail(`slot ${slot} is wrong at byte ${at}`);
    }
  }

  /** Reads of slots fail where they touch these bytes of members. */
  breakReads(...broken: readonly MemberRange[]): void {
    const healed = new Set<MemberRange>();
    this.fault = (io) => {
      const end = io.offset + lengthOf(io);
      for (const range of broken) {
        if (healed.has(range) || range.slot !== io.slot) continue;
        if (io.offset >= range.offset + range.length || end <= range.offset) continue;
        if (io.kind === "read") return { noSpace: false, message: "bad block" };
        // What is written can be read again.
        if (io.offset <= range.offset && end >= range.offset + range.length) healed.add(range);
      }
      return null;
    };
  }

  get slots(): number[] {
    return [...this.members.keys()];
  }

  get isParity(): boolean {
    return isParity(this.shape);
  }

  restart(roles: Readonly<Record<number, SyncRole>> = {}): void {
    this.control.resume();
    this.setRoles(roles);
  }
}

interface Made {
  readonly good: readonly Buffer[];
  /** Its buffers hold what the bench before has left there. */
  readonly copy: RangeCopier;
}

const made = new Map<string, Made>();

/** Made once for each shape: they take longer than the syncs of a test. */
function madeFor(shape: OracleShape, seed: number): Made {
  const key = JSON.stringify([shape, seed]);
  const known = made.get(key);
  if (known !== undefined) return known;
  const random = seededRandom(seed);
  const bytes = new Uint8Array(arrayBytes(shape)).map(() => Math.floor(random() * 256));
  const fresh = { good: writeImages(shape, bytes), copy: copierOf(shape, WINDOW_BYTES_MAX) };
  made.set(key, fresh);
  return fresh;
}
