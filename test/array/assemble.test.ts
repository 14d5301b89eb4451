import { describe, expect, test } from "vitest";
import { type Found, groupByArray, planAssembly } from "../../src/array/assemble.ts";
import { NbdRaidError } from "../../src/errors.ts";
import {
  FEATURE_BITMAP_OFFSET,
  FEATURE_RECOVERY_BITMAP,
  FEATURE_RECOVERY_OFFSET,
} from "../../src/metadata/features.ts";
import {
  emptySuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
  type Superblock,
} from "../../src/metadata/superblock.ts";

/**
 * The planner as a table: what members say of themselves and of each other goes in, what would
 * become of them comes out. Members are device numbers 0, 1, 2; all are at events 10 unless said.
 */
const F = ROLE_FAULTY;
const S = ROLE_SPARE;

function member(
  devNumber: number,
  roles: readonly number[],
  fields: Partial<Superblock> = {},
): Found {
  const superblock: Superblock = {
    ...emptySuperblock(8),
    setUuid: "11111111:22222222:33333333:44444444",
    setName: "data",
    level: 1,
    raidDisks: 2,
    sizeSectors: 2048,
    ctime: { seconds: 1_700_000_000, microseconds: 1 },
    deviceUuid: `00000000:00000000:00000000:0000000${devNumber}`,
    devNumber,
    events: 10,
    resyncOffsetSectors: "clean",
    roles: [...roles, ...new Array<number>(8 - roles.length).fill(S)],
    ...fields,
  };
  return { path: `/images/${devNumber}`, superblock, bitmap: null };
}

const recovering = (sectors: number | "done", byBitmap = false): Partial<Superblock> => ({
  featureMap: FEATURE_RECOVERY_OFFSET | (byBitmap ? FEATURE_RECOVERY_BITMAP : 0),
  recoveryOffsetSectors: sectors,
});

const RAID5 = { level: 5, layout: 2, chunksizeSectors: 8 };
const withBitmap: Partial<Superblock> = { featureMap: FEATURE_BITMAP_OFFSET };

interface Case {
  readonly name: string;
  readonly found: readonly Found[];
  /** In order of `found`: "slot use", or why it is left out. */
  readonly uses: readonly (string | RegExp)[];
  readonly missing?: readonly number[];
}

