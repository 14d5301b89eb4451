import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { convertArray } from "../../src/array/convert.ts";
import { createArray } from "../../src/array/create.ts";
import type { CreateRequest } from "../../src/array/create-request.ts";
import { examineMember } from "../../src/array/examine.ts";
import { FileMember } from "../../src/member/file.ts";
import {
  type BitmapSuperblock,
  decodeBitmapSuperblock,
  encodeBitmapSuperblock,
} from "../../src/metadata/bitmap-superblock.ts";
import { FEATURE_BITMAP_OFFSET, FEATURE_RECOVERY_OFFSET } from "../../src/metadata/features.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  ROLE_FAULTY,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { KiB, MiB, readAt, snapshot, writeAt } from "./images.ts";

const SUPERBLOCK_AT = 4096;
const BITMAP_AT = 8192;
const DATA = Buffer.from("what a client wrote");

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => (folder = temporaryFolder()));
afterEach(() => folder.dispose());

const paths = (count: number): string[] =>
  Array.from({ length: count }, (_, number) => join(folder.path, `m${number}`));

/** An array of two, with a spare; something was written, and it was stopped clean. */
async function create(request: Partial<CreateRequest> = {}): Promise<string[]> {
  const all = request.members ?? paths(3);
  await createArray({
    name: "data",
    level: "1",
    members: all,
    sizeBytes: 4 * MiB,
    bitmap: "lockless",
    assumeClean: false,
    preallocate: false,
    spares: all.length - 2,
    writeMostly: [],
    force: false,
    ...request,
  });
  const members = all.filter((member) => member !== "missing");
  for (const member of members) writeAt(member, DATA, superblockOf(member).dataOffsetSectors * 512);
  return members;
}

function superblockOf(path: string): Superblock {
  return decodeSuperblock(readAt(path, SUPERBLOCK_AT, 4096), path, 2 ** 40);
}

function editSuperblock(path: string, fields: Partial<Superblock>): void {
  writeAt(path, encodeSuperblock({ ...superblockOf(path), ...fields }), SUPERBLOCK_AT);
}

function bitmapOf(path: string): BitmapSuperblock {
  return decodeBitmapSuperblock(readAt(path, BITMAP_AT, 256), path);
}

function editBitmap(path: string, fields: Partial<BitmapSuperblock>): void {
  writeAt(path, encodeBitmapSuperblock({ ...bitmapOf(path), ...fields }), BITMAP_AT);
}

