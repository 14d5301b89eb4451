import { expect, test } from "vitest";
import { State } from "../../src/bitmap/transitions.ts";
import { BitmapWorld, REGION_BYTES } from "./world.ts";

const { NeedSync } = State;

/** Parity was never made in the region, and a member is missing that a resync would need. */
function degradedWorld(): BitmapWorld {
  const world = new BitmapWorld(512 * REGION_BYTES);
  world.conditions = { absent: true, degraded: true, lazyParity: true };
  return world;
}

test("a first write whose mark could not be made durable leaves a region that nobody trusts", async () => {
  const world = degradedWorld();
  world.beforeWrite = () => Promise.reject(new Error("no space"));
  await expect(world.write(3)).rejects.toThrow("no space");
  expect(world.regions.state(3)).toBe(NeedSync);
  expect(world.bitmap.unbuilt).toEqual(new Set([3]));
  // A stop now calls the array clean only if nothing is suspect.
  expect(world.regions.isSuspect(3)).toBe(true);
});

test("a region is suspect from its first write on, until its parity is made", async () => {
  const world = degradedWorld();
  await world.bitmap.begin(3, 4);
  expect([3, 4, 5].map((region) => world.regions.isSuspect(region))).toEqual([true, true, false]);
  expect(world.bitmap.unbuilt).toEqual(new Set([3, 4]));
});