const STARTS: Case[] = [
  {
    name: "a whole array",
    found: [member(0, [0, 1]), member(1, [0, 1])],
    uses: ["0 in_sync", "1 in_sync"],
  },
  {
    name: "members in any order: slots come from roles, not from the order or device number",
    found: [member(1, [1, 0]), member(0, [1, 0])],
    uses: ["0 in_sync", "1 in_sync"],
  },
  {
    name: "one member one event behind: md wrote superblocks when the power failed",
    found: [member(0, [0, 1], { events: 11 }), member(1, [0, 1])],
    uses: ["0 in_sync", "1 in_sync"],
  },
  {
    name: "one member two events behind",
    found: [member(0, [0, 1], { events: 12 }), member(1, [0, 1])],
    uses: ["0 in_sync", /not fresh: events 10, the array has 12/],
    missing: [1],
  },
  {
    name: "a member that the freshest recorded as failed, however new it is",
    found: [member(0, [0, F], { events: 11 }), member(1, [0, 1])],
    uses: ["0 in_sync", /recorded that it failed/],
  },
  {
    name: "a member that is not here",
    found: [member(0, [0, 1])],
    uses: ["0 in_sync"],
    missing: [1],
  },
  {
    name: "a slot that nobody held when the array last ran",
    found: [member(0, [0, F])],
    uses: ["0 in_sync"],
  },
  {
    name: "a spare",
    found: [member(0, [0, 1, S]), member(1, [0, 1, S]), member(2, [0, 1, S])],
    uses: ["0 in_sync", "1 in_sync", "null spare"],
  },
  {
    name: "a spare that has missed updates: there is nothing it could lack",
    found: [
      member(0, [0, 1, S], { events: 30 }),
      member(1, [0, 1, S], { events: 30 }),
      member(2, [0, 1, S], { events: 3 }),
    ],
    uses: ["0 in_sync", "1 in_sync", "null spare"],
  },
  {
    name: "a spare with more events than the members: it does not speak for the array",
    found: [member(0, [0, 1, S]), member(1, [0, 1, S]), member(2, [S, S, S], { events: 99 })],
    uses: ["0 in_sync", "1 in_sync", "null spare"],
  },
  {
    name: "a spare that took a slot, and whose own superblock does not know: it holds nothing",
    found: [member(0, [0, F, 1], { events: 11 }), member(2, [0, F, S])],
    uses: ["0 in_sync", "1 rebuilding from 0"],
  },
  {
    name: "a member that had a slot and is called a spare now",
    found: [
      member(0, [0, 1, S], { events: 11 }),
      member(1, [0, 1, S], { events: 11 }),
      member(2, [0, 2, 1]),
    ],
    uses: ["0 in_sync", "1 in_sync", /does not count it/],
  },
  {
    name: "a member that is rebuilt, from the offset that it recorded",
    found: [member(0, [0, 1]), member(1, [0, 1], recovering(600))],
    uses: ["0 in_sync", `1 rebuilding from ${600 * 512}`],
  },
  {
    name: "a raid5 as mdadm makes it: clean, and its last member is built from the others",
    found: [0, 1, 2].map((slot) =>
      member(slot, [0, 1, 2], { ...RAID5, raidDisks: 3, ...(slot === 2 ? recovering(0) : {}) }),
    ),
    uses: ["0 in_sync", "1 in_sync", "2 rebuilding from 0"],
  },
  {
    name: "a member that is rebuilt by bitmap",
    found: [member(0, [0, 1]), member(1, [0, 1], recovering(0, true))],
    uses: ["0 in_sync", "1 rebuilding by bitmap from 0"],
  },
  {
    name: "a rebuilt member that is one behind: its own offset counts",
    found: [member(0, [0, 1], { events: 11 }), member(1, [0, 1], recovering(100))],
    uses: ["0 in_sync", `1 rebuilding from ${100 * 512}`],
  },
  {
    name: "a recovery that md finished",
    found: [member(0, [0, 1]), member(1, [0, 1], recovering("done"))],
    uses: ["0 in_sync", "1 in_sync"],
  },
  {
    name: "an offset without its feature bit",
    found: [member(0, [0, 1]), member(1, [0, 1], { recoveryOffsetSectors: 600 })],
    uses: ["0 in_sync", "1 in_sync"],
  },
  ...(["sizeSectors", "layout", "chunksizeSectors", "level"] as const).map((field) => ({
    name: `a member of another ${field}`,
    found: [member(0, [0, 1], { events: 11 }), member(1, [0, 1], { [field]: 4096 })],
    uses: ["0 in_sync", /another shape/],
    missing: [1],
  })),
  {
    name: "a member of an array that was made at another time",
    found: [
      member(0, [0, 1], { events: 11 }),
      member(1, [0, 1], { ctime: { seconds: 1, microseconds: 1 } }),
    ],
    uses: ["0 in_sync", /another shape/],
    missing: [1],
  },
];

function useOf({ slot, use, recovery, reason }: ReturnType<typeof planAssembly>["members"][0]) {
  if (use === "left out") return reason;
  const by = recovery?.byBitmap === true ? " by bitmap" : "";
  return `${slot} ${use}${recovery === null ? "" : `${by} from ${recovery.offset}`}`;
}

describe("starts", () => {
  test.each(STARTS)("$name", ({ found, uses, missing = [] }) => {
    const plan = planAssembly(found);
    expect(plan.refusal).toBeNull();
    expect(plan.missingActive).toEqual(missing);
    for (const [index, planned] of plan.members.entries()) {
      expect(planned.found).toBe(found[index]);
      const expected = uses[index]!;
      if (typeof expected === "string") expect(useOf(planned)).toBe(expected);
      else expect(useOf(planned)).toMatch(expected);
      expect(planned.recovery === null).toBe(planned.use !== "rebuilding");
    }
  });

  test("whatever the order of the members is", () => {
    for (const { found, uses, missing = [] } of STARTS) {
      const plan = planAssembly([...found].reverse());
      expect(plan.missingActive).toEqual(missing);
      for (const [index, planned] of [...plan.members].reverse().entries()) {
        expect(useOf(planned)).toMatch(uses[index]!);
      }
    }
  });
});

const corrupt = new NbdRaidError("bitmap-corrupt", "/images/1: the bitmap is damaged");