describe("a conversion", () => {
  test("writes what is to be there, on spares too, and says what it was", async () => {
    const members = await create();
    const before = superblockOf(members[0]!);
    const converted = await convertArray(members, { bitmap: "internal", regionBytes: 64 * KiB });
    expect(converted).toEqual({
      name: "data",
      uuid: before.setUuid,
      changed: true,
      before: { type: "lockless", regionSize: 64 * KiB, regions: 64 },
      bitmap: { type: "internal", regionSize: 64 * KiB, regions: 64 },
      members,
    });
    for (const member of members) {
      const superblock = superblockOf(member);
      expect(superblock).toMatchObject({
        featureMap: FEATURE_BITMAP_OFFSET,
        bitmapOffsetSectors: 8,
        events: before.events + 2,
        resyncOffsetSectors: "clean",
      });
      expect(superblock.deviceUuid).not.toBe("");
      const examined = await examineMember(member);
      expect(examined.error).toBeNull();
      expect(examined.bitmap).toMatchObject({ type: "internal", clean: 64, dirty: 0 });
      expect(readAt(member, superblock.dataOffsetSectors * 512, DATA.length)).toEqual(DATA);
    }
  });

  test("to none takes away the feature, and the place", async () => {
    const members = await create();
    expect((await convertArray(members, { bitmap: "none" })).bitmap).toBeNull();
    for (const member of members)
      expect(superblockOf(member)).toMatchObject({ featureMap: 0, bitmapOffsetSectors: 0 });
  });

  test("makes Clean of Unwritten, and forgets that it was known to be zero", async () => {
    const members = await create();
    await convertArray(members, { bitmap: "internal" });
    await convertArray(members, { bitmap: "lockless" });
    const { bitmap } = await examineMember(members[0]!);
    expect(bitmap).toMatchObject({ clean: 64, unwritten: 0, knownZero: false });
  });

  test("has forgotten nothing since, and knows nothing of before: events_cleared is now", async () => {
    const members = await create();
    for (const bitmap of ["internal", "lockless"] as const) {
      await convertArray(members, { bitmap });
      const { events } = superblockOf(members[0]!);
      expect(bitmapOf(members[0]!)).toMatchObject({ events, eventsCleared: events });
    }
  });

  test("of the region size alone keeps what else was set", async () => {
    const members = await create({ bitmap: "internal" });
    for (const member of members) editBitmap(member, { daemonSleepSeconds: 7, writeBehind: 256 });
    const { before, bitmap } = await convertArray(members, {
      bitmap: "internal",
      regionBytes: 1 * MiB,
    });
    expect([before?.regionSize, bitmap?.regionSize]).toEqual([64 * MiB, 1 * MiB]);
    const kept = { daemonSleepSeconds: 7, writeBehind: 256, regionSectors: 2048 };
    expect(bitmapOf(members[0]!)).toMatchObject(kept);
    await convertArray(members, { bitmap: "lockless" });
    expect(bitmapOf(members[0]!)).toMatchObject({ daemonSleepSeconds: 30, writeBehind: 0 });
  });

  test("keeps a log of bad blocks that is not in its way, and drops one that is", async () => {
    for (const [offset, size, stays] of [
      [264, 8, true],
      [263, 8, false],
      [16, 8, false],
      [8, 8, false],
      [-8, 8, true],
    ] as const) {
      const members = await create({ force: true });
      const log = { bblogShift: 9, bblogSizeSectors: size, bblogOffsetSectors: offset };
      for (const member of members) editSuperblock(member, log);
      await convertArray(members, { bitmap: "internal" });
      const none = { bblogShift: 0, bblogSizeSectors: 0, bblogOffsetSectors: 0 };
      expect(superblockOf(members[0]!), `at ${offset}`).toMatchObject(stays ? log : none);
    }
  });

  test("keeps to the space before the data, of the member that has least", async () => {
    const members = await create({ sizeBytes: 512 * MiB, bitmap: "none" });
    editSuperblock(members[1]!, { dataOffsetSectors: 30 });
    await expect(
      convertArray(members, { bitmap: "lockless", regionBytes: 128 * KiB }),
    ).rejects.toMatchObject({
      code: "usage",
      message: expect.stringMatching(/must be a power of two, 262144 at least/) as string,
    });
    const { bitmap } = await convertArray(members, { bitmap: "internal", regionBytes: 64 * KiB });
    expect(bitmap).toMatchObject({ regions: 8192 });
    expect(bitmapOf(members[0]!).sectorsReserved).toBe(8);
    const lockless = await convertArray(members, { bitmap: "lockless" });
    // 3072 states fit behind the header: 8192 do not.
    expect(lockless.bitmap).toMatchObject({ regionSize: 256 * KiB, regions: 2048 });
    expect(readAt(members[1]!, 24 * 512, 6 * 512).every((byte) => byte === 0)).toBe(true);
  });

  test("of a member that is one behind is a whole one, and that member is like the others", async () => {
    const members = await create({ bitmap: "internal" });
    const events = superblockOf(members[0]!).events + 1;
    for (const member of members) editBitmap(member, { events });
    editSuperblock(members[1]!, { events });
    await convertArray(members, { bitmap: "lockless" });
    expect(members.map((member) => superblockOf(member).events)).toEqual(
      members.map(() => events + 2),
    );
  });
});

describe("there is nothing to do", () => {
  test.each([
    ["of this type", "1", "lockless", undefined],
    ["of this type and region size", "1", "lockless", 64 * KiB],
    ["internal already", "1", "internal", undefined],
    ["none already", "1", "none", undefined],
    ["of a level that never has one", "0", "none", undefined],
  ] as const)("%s: nothing is written", async (_what, level, bitmap, regionBytes) => {
    const members = await create({ level, bitmap, ...(level === "0" ? TWO() : {}) });
    const before = snapshot(folder.path);
    const converted = await convertArray(members, {
      bitmap,
      ...(regionBytes === undefined ? {} : { regionBytes }),
    });
    expect(converted).toMatchObject({ changed: false });
    expect(converted.bitmap).toEqual(converted.before);
    expect(snapshot(folder.path)).toEqual(before);
  });
});

const TWO = (): Partial<CreateRequest> => ({ members: paths(2), spares: 0 });

interface Refused {
  readonly name: string;
  readonly request?: () => Partial<CreateRequest>;
  readonly edit?: (members: readonly string[]) => void;
  readonly give?: (members: readonly string[]) => readonly string[];
  readonly wanted?: Parameters<typeof convertArray>[1];
  readonly code: string;
  readonly says: RegExp;
}

