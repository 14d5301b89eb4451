import { pino } from "pino";
import { beforeEach, describe, expect, test } from "vitest";
import type { Device } from "../../src/array/devices.ts";
import { Failures } from "../../src/array/failures.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { ROLE_SPARE } from "../../src/metadata/superblock.ts";
import { deferred, FakeClock, isSettled } from "../bitmap/fake-clock.ts";
import { DESCRIPTION, FakeDevices, memberError } from "./fake-devices.ts";

/** The policy over a mirror of two and a spare, with a host whose superblocks are one set. */
const HOUR_MS = 3_600_000;

let fake: FakeDevices;
let clock: FakeClock;
let failures: Failures;
/** Devices that the superblocks on disk call failed. */
let recorded: Set<Device>;
let ejected: Device[];
let recordings: number;
let inDoubt: boolean;
let record: () => Promise<void>;
let one: Device;
let other: Device;

function make({ readOnly = false, logger = pino({ level: "silent" }) } = {}): Failures {
  return new Failures({
    name: "data",
    devices: fake.devices,
    geometry: DESCRIPTION.geometry,
    logger,
    clock,
    readOnly,
    record: async () => {
      recordings++;
      const faulty = fake.devices.all().filter(({ state }) => state === "faulty");
      await record();
      recorded = new Set(faulty);
    },
    failureUnrecorded: () =>
      fake.devices.all().some((device) => device.state === "faulty" && !recorded.has(device)),
    inDoubt: () => inDoubt,
    ejected: (device) => ejected.push(device),
  });
}

beforeEach(() => {
  fake = new FakeDevices([0, 1, ROLE_SPARE]);
  clock = new FakeClock();
  recorded = new Set();
  ejected = [];
  recordings = 0;
  inDoubt = false;
  record = () => Promise.resolve();
  one = fake.at(0);
  other = fake.at(1);
  failures = make();
});

const failing = (...devices: readonly Device[]) =>
  devices.map((leg) => ({ leg, error: memberError() }));

describe("failed writes", () => {
  test("eject the members that failed, if the level can lose them", () => {
    expect(failures.writesFailed(failing(other))).toBe(true);
    expect([one.state, other.state]).toEqual(["in_sync", "faulty"]);
    expect(ejected).toEqual([other]);
    expect(other.writeErrors).toBe(1);
    expect(failures.clear).toBe(false);
  });

  test("of all members in sync eject nobody, for none is better than the others", () => {
    expect(failures.writesFailed(failing(one, other))).toBe(false);
    expect([one.state, other.state]).toEqual(["in_sync", "in_sync"]);
    expect([one.writeErrors, other.writeErrors]).toEqual([1, 1]);
    expect(failures.clear).toBe(true);
  });

  test("that the array cannot bear are told of once a member, however often they fail", () => {
    const lines: string[] = [];
    failures = make({ logger: pino({}, { write: (line: string) => lines.push(line) }) });
    for (let time = 0; time < 3; time++) failures.writesFailed(failing(one, other));
    const told = lines.map((line) => JSON.parse(line) as { level: number; slot: number });
    expect(told.map(({ level, slot }) => [level, slot])).toEqual([
      [50, 0],
      [50, 1],
    ]);
  });

  test("of the last member in sync do not eject it, nor the one rebuilt from it", () => {
    Object.assign(other, { state: "rebuilding", recovery: { byBitmap: false, offset: 0 } });
    fake.devices.changed();
    expect(failures.writesFailed(failing(one, other))).toBe(false);
    expect([one.state, other.state]).toEqual(["in_sync", "rebuilding"]);
  });

  test("of a member that is rebuilt eject it", () => {
    Object.assign(other, { state: "rebuilding", recovery: { byBitmap: false, offset: 0 } });
    fake.devices.changed();
    expect(failures.writesFailed(failing(other))).toBe(true);
    expect([other.state, other.recovery]).toEqual(["faulty", null]);
  });
});

describe("failed syncs and durable writes", () => {
  test("eject the member, which is not asked again", () => {
    failures.syncsFailed(failing(other));
    expect(other.state).toBe("faulty");
    expect(failures.failed).toBeNull();
  });

  test("of all members fail the array, for good and with nobody recorded", async () => {
    failures.syncsFailed(failing(one, other));
    expect(failures.failed?.code).toBe("array-failed");
    expect([one.state, other.state]).toEqual(["in_sync", "in_sync"]);
    await expect(failures.settled()).rejects.toMatchObject({ code: "array-failed" });
    await expect(failures.settled()).rejects.toMatchObject({ code: "array-failed" });
    expect(recordings).toBe(0);
  });

  test("in a superblock's write tell the writer whether it may go on without the member", () => {
    expect(failures.metadataFailed(other, memberError())).toBe(true);
    expect(failures.metadataFailed(one, memberError())).toBe(false);
    expect(failures.failed?.code).toBe("array-failed");
    expect(() => failures.metadataFailed(one, new TypeError("bug"))).toThrow(TypeError);
  });

  test("that did not happen change nothing", () => {
    failures.syncsFailed([]);
    expect(failures.clear).toBe(true);
  });
});

