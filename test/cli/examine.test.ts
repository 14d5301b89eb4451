import { describe, expect, test } from "vitest";
import { arrayState, renderExamined } from "../../src/cli/render/examine.ts";
import { mdSuperblock } from "../../src/array/md-fields.ts";
import { emptySuperblock, ROLE_FAULTY, ROLE_SPARE } from "../../src/metadata/superblock.ts";

const superblock = mdSuperblock({
  ...emptySuperblock(4),
  featureMap: 1,
  setUuid: "00112233:44556677:8899aabb:ccddeeff",
  setName: "data",
  ctime: { seconds: 1_700_000_000, microseconds: 5 },
  level: 1,
  raidDisks: 3,
  sizeSectors: 2_097_152,
  dataSizeSectors: 2_097_152,
  dataOffsetSectors: 2048,
  recoveryOffsetSectors: 0, // means nothing without its feature bit
  resyncOffsetSectors: "clean",
  reshapePositionSectors: "none",
  devNumber: 1,
  deviceUuid: "01010101:02020202:03030303:04040404",
  utime: { seconds: 1_700_000_060, microseconds: 7 },
  events: 17,
  roles: [0, 2, ROLE_FAULTY, ROLE_SPARE],
});

const bitmap = {
  type: "lockless",
  events: 17,
  events_cleared: 9,
  regionSize: 65_536,
  regions: 16_384,
  unwritten: 16_000,
  clean: 380,
  dirty: 1,
  needSync: 2,
  syncing: 1,
  knownZero: true,
} as const;

describe("an examined member", () => {
  test("is shown as mdadm shows it, and its bitmap too", () => {
    expect(renderExamined({ path: "/b.img", error: null, superblock, bitmap })).toBe(`/b.img:
              Magic : a92b4efc
            Version : 1.2
        Feature Map : 0x1
         Array UUID : 00112233:44556677:8899aabb:ccddeeff
               Name : data
      Creation Time : 2023-11-14 22:13:20 UTC
         Raid Level : raid1
       Raid Devices : 3
     Avail Dev Size : 2097152 sectors (1 GiB)
         Array Size : 2097152 sectors (1 GiB)
      Used Dev Size : 2097152 sectors (1 GiB)
        Data Offset : 2048 sectors
       Super Offset : 8 sectors
              State : clean
        Device UUID : 01010101:02020202:03030303:04040404
        Update Time : 2023-11-14 22:14:20 UTC
           Checksum : ${superblock.sb_csum.toString(16)} - correct
             Events : 17
        Device Role : Active device 2
        Array State : A.A ('A' == active, '.' == missing)
             Bitmap : lockless, 16384 regions of 64 KiB
      Bitmap Events : 17, cleared at 9
  Unwritten Regions : read as zeroes
            Regions : 16000 unwritten, 380 clean, 1 dirty, 2 need sync, 1 syncing
`);
  });

  test("with an internal bitmap is shown without states that a bit cannot tell", () => {
    const internal = {
      ...bitmap,
      type: "internal" as const,
      ...{ regionSize: 2 ** 26, regions: 16, knownZero: false },
      ...{ unwritten: 0, clean: 12, dirty: 4, needSync: 0, syncing: 0 },
    };
    const text = renderExamined({ path: "/b", error: null, superblock, bitmap: internal });
    const lines = text.split("\n").map((line) => line.trim());
    expect(lines.slice(-4)).toEqual([
      "Bitmap : internal, 16 regions of 64 MiB",
      "Bitmap Events : 17, cleared at 9",
      "Regions : 12 clean, 4 dirty",
      "",
    ]);
  });

  const shown = (change: Partial<typeof superblock>): Map<string, string> => {
    const changed = { ...superblock, ...change };
    const text = renderExamined({ path: "/b", error: null, superblock: changed, bitmap: null });
    const lines = text.split("\n").map((line) => line.split(" : ").map((part) => part.trim()));
    return new Map(lines.map(([label, value]) => [label ?? "", value ?? ""]));
  };

  test.each([
    [5, 2, "left-symmetric", "4194304 sectors (2 GiB)"],
    [6, 8, "ddf-zero-restart", "4194304 sectors (2 GiB)"],
    [10, 0x102, "n2", "4194304 sectors (2 GiB)"],
    [10, 0x10201, "o2", "4194304 sectors (2 GiB)"],
  ])("of level %i, layout %i, shows it by name: %s", (level, layout, name, size) => {
    const raid_disks = level === 5 ? 3 : 4;
    const fields = shown({ level, layout, chunksize: 1024, raid_disks });
    expect(fields.get("Raid Level")).toBe(`raid${level}`);
    expect(fields.get("Layout")).toBe(name);
    expect(fields.get("Chunk Size")).toBe("512 KiB");
    expect(fields.get("Array Size")).toBe(size);
  });

  test("of a level without layouts shows none", () => {
    const four = shown({ level: 4, chunksize: 128 });
    expect([four.has("Layout"), four.get("Chunk Size")]).toEqual([false, "64 KiB"]);
    const one = shown({});
    expect([one.has("Layout"), one.has("Chunk Size")]).toEqual([false, false]);
    const linear = shown({ level: -1, chunksize: 128 });
    expect([linear.get("Raid Level"), linear.get("Rounding")]).toEqual(["linear", "64 KiB"]);
  });

  test.each([
    [0x1000, 1, "original"],
    [0x1000, 2, "alternate"],
    [0, 1, "unknown"],
  ])("of level 0 with features 0x%i and layout %i: %s", (feature_map, layout, name) => {
    const fields = shown({ level: 0, feature_map, layout, chunksize: 1024, size: 0 });
    expect(fields.get("Layout")).toBe(name);
    expect([fields.has("Array Size"), fields.has("Used Dev Size")]).toEqual([false, false]);
  });

  test("of an array that cannot be shows numbers, and no size", () => {
    const fields = shown({ level: 6, layout: 18, chunksize: 1024, raid_disks: 4 });
    expect(fields.get("Layout")).toBe("18");
    expect(fields.has("Array Size")).toBe(false);
  });

  test("that cannot be read shows why", () => {
    const error = "/b.img has no superblock";
    expect(renderExamined({ path: "/b.img", error, superblock: null, bitmap: null })).toBe(
      "/b.img:\n  Error : /b.img has no superblock\n",
    );
  });

  test("that is being rebuilt shows how far", () => {
    const rebuilding = { ...superblock, feature_map: 3, recovery_offset: 4096, resync_offset: 0 };
    const text = renderExamined({ path: "/b", error: null, superblock: rebuilding, bitmap: null });
    expect(text).toContain("Recovery Offset : 4096 sectors\n");
    expect(text).toContain("State : active\n");
  });

  test.each([
    [0, "Active device 0"],
    [2, "faulty"],
    [3, "spare"],
    [9, "spare"],
  ])("with device number %d is: %s", (dev_number, role) => {
    const text = renderExamined({
      path: "/b",
      error: null,
      superblock: { ...superblock, dev_number },
      bitmap: null,
    });
    expect(text).toContain(`Device Role : ${role}\n`);
  });

  test("knows the array's slots", () => {
    expect(arrayState({ ...superblock, raid_disks: 2, dev_roles: [0, 1] })).toBe("AA");
    expect(arrayState({ ...superblock, raid_disks: 2, dev_roles: [ROLE_SPARE, 1] })).toBe(".A");
  });
});
