/**
 * Arrays with parity, and with copies of chunks, are killed or lose their power under load. What
 * was answered (or flushed) is there, at once and for good, and in the end everything fits together.
 */
import { expect } from "vitest";
import { testWith } from "../interop/fixtures.ts";
import {
  expectChecked,
  expectConsistentImages,
  type LevelCase,
  optionsOf,
  REDUNDANT,
} from "../interop/levels.ts";
import type { Server } from "../interop/server.ts";
import { between, isLong, MIB, seeded, sleep, Subject } from "./rounds.ts";
import { Disk } from "./storage.ts";

const test = testWith("mount");

const KILL_AFTER_MS_MAX = isLong ? 3000 : 1500;
const ROUNDS = isLong ? 25 : 3;
const EAGER_DAEMON = { daemonSleepMs: 60, barrierIdleMs: 20 };
const titled = REDUNDANT.map((of) => [of.title, of] as const);

async function subjectOf(server: Server, random: () => number): Promise<Subject> {
  return new Subject(server, (await server.status()).size, random);
}

/** The images themselves, while nobody serves them. */
async function expectFits(of: LevelCase, server: Server, images: string[]): Promise<void> {
  await server.stop();
  await expectConsistentImages(of, images);
  await server.start(images);
}

test.for(titled)("%s: killed under load, again and again", async ([, of], { serve }) => {
  const { random } = seeded();
  const server = await serve(optionsOf(of, "24M"));
  const subject = await subjectOf(server, random);
  const images = [...server.images];
  for (let round = 0; round < ROUNDS; round++) {
    if (round % 2 === 1) await subject.control.set("data", EAGER_DAEMON);
    const load = await subject.killUnderLoad(
      random() < 0.3 ? 256 * 1024 : 6 * MIB,
      between(random, 50, KILL_AFTER_MS_MAX),
    );
    expect(load.answered).toBeGreaterThan(0);
    await server.start();
    await subject.expectIntact();
    await expectChecked(server);
    await subject.expectIntact();
  }
  await expectFits(of, server, images);
});

test.for(titled)("%s: killed during the resync, under load", async ([, of], { serve }) => {
  const { random } = seeded();
  const server = await serve(optionsOf(of, "192M"));
  const subject = await subjectOf(server, random);
  let interrupted = 0;
  await subject.killUnderLoad(subject.sizeBytes, 500);
  for (let kill = 0; kill < (isLong ? 10 : 2); kill++) {
    await server.start();
    await subject.control.set("data", { syncSpeedMin: MIB, syncSpeedMax: MIB });
    if ((await server.status()).sync?.action === "resync") interrupted++;
    await subject.expectIntact();
    await subject.killUnderLoad(subject.sizeBytes, between(random, 50, 500));
  }
  // A fast machine may finish one before it can be told to go slow.
  expect(interrupted).toBeGreaterThan(0);
  await server.start();
  await expectChecked(server);
  await subject.expectIntact();
});

// All members lie on the disk that fails: what it had not been told to keep is gone.
test.for(titled)("%s: the power is cut under load", async ([, of], { create, skip }) => {
  const { random } = seeded();
  const server = await create(optionsOf(of, "16M"));
  const disk = await Disk.make(server.folder, "256M");
  if (disk === null) return skip("this process may not mount file systems");
  try {
    const images: string[] = [];
    for (const image of server.images) images.push(await disk.adopt(image));
    await server.start(images);
    const subject = await subjectOf(server, random);
    for (let round = 0; round < ROUNDS; round++) {
      const load = await subject.load(8 * MIB);
      await sleep(between(random, 50, 500));
      subject.model.disksFail();
      await Promise.all([disk.fail(), sleep(between(random, 0, 30))]);
      await server.kill9();
      await load.stop();
      await disk.mend();
      await server.start(images);
      await subject.expectIntact("flushed");
      await expectChecked(server);
      await subject.expectIntact();
    }
    await expectFits(of, server, images);
  } finally {
    await server.kill9();
    await disk.dispose();
  }
});

test.for(titled)(
  "%s: a member fails under load, and comes back by bitmap",
  async ([, of], { serve }) => {
    const { random } = seeded();
    const server = await serve(optionsOf(of, "32M"));
    const subject = await subjectOf(server, random);
    await subject.fill();
    for (let round = 0; round < (isLong ? 20 : 2); round++) {
      const load = await subject.load(4 * MIB);
      await sleep(100);
      const slot = between(random, 0, of.members);
      await subject.control.fail("data", String(slot));
      await sleep(100);
      await subject.control.remove("data", String(slot));
      await subject.control.reAdd("data", server.images[slot]!);
      await subject.control.wait("data");
      await load.stop();
      expect([...load.errors]).toEqual([]);
      const { lastSync } = await server.status();
      expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
      await expectChecked(server);
      await subject.expectIntact();
    }
    await expectFits(of, server, [...server.images]);
  },
);
