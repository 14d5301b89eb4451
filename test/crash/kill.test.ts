/**
 * The real program is killed (SIGKILL) at random moments and started again. What was answered is
 * there, at once and for good; members end equal; and a resync reads marked regions only.
 */
import { expect } from "vitest";
import { testWith } from "../interop/fixtures.ts";
import { mdadmExamine, replaceByBlank } from "../interop/images.ts";
import { expectExamined } from "./images.ts";
import { between, isLong, MIB, seeded, Subject } from "./rounds.ts";

const test = testWith("mdadm");

const ROUNDS = isLong ? 50 : 5;
const KILL_AFTER_MS_MAX = isLong ? 4000 : 2000;
/** In some rounds: regions turn Clean between writes, while the load goes on. */
const EAGER_DAEMON = { daemonSleepMs: 60, barrierIdleMs: 20 };

/** Regions so small that a load leaves most of them alone, as those of a lockless bitmap. */
const INTERNAL = ["--bitmap", "internal", "--region-size", "64K"];
const BITMAPS = [
  { bitmap: "lockless", createArgs: [], rounds: ROUNDS },
  { bitmap: "internal", createArgs: INTERNAL, rounds: isLong ? ROUNDS : 3 },
];

test.for(BITMAPS)(
  "$rounds times killed under load, nothing that was answered is lost ($bitmap)",
  async ({ createArgs, rounds }, { serve }) => {
    const { random } = seeded();
    const subject = new Subject(await serve({ size: "128M", createArgs }), 128 * MIB, random);
    for (let round = 0; round < rounds; round++) {
      if (round % 2 === 1) await subject.control.set("data", EAGER_DAEMON);
      const areaBytes = random() < 0.3 ? 64 * 1024 : 6 * MIB;
      const ms = between(random, 50, KILL_AFTER_MS_MAX);
      const load = await subject.killUnderLoad(areaBytes, ms);
      expect(load.answered).toBeGreaterThan(0);
      await subject.expectRecovered();
    }
  },
);

// Each of the first writes waits for a mark of its own: the area is wide and nothing is marked yet.
test.for(BITMAPS)(
  "killed at the first writes: no data where there is no mark ($bitmap)",
  async ({ createArgs }, { serve }) => {
    const { random } = seeded();
    const subject = new Subject(await serve({ size: "512M", createArgs }), 512 * MIB, random);
    for (let round = 0; round < (isLong ? 50 : 3); round++) {
      if (round > 0) await subject.server.restart();
      await subject.killUnderLoad(512 * MIB, between(random, 0, 12));
      await subject.expectMarkedFirst();
      await subject.server.start();
      await subject.expectSynced();
      await subject.expectIntact();
    }
  },
);

test("killed during a resync, again and again, under load", async ({ serve }) => {
  const { random } = seeded();
  const subject = new Subject(await serve({ size: "512M" }), 512 * MIB, random);
  const { server } = subject;
  await subject.killUnderLoad(512 * MIB, 500);
  let interrupted = 0;
  for (let kill = 0; kill < (isLong ? 20 : 2); kill++) {
    await subject.tearUnanswered(server.images[1]!);
    await server.start();
    await subject.control.set("data", { syncSpeedMin: 16 * MIB, syncSpeedMax: 16 * MIB });
    await subject.expectIntact();
    if ((await server.status()).sync?.action === "resync") interrupted++;
    await subject.killUnderLoad(512 * MIB, between(random, 50, 1000));
  }
  // A fast machine may finish one before it can be told to go slow.
  expect(interrupted).toBeGreaterThan(0);
  await subject.expectRecovered();
});

// Three members: after the kill the two in sync may differ as well, and the recovery mends that.
test("killed during a recovery, which goes on where it was", async ({ serve }) => {
  const { random } = seeded();
  const sizeBytes = 192 * MIB;
  const subject = new Subject(await serve({ members: 3, size: "192M" }), sizeBytes, random);
  const { server } = subject;
  const [, second = "", third = ""] = server.images;
  await subject.fill();
  await server.ok("fail", "data", "2");
  await server.ok("remove", "data", "2");
  await replaceByBlank(third);
  await subject.control.set("data", {
    daemonSleepMs: 200,
    barrierIdleMs: 20,
    syncSpeedMin: 64 * MIB,
    syncSpeedMax: 64 * MIB,
  });
  await subject.control.add("data", third, { writeMostly: false });
  await subject.killUnderLoad(MIB, between(random, 1000, 2000));
  await expectExamined(server.images);
  const [sectors] = (await mdadmExamine(third)).get("Recovery Offset")?.split(" ") ?? [];
  const recovered = Number(sectors) * 512;
  expect(recovered).toBeGreaterThan(0);
  const { regionBytes, regions } = await subject.tearUnanswered(second);

  await server.start();
  await subject.expectIntact();
  await subject.expectSynced();
  await subject.expectIntact();
  const { lastSync } = await server.status();
  expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
  expect(lastSync?.readBytes).toBeLessThanOrEqual(
    sizeBytes - recovered + regions.size * regionBytes,
  );
});

test.for(BITMAPS)(
  "killed during a recovery by bitmap ($bitmap), which still copies only what is marked",
  async ({ createArgs }, { serve }) => {
    const { random } = seeded();
    const subject = new Subject(await serve({ size: "128M", createArgs }), 128 * MIB, random);
    const { server } = subject;
    await subject.fill();
    await server.ok("fail", "data", "1");
    await server.ok("remove", "data", "1");
    await subject.loadFor(8 * MIB, 500);
    await subject.control.set("data", { syncSpeedMin: 4 * MIB, syncSpeedMax: 4 * MIB });
    await subject.control.reAdd("data", server.images[1]!);
    await subject.killUnderLoad(MIB, between(random, 50, 500));
    const { regionBytes, regions } = await subject.marked();
    await server.start();
    await subject.expectIntact();
    await subject.expectSynced();
    await subject.expectIntact();
    const { lastSync } = await server.status();
    expect(lastSync).toMatchObject({ action: "recovery", result: "done" });
    expect(lastSync?.readBytes).toBeLessThanOrEqual(regions.size * regionBytes);
    expect(lastSync?.readBytes).toBeLessThan(128 * MIB);
  },
);
