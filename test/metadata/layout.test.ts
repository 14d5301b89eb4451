import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  BITMAP_RESERVED_SECTORS,
  deviceBytesFor,
  type LayoutRequest,
  planLayout,
  regionBytesAllowed,
  regionBytesFor,
  regionBytesLeast,
  regionCount,
} from "../../src/metadata/layout.ts";
import { holds } from "./properties.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

const MIRROR: LayoutRequest = {
  path: "/images/a",
  deviceBytes: GIB,
  level: "1",
  raidDisks: 2,
  spares: 0,
  chunkBytes: null,
  bitmap: "lockless",
};
const STRIPED: LayoutRequest = { ...MIRROR, level: "5", raidDisks: 3, chunkBytes: 512 * KIB };

describe("planLayout", () => {
  it.each([
    ["100 MiB", 100 * MIB, 2048],
    ["1 GiB", GIB, 4096],
    ["100 GiB", 100 * GIB, 133_120],
    ["256 GiB", 256 * GIB, 264_192],
    ["16 TiB", 16 * TIB, 264_192],
  ])("puts the data of a mirror of %s where mdadm does", (_, deviceBytes, sectors) => {
    expect(planLayout({ ...MIRROR, deviceBytes }).dataOffsetSectors).toBe(sectors);
  });

  it("leaves two chunks of headroom on a small striped member", () => {
    const layout = planLayout({ ...STRIPED, deviceBytes: 100 * MIB });
    expect(layout.dataOffsetSectors).toBe(4096);
  });

  it("gives the data all that is behind the data offset, in whole sectors", () => {
    const layout = planLayout({ ...MIRROR, deviceBytes: GIB + 700 });
    expect(layout.dataSizeSectors).toBe(2_097_152 + 1 - 4096);
  });

  it.each<[string, LayoutRequest, number]>([
    ["64 KiB at level 1", { ...MIRROR, deviceBytes: GIB + 130 * 512 }, 2_093_184],
    ["chunks at level 5", { ...STRIPED, deviceBytes: GIB + 1023 * 512 }, 2_093_056],
    ["sectors at level linear", { ...MIRROR, level: "linear", deviceBytes: GIB + 512 }, 2_093_057],
  ])("uses whole %s", (_, request, sectors) => {
    expect(planLayout(request).usedSizeSectors).toBe(sectors);
  });

  it("puts a lockless bitmap 8 sectors behind the superblock, clear of the data", () => {
    const layout = planLayout({ ...MIRROR, deviceBytes: 2 * MIB });
    expect(layout.bitmapOffsetSectors).toBe(8);
    expect(layout.dataOffsetSectors).toBeGreaterThanOrEqual(16 + BITMAP_RESERVED_SECTORS);
  });

  it("leaves the space for a bitmap where there is none, so that one can be added", () => {
    const none = planLayout({ ...MIRROR, bitmap: "none" });
    expect(none).toEqual({ ...planLayout(MIRROR), bitmapOffsetSectors: 0 });
  });

  it.each([
    [2, 0, 128],
    [120, 8, 128],
    [128, 1, 384],
    [1920, 0, 1920],
  ])("gives %i slots and %i spares %i roles", (raidDisks, spares, maxDev) => {
    expect(planLayout({ ...MIRROR, raidDisks, spares }).maxDev).toBe(maxDev);
  });

  it("refuses more devices than a superblock has roles", () => {
    expect(() => planLayout({ ...MIRROR, raidDisks: 1920, spares: 1 })).toThrow(
      expect.objectContaining({ code: "usage" }),
    );
  });

  it.each<[string, LayoutRequest, number]>([
    ["64 KiB of a mirror", MIRROR, MIB + 64 * KIB],
    ["a chunk of a stripe", STRIPED, 2 * MIB + 512 * KIB],
    ["the data area that md asks for", { ...MIRROR, level: "linear" }, MIB + 10 * 512],
  ])("refuses a member that is a byte too small for %s", (_, request, deviceBytes) => {
    expect(() => planLayout({ ...request, deviceBytes: deviceBytes - 1 })).toThrow(
      expect.objectContaining({
        code: "member-too-small",
        message: `/images/a: has ${deviceBytes - 1} bytes and needs ${deviceBytes} at least`,
      }),
    );
    expect(() => planLayout({ ...request, deviceBytes })).not.toThrow();
  });
});

