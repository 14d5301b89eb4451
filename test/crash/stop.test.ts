/** A stop under load ends clean; one that is cut short leaves work for a resync, and no more. */
import { expect } from "vitest";
import { Errno } from "../../src/errors.ts";
import { testWith } from "../interop/fixtures.ts";
import { mdadmExamine } from "../interop/images.ts";
import { MIB, seeded, sleep, Subject } from "./rounds.ts";

const test = testWith("mdadm");

test("SIGTERM under load exits 0 and leaves every member clean", async ({ serve }) => {
  const server = await serve({ size: "128M" });
  const subject = new Subject(server, 128 * MIB, seeded().random);
  const load = await subject.load(8 * MIB);
  await sleep(500);
  await server.stop();
  await load.stop();
  expect([...load.errors.keys()].filter((error) => error !== Errno.ESHUTDOWN)).toEqual([]);
  for (const image of server.images) {
    expect((await mdadmExamine(image)).get("State")).toBe("clean");
  }
  expect((await subject.marked()).regions.size).toBe(0);

  await server.start();
  expect(await server.status()).toMatchObject({ degraded: 0, sync: null, lastSync: null });
  await subject.expectSynced();
  await subject.expectIntact();
});

test("a second signal exits at once, and the next start resyncs", async ({ serve }) => {
  const server = await serve({ size: "128M" });
  const subject = new Subject(server, 128 * MIB, seeded().random);
  const load = await subject.load(8 * MIB);
  await sleep(500);
  // Stopped while they are sent: it finds both when it goes on.
  for (const signal of ["SIGSTOP", "SIGTERM", "SIGINT", "SIGCONT"] as const) {
    process.kill(server.pid, signal);
  }
  await expect(server.stop()).rejects.toThrow("exit code 1");
  await load.stop();
  expect((await subject.marked()).regions.size).toBeGreaterThan(0);
  await subject.expectRecovered();
});
