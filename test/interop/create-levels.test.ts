/** mdadm reads images of every level and layout, and agrees with what was asked for. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { createArray } from "../../src/array/create.ts";
import { testWith } from "./fixtures.ts";
import { dataArea, mdadmExamine } from "./images.ts";

const test = testWith("mdadm");

const KIB = 1024;
const MIB = 1024 * KIB;
const CHUNK = 64 * KIB;
/**
 * Whole chunks of two and of three far copies: of others, mdadm says what level 10 would have if
 * chunks could be divided. No whole rows otherwise.
 */
const COMPONENT = 198 * CHUNK;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "nbd-raid-"));
});
afterEach(() => rm(folder, { recursive: true }));

interface Made {
  readonly level: string;
  readonly layout?: string;
  readonly slots: number;
  /** What mdadm calls the layout; without: mdadm names none. */
  readonly says?: string;
}

const PARITY_LAYOUTS = [
  "left-asymmetric",
  "right-asymmetric",
  "left-symmetric",
  "right-symmetric",
  "parity-first",
  "parity-last",
];
const DDF_LAYOUTS = ["ddf-zero-restart", "ddf-N-restart", "ddf-N-continue"];
const COPIES = { n: "near", f: "far", o: "offset" } as const;

const named = (level: string, slots: number) => (layout: string) => {
  return { level, layout, slots, says: layout };
};
const ARRAYS: Made[] = [
  ...["original", "alternate"].map(named("0", 3)),
  { level: "linear", slots: 2 },
  { level: "1", slots: 2 },
  { level: "4", slots: 3 },
  { level: "5", slots: 2, says: "left-symmetric" },
  ...PARITY_LAYOUTS.map(named("5", 4)),
  ...[...PARITY_LAYOUTS, ...DDF_LAYOUTS].map(named("6", 5)),
  ...["n2", "n3", "f2", "f3", "o2", "o3"].flatMap((layout) =>
    [3, 4, 5].map((slots) => {
      const copies = layout.slice(1);
      return {
        level: "10",
        layout,
        slots,
        says: `${COPIES[layout[0] as keyof typeof COPIES]}=${copies}`,
      };
    }),
  ),
];

const cases = ARRAYS.map((made) => {
  const title = `level ${made.level}, ${made.layout ?? "the default layout"}, ${made.slots} slots`;
  return [title, made] as const;
});

for (const [title, { level, layout, slots, says }] of cases) {
  test(`mdadm reads ${title}`, async () => {
    const members = Array.from({ length: slots }, (_, slot) => join(folder, `m${slot}`));
    const redundant = level !== "0" && level !== "linear";
    const striped = level !== "1" && level !== "linear";
    const { uuid, sizeBytes } = await createArray({
      name: "data",
      level,
      members,
      sizeBytes: COMPONENT,
      bitmap: redundant ? "lockless" : "none",
      assumeClean: false,
      preallocate: false,
      spares: 0,
      writeMostly: [],
      force: false,
      ...(striped ? { chunkBytes: CHUNK } : {}),
      ...(layout === undefined ? {} : { layout }),
    });
    for (const [slot, member] of members.entries()) {
      const fields = await mdadmExamine(member);
      expect(fields.get("Raid Level")).toBe(level === "linear" ? level : `raid${level}`);
      expect(fields.get("Raid Devices")).toBe(String(slots));
      expect(fields.get("Array UUID")).toBe(uuid);
      expect(fields.get("Layout")).toBe(says);
      expect(fields.get("Chunk Size")).toBe(striped ? "64K" : undefined);
      expect(fields.get("Device Role")).toBe(`Active device ${slot}`);
      expect(fields.get("Array State")).toMatch(new RegExp(`^A{${slots}} `));
      expect(fields.get("State")).toBe("clean");
      expect(fields.get("Checksum")).toMatch(/ - correct$/);
      expect(fields.has("Internal Bitmap")).toBe(redundant);
      const available = Number(fields.get("Avail Dev Size")?.split(" ")[0]) * 512;
      expect(available).toBe((await dataArea(member)).length);
      expect(available).toBe(COMPONENT);
      if (redundant) expect(sizeInWords(fields)).toBe(sizeBytes);
      else expect(sizeBytes).toBe(slots * COMPONENT);
    }
  });
}

/** What is no whole chunk is left out by md, and counted by mdadm. */
function sizeInWords(fields: ReadonlyMap<string, string>): number {
  const bytes = Number(fields.get("Array Size")?.split(" ")[0]) * KIB;
  return bytes - (bytes % CHUNK);
}

test("mdadm reads what is used of larger members, of whole chunks", async () => {
  const members = ["a", "b", "c"].map((name) => join(folder, name));
  const common = { name: "data", bitmap: "lockless", preallocate: false } as const;
  const rest = { assumeClean: false, spares: 0, writeMostly: [], force: true };
  await createArray({ ...common, ...rest, level: "5", members, sizeBytes: 20 * MIB });
  const { sizeBytes } = await createArray({
    ...common,
    ...rest,
    level: "5",
    members,
    sizeBytes: 10 * MIB + 1,
    chunkBytes: CHUNK,
  });
  const fields = await mdadmExamine(members[0]!);
  const used = 10 * MIB + CHUNK;
  expect(fields.get("Used Dev Size")).toMatch(new RegExp(`^${used / 512} sectors `));
  expect(fields.get("Array Size")).toMatch(new RegExp(`^${(2 * used) / KIB} KiB `));
  expect(sizeBytes).toBe(2 * used);
});