describe("deviceBytesFor", () => {
  const chunk = fc.option(fc.integer({ min: 2, max: 12 }).map((shift) => 2 ** shift * KIB));
  const usable = fc.integer({ min: 8192, max: 2 ** 36 });

  it("makes a member whose data area has exactly the bytes asked for", () => {
    holds(
      fc.property(usable, chunk, (sectors, chunkBytes) => {
        const deviceBytes = deviceBytesFor(sectors * 512, chunkBytes);
        const level = chunkBytes === null ? "1" : "0";
        const layout = planLayout({ ...MIRROR, level, chunkBytes, deviceBytes });
        expect(layout.dataSizeSectors).toBe(sectors);
      }),
    );
  });

  it("rounds up to a sector", () => {
    expect(deviceBytesFor(MIB + 1, null)).toBe(MIB + 512 + MIB);
  });
});

describe("regionBytesFor", () => {
  it.each([
    ["100 MiB", 100 * MIB, 64 * KIB, 1600],
    ["1 GiB", GIB, 64 * KIB, 16_384],
    ["7 GiB", 7 * GIB, 64 * KIB, 114_688],
    ["8 GiB less the header's share", 8 * GIB - 1024 * 64 * KIB, 64 * KIB, 130_048],
    ["a region more than that", 8 * GIB - 1023 * 64 * KIB, 128 * KIB, 65_025],
    ["8 GiB", 8 * GIB, 128 * KIB, 65_536],
    ["16 GiB", 16 * GIB, 256 * KIB, 65_536],
    ["100 GiB", 100 * GIB, MIB, 102_400],
    ["1 TiB", TIB, 16 * MIB, 65_536],
    ["4 TiB", 4 * TIB, 64 * MIB, 65_536],
  ])("of %s counts the header too", (_, trackedBytes, regionBytes, regions) => {
    expect(regionBytesFor("lockless", trackedBytes, 256)).toBe(regionBytes);
    expect(regionCount(trackedBytes, regionBytes)).toBe(regions);
  });

  it("is the smallest that is allowed", () => {
    holds(
      fc.property(fc.maxSafeNat(), fc.integer({ min: 6, max: 4096 }), (tracked, reserved) => {
        const region = regionBytesFor("lockless", tracked, reserved);
        fc.pre(region <= 2 ** 40);
        expect(regionBytesAllowed("lockless", region, tracked, reserved)).toBe(true);
        expect(regionBytesAllowed("lockless", region / 2, tracked, reserved)).toBe(false);
      }),
    );
  });

  it.each([
    ["no power of two", 96 * KIB, false],
    ["less than 64 KiB", 32 * KIB, false],
    ["more than its field holds", 2 ** 41, false],
    ["larger than needed", 64 * MIB, true],
  ])("or a region may be asked for: %s", (_, regionBytes, allowed) => {
    expect(regionBytesAllowed("lockless", regionBytes, GIB, 256)).toBe(allowed);
  });

  it.each([
    ["100 MiB", 100 * MIB, 64 * MIB, 2],
    ["64 TiB less a region", 64 * TIB - 64 * MIB, 128 * MIB, 524_288],
    ["as much as 256 sectors hold bits for", 1_046_528 * 64 * MIB, 64 * MIB, 1_046_528],
    ["256 TiB", 256 * TIB, 512 * MIB, 524_288],
  ])("of %s in an internal bitmap is mdadm's", (_, trackedBytes, regionBytes, regions) => {
    expect(regionBytesFor("internal", trackedBytes, 256)).toBe(regionBytes);
    expect(regionCount(trackedBytes, regionBytes)).toBe(regions);
  });

  it("may be asked for from 4 KiB on in an internal bitmap, if the bits fit", () => {
    const allowed = (regionBytes: number, trackedBytes: number): boolean =>
      regionBytesAllowed("internal", regionBytes, trackedBytes, 256);
    expect(allowed(4 * KIB, GIB)).toBe(true);
    expect(allowed(2 * KIB, MIB)).toBe(false);
    expect(allowed(4 * KIB, 4 * GIB)).toBe(false);
    expect(allowed(2 ** 31, GIB)).toBe(true);
    expect(allowed(2 ** 32, GIB)).toBe(false);
    expect(regionBytesLeast("internal", 4 * GIB, 256)).toBe(8 * KIB);
    expect(regionBytesLeast("internal", GIB, 256)).toBe(4 * KIB);
  });

  it("counts a short last region", () => {
    expect(regionCount(64 * KIB + 1, 64 * KIB)).toBe(2);
  });
});