const REFUSED: (Omit<Case, "uses"> & { readonly code: string; readonly says: RegExp })[] = [
  {
    name: "two copies of one member",
    found: [member(0, [0, 1]), { ...member(0, [0, 1]), path: "/images/copy" }],
    code: "member-clash",
    says: /\/images\/0 and \/images\/copy are copies/,
  },
  {
    name: "two members for one slot",
    found: [member(0, [0, 1, 1]), member(1, [0, 1, 1]), member(2, [0, 1, 1])],
    code: "member-clash",
    says: /\/images\/1 and \/images\/2 both claim slot 1/,
  },
  {
    name: "members that each went on without the other",
    found: [member(0, [0, F], { events: 40 }), member(1, [F, 1], { events: 12 })],
    code: "split-brain",
    says: /\/images\/0 and \/images\/1 each record/,
  },
  {
    name: "such members among others that agree with one of them",
    found: [
      member(0, [0, 1, F], { raidDisks: 3, events: 20 }),
      member(1, [0, 1, F], { raidDisks: 3, events: 20 }),
      member(2, [F, F, 2], { raidDisks: 3, events: 15 }),
    ],
    code: "split-brain",
    says: /split brain/,
  },
  {
    name: "a level without its chunks",
    found: [member(0, [0, 1], { level: 5 }), member(1, [0, 1], { level: 5 })],
    code: "superblock-unsupported",
    says: /chunk/,
  },
  {
    name: "a raid5 that lacks two members",
    found: [member(0, [0, 1, 2], { ...RAID5, raidDisks: 3 })],
    code: "array-incomplete",
    says: /only 1 in sync are here, of 3/,
  },
  {
    name: "a raid0 that lacks one",
    found: [member(0, [0, 1], { ...RAID5, level: 0, layout: 1 })],
    code: "array-incomplete",
    says: /only 1 in sync are here, of 2/,
  },
  {
    name: "a raid5 that is dirty and degraded",
    found: [0, 1].map((slot) =>
      member(slot, [0, 1, F], { ...RAID5, raidDisks: 3, resyncOffsetSectors: 0 }),
    ),
    code: "dirty-degraded",
    says: /write hole/,
  },
  {
    name: "a level that md alone knows",
    found: [member(0, [0, 1], { level: -4 })],
    code: "superblock-unsupported",
    says: /level -4/,
  },
  {
    name: "no member in sync: one alone that is rebuilt",
    found: [member(1, [0, 1], recovering(600))],
    code: "array-incomplete",
    says: /no member in sync/,
  },
  {
    name: "no member in sync: a spare alone",
    found: [member(2, [0, 1, S])],
    code: "array-incomplete",
    says: /no member in sync/,
  },
  {
    name: "a member in sync whose bitmap cannot be read",
    found: [member(0, [0, 1]), { ...member(1, [0, 1], withBitmap), bitmap: corrupt }],
    code: "bitmap-corrupt",
    says: /damaged/,
  },
];

describe("is refused", () => {
  test("unless forced, where parity may not match; not where it was stopped clean", () => {
    const degraded = (resyncOffsetSectors: number | "clean") =>
      [0, 1].map((slot) =>
        member(slot, [0, 1, F], { ...RAID5, raidDisks: 3, resyncOffsetSectors }),
      );
    expect(planAssembly(degraded(0), { force: true }).refusal).toBeNull();
    expect(planAssembly(degraded("clean")).refusal).toBeNull();
  });

  test.each(REFUSED)("$name", ({ found, code, says }) => {
    for (const order of [found, [...found].reverse()]) {
      const { refusal } = planAssembly(order);
      expect(refusal?.code).toBe(code);
      if (order === found) expect(refusal?.message).toMatch(says);
    }
  });

  test("not for a damaged bitmap on a member that is left out or rebuilt", () => {
    const whole = member(0, [0, 1], withBitmap);
    const leftOut = { ...member(1, [0, 1], { ...withBitmap, events: 1 }), bitmap: corrupt };
    expect(planAssembly([whole, leftOut]).refusal).toBeNull();
    const fields = recovering(0);
    const featureMap = fields.featureMap! | FEATURE_BITMAP_OFFSET;
    const rebuilt = { ...member(1, [0, 1], { ...fields, featureMap }), bitmap: corrupt };
    expect(planAssembly([whole, rebuilt]).refusal).toBeNull();
  });

  test("not for a damaged bitmap that the array has given up since", () => {
    const behind = { ...member(1, [0, 1], withBitmap), bitmap: corrupt };
    expect(planAssembly([member(0, [0, 1], { events: 11 }), behind]).refusal).toBeNull();
  });

  test("not for a member that one other calls failed, and that does not call that one failed", () => {
    const { refusal } = planAssembly([member(0, [0, F], { events: 12 }), member(1, [0, 1])]);
    expect(refusal).toBeNull();
  });
});

test("members are grouped by the array they belong to, in the order in which arrays are met", () => {
  const other = { setUuid: "99999999:99999999:99999999:99999999" };
  const found = [member(0, [0, 1]), member(0, [0, 1], other), member(1, [0, 1])];
  expect(groupByArray(found)).toEqual([[found[0], found[2]], [found[1]]]);
});
