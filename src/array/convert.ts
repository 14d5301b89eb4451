/** Another bitmap for an array that nobody serves. */
import { type Clock, systemClock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { UpdateStamp } from "../metadata/known-zero.ts";
import { type BitmapKind, regionCount } from "../metadata/layout.ts";
import {
  encodeSuperblock,
  type Superblock,
  SUPERBLOCK_OFFSET_BYTES,
} from "../metadata/superblock.ts";
import { timestampAt } from "../metadata/timestamp.ts";
import { allocate, isUnsupported } from "../platform/fallocate.ts";
import { type AssemblyPlan, groupByArray, type MemberPlan, planAssembly } from "./assemble.ts";
import {
  BITMAP_START_BYTES,
  type BitmapPlan,
  caughtUp,
  convertedSuperblock,
  encodePlanned,
  isAlready,
  planBitmap,
  refuseUnready,
  refuseWanted,
  type WantedBitmap,
} from "./convert-plan.ts";
import { hasBitmap } from "./headers.ts";
import { type LoadedArray, type OpenMember, readArray } from "./load.ts";
import { openMembers } from "./open.ts";
import { settleAll, settleEach } from "./settle.ts";

export interface BitmapSummary {
  readonly type: BitmapKind;
  /** Bytes. */
  readonly regionSize: number;
  readonly regions: number;
}

export interface ConvertedArray {
  readonly name: string;
  /** As mdadm prints it. */
  readonly uuid: string;
  /** False: it was so already, and nothing was written. */
  readonly changed: boolean;
  /** Null for none, here and below. */
  readonly before: BitmapSummary | null;
  readonly bitmap: BitmapSummary | null;
  /** Absolute paths. */
  readonly members: readonly string[];
}

/**
 * Gives the array of `paths`, all of its members, the bitmap that is wanted, on stable storage when
 * it resolves. What clients wrote is never touched, and whatever fails or is cut short on the way
 * leaves an array that can be served, and converted again.
 *
 * Throws an NbdRaidError: usage, array-mismatch, array-not-ready, never-written, bitmap-no-room,
 * no-space, io-error; what keeps the array from being assembled; and about a member
 * member-listed-twice, -not-file, -unreadable, -in-use, -foreign, -too-small.
 */
export async function convertArray(
  paths: readonly string[],
  wanted: WantedBitmap,
  clock: Clock = systemClock,
): Promise<ConvertedArray> {
  const members = await openMembers(paths, false);
  try {
    return await convertMembers(members, wanted, clock);
  } finally {
    await settleAll(members.map(({ member }) => member.close()));
  }
}

/** The same of members that are open, and stay so. */
export async function convertMembers(
  members: readonly OpenMember[],
  wanted: WantedBitmap,
  clock: Clock,
): Promise<ConvertedArray> {
  const plan = planOf(members);
  refuseWanted(plan, wanted);
  if (plan.refusal !== null) throw plan.refusal;
  const loaded = await readArray(plan, { oneThread: true });
  const before = summaryOf(loaded);
  const { name, uuid } = loaded.description;
  const result = { name, uuid, before, members: members.map(({ path }) => path) };
  if (isAlready(plan, loaded, wanted)) return { ...result, changed: false, bitmap: before };
  refuseUnready(plan, loaded);
  const bitmap = planBitmap(plan, loaded, wanted);
  await new Conversion(plan, loaded, bitmap, clock).run();
  return { ...result, changed: true, bitmap: bitmap === null ? null : summaryOfPlan(bitmap) };
}

function planOf(members: readonly OpenMember[]): AssemblyPlan<OpenMember> {
  const [, other] = groupByArray(members);
  if (other === undefined) return planAssembly(members);
  const message = `${other[0]!.path} is not of the array of ${members[0]!.path}`;
  throw new NbdRaidError("array-mismatch", message);
}

function summaryOf({ description, regions }: LoadedArray): BitmapSummary | null {
  const { bitmap: type, regionBytes } = description;
  return type === "none" ? null : { type, regionSize: regionBytes, regions: regions.count };
}

function summaryOfPlan({ kind, regionBytes, trackedBytes }: BitmapPlan): BitmapSummary {
  return { type: kind, regionSize: regionBytes, regions: regionCount(trackedBytes, regionBytes) };
}

/**
 * The writes, each step durable on every member before the next:
 *
 * 1. the freshest superblock's update, on members that have missed it;
 * 2. superblocks without a bitmap, if there is one, one event further;
 * 3. the new bitmap, which nothing refers to yet, with the events of step 4;
 * 4. superblocks with the bitmap, one event further.
 *
 * A cut within a step leaves superblocks one event apart, which all count; the freshest says
 * whether there is a bitmap, and if it says so every member holds it.
 */
class Conversion {
  private readonly plan: AssemblyPlan<OpenMember>;
  private readonly loaded: LoadedArray;
  private readonly bitmap: BitmapPlan | null;
  private readonly clock: Clock;

  constructor(
    plan: AssemblyPlan<OpenMember>,
    loaded: LoadedArray,
    bitmap: BitmapPlan | null,
    clock: Clock,
  ) {
    this.plan = plan;
    this.loaded = loaded;
    this.bitmap = bitmap;
    this.clock = clock;
  }

  async run(): Promise<void> {
    await asOperatingError("nothing was changed", async () => {
      await this.allocate();
      // The new bitmap says that members are equal: nothing of that may still be in a cache.
      await settleEach(this.plan.members, ({ found }) => found.member.sync());
    });
    const again = "the data are as they were, and convert can be run again";
    await asOperatingError(again, async () => {
      const had = this.plan.members.some(({ found }) => hasBitmap(found.superblock));
      let { events } = this.plan.freshest;
      await this.catchUp();
      if (had || this.bitmap === null) await this.writeSuperblocks(this.stamp(++events), null);
      if (this.bitmap === null) return;
      const stamp = this.stamp(++events);
      const bytes = encodePlanned(this.bitmap, this.loaded, stamp);
      await settleEach(this.plan.members, ({ found }) =>
        found.member.writeDurable(bytes, BITMAP_START_BYTES),
      );
      await this.writeSuperblocks(stamp, this.bitmap);
    });
  }

  private stamp(events: number): UpdateStamp {
    return { events, utime: timestampAt(this.clock.wallTime()) };
  }

  private async catchUp(): Promise<void> {
    const { members, freshest } = this.plan;
    const behind = members.filter(({ found }) => found.superblock.events < freshest.events);
    await this.writeEach(behind, (superblock) => caughtUp(superblock, freshest));
  }

  private async writeSuperblocks(stamp: UpdateStamp, bitmap: BitmapPlan | null): Promise<void> {
    await this.writeEach(this.plan.members, (superblock) =>
      convertedSuperblock(superblock, this.plan, stamp, bitmap),
    );
  }

  private async writeEach(
    members: readonly MemberPlan<OpenMember>[],
    next: (before: Superblock) => Superblock,
  ): Promise<void> {
    await settleEach(members, ({ found }) =>
      found.member.writeDurable(encodeSuperblock(next(found.superblock)), SUPERBLOCK_OFFSET_BYTES),
    );
  }

  /** Space for all that will be written, so that the lack of it is found before the first write. */
  private async allocate(): Promise<void> {
    const end =
      this.bitmap === null
        ? BITMAP_START_BYTES
        : BITMAP_START_BYTES + this.bitmap.reservedSectors * 512;
    const length = end - SUPERBLOCK_OFFSET_BYTES;
    await settleEach(this.plan.members, async ({ found: { member } }) => {
      if (member.descriptor === null) return;
      try {
        await allocate(member.descriptor, SUPERBLOCK_OFFSET_BYTES, length);
      } catch (error) {
        if (!isUnsupported(error)) throw new MemberError(member.path, "allocate", error);
      }
    });
  }
}

/** What a member reports, as an entry of the catalogue that says what `state` the array is in. */
async function asOperatingError(state: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof MemberError)) throw error;
    const code = error.noSpace ? "no-space" : "io-error";
    throw new NbdRaidError(code, `${error.message}; ${state}`, { cause: error });
  }
}
