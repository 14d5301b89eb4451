import { describe, expect, test } from "vitest";
import { Doubt, Regions, REGIONS_PER_BLOCK, REGIONS_PER_PAGE } from "../../src/bitmap/regions.ts";
import { Action, State } from "../../src/bitmap/transitions.ts";
import { isSettled, turn } from "./fake-clock.ts";

const REGION_BYTES = 64 * 1024;
const HEALTHY = { absent: false, degraded: false, lazyParity: false };

const make = (count = 16): Regions => Regions.create(count * REGION_BYTES, REGION_BYTES, true);

describe("sizes", () => {
  test("a last region that is short counts", () => {
    const regions = Regions.create(3 * REGION_BYTES + 512, REGION_BYTES);
    expect(regions.count).toBe(4);
    expect(regions.at(3 * REGION_BYTES + 511)).toBe(3);
    expect(regions.at(3 * REGION_BYTES - 1)).toBe(2);
  });

  test("blocks and pages cover every region", () => {
    const regions = make(REGIONS_PER_PAGE + 1);
    expect(regions.blocks).toBe(REGIONS_PER_PAGE / REGIONS_PER_BLOCK + 1);
    expect(regions.pages).toBe(2);
  });

  test.each([2 ** 36, 2 ** 40])(
    "%i regions are refused: they need more memory than there is",
    (count) => {
      expect(() => Regions.create(count * 4096, 4096)).toThrow(
        expect.objectContaining({
          code: "superblock-unsupported",
          message: expect.stringMatching(
            /^a bitmap of \d+ regions of 4096 bytes needs \d+ MiB of memory: .*mdadm/,
          ) as string,
        }),
      );
    },
  );

  test("an attached view shares states, counts and flags", () => {
    const regions = make();
    const other = Regions.attach(regions.shared);
    regions.force(3, State.NeedSync);
    regions.setSuspect(3, true);
    expect(regions.tryEnter(5, 6)).toBe(true);
    expect(other.state(3)).toBe(State.NeedSync);
    expect(other.isSuspect(3)).toBe(true);
    expect(other.isIdle(5, 7)).toBe(false);
    other.leave(5, 6);
    expect(regions.isIdle(0, 16)).toBe(true);
  });
});

describe("the window", () => {
  test("bars exactly the writers that touch it", () => {
    const regions = make();
    regions.openWindow(4, 8);
    for (const [first, last, enters] of [
      [0, 3, true],
      [8, 15, true],
      [3, 4, false],
      [7, 8, false],
      [5, 6, false],
      [0, 15, false],
    ] as const) {
      expect(regions.tryEnter(first, last), `${first} to ${last}`).toBe(enters);
      if (enters) regions.leave(first, last);
    }
    expect(regions.isIdle(0, 16)).toBe(true);
  });

  test("from region 0 bars region 0", () => {
    const regions = make();
    regions.openWindow(0, 1);
    expect(regions.tryEnter(0, 0)).toBe(false);
    expect(regions.tryEnter(1, 1)).toBe(true);
  });

  test("a barred writer enters when it closes", async () => {
    const regions = make();
    regions.openWindow(4, 8);
    const entered = regions.enter(2, 5);
    expect(await isSettled(entered)).toBe(false);
    regions.closeWindow();
    expect(await isSettled(entered)).toBe(true);
    expect(regions.isIdle(2, 3)).toBe(false);
  });

  test("a drain waits for the writers inside, and for no others", async () => {
    const regions = make();
    await regions.enter(0, 4);
    await regions.enter(7, 9);
    await regions.enter(12, 12);
    regions.openWindow(4, 8);
    const drained = regions.drain(4, 8);
    expect(await isSettled(drained)).toBe(false);
    regions.leave(7, 9);
    expect(await isSettled(drained)).toBe(false);
    regions.leave(0, 4);
    expect(await isSettled(drained)).toBe(true);
  });

  test("a writer that was turned away leaves no count behind that a drain would wait for", async () => {
    const regions = make();
    regions.openWindow(4, 8);
    void regions.enter(4, 4);
    expect(await isSettled(regions.drain(4, 8))).toBe(true);
  });
});

describe("writers that were barred", () => {
  test("are let in before an admission ends, and only they", async () => {
    const regions = make();
    expect(await isSettled(regions.admit())).toBe(true);
    regions.openWindow(4, 8);
    const entered = regions.enter(4, 4);
    const admitted = regions.admit();
    expect(await isSettled(admitted)).toBe(false);
    regions.closeWindow();
    expect(await isSettled(admitted)).toBe(true);
    expect(await isSettled(entered)).toBe(true);
    expect(regions.isIdle(4, 5)).toBe(false);
  });
});