const REFUSED: readonly Refused[] = [
  {
    name: "a member that is missing",
    give: ([first]) => [first!],
    code: "array-not-ready",
    says: /^data: no member of slot 1 is given$/,
  },
  {
    name: "a slot that has no member",
    request: () => ({ members: [...paths(1), "missing"], spares: 0, force: true }),
    give: ([first]) => [first!],
    code: "array-not-ready",
    says: /^data: no member of slot 1 is given$/,
  },
  {
    name: "a member that failed",
    edit: ([first]) => {
      const { roles, events } = superblockOf(first!);
      const failed = roles.map((role) => (role === 1 ? ROLE_FAULTY : role));
      editSuperblock(first!, { roles: failed, events: events + 2 });
      editBitmap(first!, { events: events + 2 });
    },
    code: "array-not-ready",
    says: /m1 would be left out: the array recorded that it failed$/,
  },
  {
    name: "a member that is being rebuilt",
    edit: ([, second]) =>
      editSuperblock(second!, {
        featureMap: FEATURE_BITMAP_OFFSET | FEATURE_RECOVERY_OFFSET,
        recoveryOffsetSectors: 128,
      }),
    code: "array-not-ready",
    says: /m1 has not been rebuilt yet$/,
  },
  {
    name: "an array that was not stopped clean",
    edit: (members) => {
      for (const member of members) editSuperblock(member, { resyncOffsetSectors: 0 });
    },
    code: "array-not-ready",
    says: /^data: it was not stopped clean$/,
  },
  {
    name: "regions that need a sync",
    edit: ([, second]) => writeAt(second!, Uint8Array.of(2, 3, 4), BITMAP_AT + 1024 + 5),
    code: "array-not-ready",
    says: /^data: 3 of 64 regions need a sync$/,
  },
  {
    name: "a bit that is set in an internal bitmap",
    request: () => ({ bitmap: "internal" }),
    wanted: { bitmap: "lockless" },
    edit: ([first]) => writeAt(first!, Uint8Array.of(1), BITMAP_AT + 256),
    code: "array-not-ready",
    says: /^data: 1 of 1 regions need a sync$/,
  },
  {
    name: "a bitmap that has missed updates",
    edit: (members) => {
      for (const member of members) editBitmap(member, { events: 0 });
    },
    code: "array-not-ready",
    says: /^data: 64 of 64 regions need a sync$/,
  },
  {
    name: "regions that nobody wrote where nothing says that they are zero",
    edit: (members) => {
      for (const member of members) editBitmap(member, { knownZero: null });
    },
    code: "never-written",
    says: /^data: 64 of 64 regions were never written, and members may differ there$/,
  },
  {
    name: "a bitmap that cannot be read",
    edit: ([first]) => writeAt(first!, new Uint8Array(4), BITMAP_AT),
    code: "bitmap-corrupt",
    says: /m0: /,
  },
  {
    name: "data that start right behind the superblock",
    request: () => ({ bitmap: "none" }),
    edit: ([, , spare]) => editSuperblock(spare!, { dataOffsetSectors: 23 }),
    code: "bitmap-no-room",
    says: /m2: its data start 3584 bytes behind the superblock: too early for a bitmap$/,
  },
  {
    name: "a region size that is no power of two",
    wanted: { bitmap: "internal", regionBytes: 96 * KiB },
    code: "usage",
    says: /^convert: a region size of 98304 bytes is not possible here: .* 4096 at least/,
  },
  {
    name: "a region size without a bitmap",
    wanted: { bitmap: "none", regionBytes: 64 * KiB },
    code: "usage",
    says: /^convert: a region size asks for a bitmap$/,
  },
  {
    name: "a bitmap at level 0",
    request: () => ({ ...TWO(), level: "0", bitmap: "none" }),
    code: "usage",
    says: /^convert: level 0 has no bitmap: there is nothing to sync$/,
  },
  {
    name: "a bitmap at level linear",
    request: () => ({ ...TWO(), level: "linear", bitmap: "none" }),
    code: "usage",
    says: /^convert: level linear has no bitmap/,
  },
  {
    name: "a member given twice",
    give: (members) => [...members, members[0]!],
    code: "member-listed-twice",
    says: /m0 is listed twice/,
  },
];

describe("is refused, and nothing is written", () => {
  test.each(REFUSED)("$name", async ({ request, edit, give, wanted, code, says }) => {
    const asked = request?.() ?? {};
    const made = await create(asked);
    edit?.(made);
    const before = snapshot(folder.path);
    const work = convertArray(give?.(made) ?? made, wanted ?? { bitmap: "internal" });
    await expect(work).rejects.toMatchObject({
      code,
      message: expect.stringMatching(says) as string,
    });
    expect(snapshot(folder.path)).toEqual(before);
  });

  test("members of two arrays", async () => {
    const one = await create();
    const other = join(folder.path, "other");
    mkdirSync(other);
    const members = [join(other, "a"), join(other, "b")];
    await create({ name: "other", members, spares: 0 });
    await expect(convertArray([...one, ...members], { bitmap: "none" })).rejects.toMatchObject({
      code: "array-mismatch",
      message: `${members[0]} is not of the array of ${one[0]}`,
    });
  });

  test("a member that another program has open", async () => {
    const members = await create();
    const before = snapshot(folder.path);
    const held = await FileMember.open(members[2]!, { readOnly: false });
    try {
      await expect(convertArray(members, { bitmap: "none" })).rejects.toMatchObject({
        code: "member-in-use",
        message: `${members[2]} is in use`,
      });
    } finally {
      await held.close();
    }
    expect(snapshot(folder.path)).toEqual(before);
    // Nothing is left locked by the refusal.
    expect((await convertArray(members, { bitmap: "none" })).changed).toBe(true);
  });
});
