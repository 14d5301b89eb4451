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

const ROUNDS = isLong ? 50 : 6;
const KILL_AFTER_MS_MAX = isLong ? 10_000 : 2000;
/** In some rounds: regions turn Clean between writes, while the load goes on. */
const EAGER_DAEMON = { daemonSleepMs: 60, barrierIdleMs: 20 };

test(`${ROUNDS} times killed under load, nothing that was answered is lost`, async ({ serve }) => {
  const { random } = seeded();
  const subject = new Subject(await serve({ size: "128M" }), 128 * MIB, random);
  for (let round = 0; round < ROUNDS; round++) {
    if (round % 2 === 1) await subject.control.set("data", EAGER_DAEMON);
    const areaBytes = random() < 0.3 ? 64 * 1024 : 6 * MIB;
    await subject.killUnderLoad(areaBytes, between(random, 50, KILL_AFTER_MS_MAX));
    await subject.expectRecovered();
  }
});

test("killed during a resync, again and again, under load", async ({ serve }) => {
  const { random } = seeded();
  const subject = new Subject(await serve({ size: "128M" }), 128 * MIB, random);
  const { server } = subject;
  await subject.killUnderLoad(128 * MIB, 1000);
  for (let kill = 0; kill < (isLong ? 20 : 3); kill++) {
    await subject.tearUnanswered(server.images[1]!);
    await server.start();
    await subject.control.set("data", { syncSpeedMin: 16 * MIB, syncSpeedMax: 16 * MIB });
    await subject.expectIntact();
    const { sync } = await server.status();
    expect(sync).toMatchObject({ action: "resync", pending: false });
    await subject.killUnderLoad(128 * MIB, between(random, 50, 1000));
  }
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
  expect(lastSync?.readBytes).toBeGreaterThanOrEqual(sizeBytes - recovered);
  expect(lastSync?.readBytes).toBeLessThanOrEqual(
    sizeBytes - recovered + regions.size * regionBytes,
  );
});

test("killed during a recovery by bitmap, which still copies only what is marked", async ({
  serve,
}) => {
  const { random } = seeded();
  const subject = new Subject(await serve({ size: "128M" }), 128 * MIB, random);
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
});