describe("the region that is watched", () => {
  test("is disturbed by a doubt that arises in it, until it is no longer watched", () => {
    const regions = make();
    regions.setSuspect(3, true);
    regions.watch(3);
    expect(regions.isDisturbed).toBe(false);
    regions.setSuspect(2, true);
    regions.setSuspect(3, false);
    expect(regions.isDisturbed).toBe(false);
    regions.setDoubt(3, Doubt.Unbuilt);
    expect(Regions.attach(regions.shared).isDisturbed).toBe(true);
    regions.unwatch();
    regions.setSuspect(3, true);
    expect(regions.isDisturbed).toBe(false);
  });
});

describe("a suspended page", () => {
  test("bars writers of that page alone, until it is resumed", async () => {
    const regions = make(2 * REGIONS_PER_PAGE);
    regions.suspend(1);
    expect(regions.tryEnter(0, REGIONS_PER_PAGE - 1)).toBe(true);
    const entered = regions.enter(REGIONS_PER_PAGE - 1, REGIONS_PER_PAGE);
    expect(await isSettled(entered)).toBe(false);
    regions.resume(1);
    expect(await isSettled(entered)).toBe(true);
  });

  test("its stamp changes with every writer that enters and with no one else", () => {
    const regions = make(2 * REGIONS_PER_PAGE);
    const before = [regions.stamp(0), regions.stamp(1)];
    expect(regions.tryEnter(REGIONS_PER_PAGE - 1, REGIONS_PER_PAGE)).toBe(true);
    const entered = [regions.stamp(0), regions.stamp(1)];
    expect(entered[0]).not.toBe(before[0]);
    expect(entered[1]).not.toBe(before[1]);
    regions.leave(REGIONS_PER_PAGE - 1, REGIONS_PER_PAGE);
    regions.suspend(0);
    expect(regions.tryEnter(0, 0)).toBe(false);
    expect([regions.stamp(0), regions.stamp(1)]).toEqual(entered);
  });
});

describe("states", () => {
  test("apply gives the state before, and marks the block only if it changed something", () => {
    const regions = make(2 * REGIONS_PER_BLOCK);
    expect(regions.apply(600, Action.Startwrite, HEALTHY)).toBe(State.Unwritten);
    expect(regions.takeChanged(1)).toBe(true);
    expect(regions.apply(600, Action.Startwrite, HEALTHY)).toBe(State.Dirty);
    expect(regions.isChanged(1)).toBe(false);
    expect(regions.isChanged(0)).toBe(false);
  });

  test("a copy of the last block ends in zeroes", () => {
    const regions = make(REGIONS_PER_BLOCK + 2);
    for (let region = 0; region < regions.count; region++) regions.force(region, State.Clean);
    const copy = regions.copyBlock(1);
    expect(copy).toHaveLength(512);
    expect([...copy.subarray(0, 3)]).toEqual([State.Clean, State.Clean, 0]);
    expect(copy.subarray(2).every((byte) => byte === 0)).toBe(true);
  });

  test("reads are pinned where a sync is needed or runs, and only there", () => {
    const regions = make();
    for (const [region, state] of [0, 1, 2, 3, 4].entries()) regions.force(region, state as State);
    expect([0, 1, 2, 3, 4].map((region) => regions.anyPinned(region, region))).toEqual([
      false,
      false,
      false,
      true,
      true,
    ]);
    expect(regions.anyPinned(0, 3)).toBe(true);
    expect(regions.everyUnwritten(5, 15)).toBe(true);
    expect(regions.everyUnwritten(0, 1)).toBe(false);
  });

  test("counts add up to the regions", () => {
    const regions = make();
    for (let region = 0; region < 16; region++) regions.force(region, (region % 5) as State);
    expect(regions.counts()).toEqual({ unwritten: 4, clean: 3, dirty: 3, needSync: 3, syncing: 3 });
  });
});

test("of many waiters each enters in the end, whatever is opened and closed meanwhile", async () => {
  const regions = make();
  let inside = 0;
  const writers = Array.from({ length: 50 }, async (_, index) => {
    await regions.enter(index % 16, index % 16);
    inside++;
    await turn();
    regions.leave(index % 16, index % 16);
  });
  for (let first = 0; first < 16; first++) {
    regions.openWindow(first, first + 1);
    await regions.drain(first, first + 1);
    expect(regions.isIdle(first, first + 1)).toBe(true);
    regions.closeWindow();
  }
  await Promise.all(writers);
  expect(inside).toBe(50);
  expect(regions.isIdle(0, 16)).toBe(true);
});