describe("settled", () => {
  test("resolves when the failure is recorded, and not before", async () => {
    const disk = deferred();
    record = () => disk.promise;
    failures.eject(other, "asked to");
    const settled = failures.settled();
    expect(await isSettled(settled)).toBe(false);
    disk.resolve();
    await settled;
    expect(failures.clear).toBe(true);
  });

  test("is shared by all who wait", async () => {
    failures.eject(other, "asked to");
    await Promise.all([failures.settled(), failures.settled(), failures.settled()]);
    expect(recordings).toBe(1);
  });

  test("waits for a member that failed while another's failure was recorded", async () => {
    fake.devices.slots.length = 3;
    const third = fake.at(2);
    fake.devices.slots[2] = Object.assign(third, { state: "in_sync", slot: 2 });
    fake.devices.others.length = 0;
    fake.devices.changed();
    const disk = deferred();
    record = () => disk.promise;
    failures.eject(other, "first");
    const settled = failures.settled();
    failures.eject(third, "second");
    disk.resolve();
    await settled;
    expect(recordings).toBe(2);
    expect(recorded).toEqual(new Set([other, third]));
  });

  test("rejects if it cannot be recorded, and tries again when asked again", async () => {
    record = () => Promise.reject(new NbdRaidError("no-space", "full"));
    failures.eject(other, "asked to");
    await expect(failures.settled()).rejects.toMatchObject({ code: "no-space" });
    expect(failures.clear).toBe(false);
    record = () => Promise.resolve();
    await failures.settled();
    expect(failures.clear).toBe(true);
  });

  test("with nothing to record writes nothing", async () => {
    await failures.settled();
    expect(recordings).toBe(0);
  });

  test("records a member that was missing at the start before the first answer", async () => {
    other.state = "faulty";
    fake.devices.changed();
    const fresh = make();
    expect(fresh.clear).toBe(false);
    await fresh.settled();
    expect(recorded).toEqual(new Set([other]));
  });
});

describe("read errors", () => {
  const readErrors = (count: number, device = other): void => {
    for (let index = 0; index < count; index++) failures.readFailed(device, "bad block");
  };

  test("up to 20 are borne, the next ejects the member", () => {
    readErrors(20);
    expect(other.state).toBe("in_sync");
    readErrors(1);
    expect(other.state).toBe("faulty");
    expect(other.readErrors).toBe(21);
  });

  test("count for half with each hour that passes", async () => {
    readErrors(20);
    await clock.pass(HOUR_MS);
    readErrors(10);
    expect(other.state).toBe("in_sync");
    await clock.pass(2 * HOUR_MS);
    readErrors(15);
    expect(other.state).toBe("in_sync");
    readErrors(1);
    expect(other.state).toBe("faulty");
  });

  test("are counted for each member apart", () => {
    readErrors(15, one);
    readErrors(15, other);
    expect([one.state, other.state]).toEqual(["in_sync", "in_sync"]);
  });

  test("never eject the last member", () => {
    failures.eject(one, "asked to");
    readErrors(100);
    expect(other.state).toBe("in_sync");
  });

  test("eject nobody while what it holds may be known from nowhere else", () => {
    inDoubt = true;
    readErrors(100);
    expect(other.state).toBe("in_sync");
    inDoubt = false;
    readErrors(1);
    expect(other.state).toBe("faulty");
  });

  test("eject nobody where nothing may be recorded", () => {
    failures = make({ readOnly: true });
    readErrors(100);
    expect(other.state).toBe("in_sync");
    expect(other.readErrors).toBe(100);
  });
});

describe("eject", () => {
  test("tells of a device once", () => {
    failures.eject(other, "one reason");
    failures.eject(other, "another");
    expect(ejected).toEqual([other]);
  });

  test("leaves the device in its slot, as faulty", () => {
    failures.eject(other, "asked to");
    expect(fake.devices.slots[1]).toBe(other);
    expect([fake.devices.inSync, fake.devices.writable]).toEqual([[one], [one]]);
    expect([fake.devices.degraded, fake.devices.absent]).toEqual([1, 1]);
    expect(failures.canLose(one)).toBe(false);
  });
});
