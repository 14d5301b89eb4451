// Members come and go below a file system that a real kernel has mounted and writes to.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import { between, isLong, seeded, sleep } from "../crash/rounds.ts";
import { replaceByBlank } from "../interop/images.ts";
import { type ArrayShape, Arrays, RAID1, RAID10, RAID5, RAID6 } from "./attach-arrays.ts";
import { Client, type Use } from "./attach-client.ts";

const SHAPES = [RAID1, RAID5, RAID6, RAID10];
const RE_ADDED = isLong ? SHAPES : [RAID1];
const REPLACED = isLong ? SHAPES : [RAID5];

/** Of load, before a member goes and while it is away. */
const LOAD_MS = isLong ? 4000 : 2000;

function useOf(shape: ArrayShape): Use {
  const index = SHAPES.indexOf(shape);
  const fs = index % 2 === 0 ? "ext4" : "xfs";
  return { array: shape.name, fs, options: index % 2 === 0 ? "" : "-C 4", device: `nbd${index}` };
}

describe("below a mounted file system", () => {
  let arrays: Arrays;
  let client: Client;
  let random: Random;

  beforeAll(async () => {
    ({ random } = seeded());
    arrays = await Arrays.start([...new Set([...RE_ADDED, ...REPLACED])]);
    client = await Client.boot(arrays, await arrays.writeBlob(random));
  });

  afterAll(async () => {
    await client?.end();
    await arrays?.dispose();
  });

  const shuffled = (count: number): number[] =>
    Array.from({ length: count }, (_, slot) => ({ slot, at: random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ slot }) => slot);

  /** Slots that failed. */
  async function failAllThatCanGo(array: string, slots: readonly number[]): Promise<number[]> {
    const failed: number[] = [];
    for (const slot of slots) {
      try {
        await arrays.control.fail(array, String(slot));
        failed.push(slot);
      } catch (error) {
        if (!(error instanceof NbdRaidError && error.code === "last-member")) throw error;
      }
    }
    return failed;
  }

  /** By bitmap: re-add refuses whoever would have to be copied in full. */
  async function takeBack(array: string, slots: readonly number[]): Promise<void> {
    for (const slot of slots) {
      await arrays.control.remove(array, String(slot));
      await arrays.control.reAdd(array, arrays.imagesOf(array)[slot]!);
    }
    await arrays.control.wait(array);
    expect(await arrays.status(array)).toMatchObject({ degraded: 0, sync: null });
  }

  /** A file system with a tree that stays, and a load on it; returns the tree's seed. */
  async function loaded(use: Use): Promise<number> {
    const seed = between(random, 1, 32_768);
    await client.attachNew(use);
    await client.plant(use, seed);
    await client.churn(use, seed);
    await sleep(LOAD_MS);
    return seed;
  }

  async function expectContent(use: Use, seed: number): Promise<void> {
    await client.expectTree(use, seed);
    await client.expectChurned(use);
  }

  test.each(RE_ADDED)("$name: members fail under load, and come back by bitmap", async (shape) => {
    const { name, members, redundancy } = shape;
    const use = useOf(shape);
    const seed = await loaded(use);
    const slots = shuffled(members).slice(0, redundancy);
    for (const slot of slots) await arrays.control.fail(name, String(slot));
    await sleep(LOAD_MS);
    expect((await arrays.status(name)).degraded).toBe(redundancy);
    await takeBack(name, slots);
    const { lastSync } = await arrays.status(name);
    expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
    await client.stopChurn(use);
    await client.reattach(use);
    await expectContent(use, seed);
    await client.detachSound(use);
    await arrays.expectChecked(name);
  });

  test.each(REPLACED)(
    "$name: a blank member takes a lost one's place under load, and holds what it has to",
    async (shape) => {
      const { name, members } = shape;
      const use = useOf(shape);
      const seed = await loaded(use);
      const lost = between(random, 0, members);
      const image = arrays.imagesOf(name)[lost]!;
      await arrays.control.fail(name, String(lost));
      await arrays.control.remove(name, String(lost));
      await replaceByBlank(image);
      await sleep(LOAD_MS);
      await arrays.control.add(name, image, { writeMostly: false });
      await arrays.control.wait(name);
      const { degraded, lastSync } = await arrays.status(name);
      expect(degraded).toBe(0);
      expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
      await client.stopChurn(use);
      // Without others, content comes from the new member or by way of it.
      const others = shuffled(members).filter((slot) => slot !== lost);
      for (const first of isLong ? others : others.slice(0, 1)) {
        const gone = await failAllThatCanGo(name, [first, ...others.filter((s) => s !== first)]);
        expect(gone).toContain(first);
        await client.reattach(use);
        await expectContent(use, seed);
        await takeBack(name, gone);
      }
      await client.detachSound(use);
      await arrays.expectChecked(name);
    },
  );
});
