import { beforeEach, describe, expect, test } from "vitest";
import { planAssembly } from "../../src/array/assemble.ts";
import type { ArrayDescription } from "../../src/array/description.ts";
import type { Device } from "../../src/array/devices.ts";
import { MetadataWriter } from "../../src/array/metadata-writer.ts";
import { decodeBitmapSuperblock } from "../../src/metadata/bitmap-superblock.ts";
import { knownZeroRecordValid } from "../../src/metadata/known-zero.ts";
import {
  DEVFLAG_WRITE_MOSTLY,
  decodeSuperblock,
  ROLE_FAULTY,
  ROLE_SPARE,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { timestampsEqual } from "../../src/metadata/timestamp.ts";
import { FakeClock } from "../bitmap/fake-clock.ts";
import {
  DESCRIPTION,
  type DurableWrite,
  FakeDevices,
  MEMBER_BYTES,
  memberError,
  superblockOf,
} from "./fake-devices.ts";

/**
 * What reaches the members, byte by byte, and in which order. Devices 0 and 1 hold the slots,
 * device 2 is a spare; all are at events 10.
 */
const ROLES = [0, 1, ROLE_SPARE];
const BITMAP_OFFSET_BYTES = 8192;

let fake: FakeDevices;
let clock: FakeClock;
let writer: MetadataWriter;
/** Devices whose metadata could not be written, as the writer told its host. */
let told: Device[];
/** What the host answers: false if the level cannot lose the device. */
let canLose: boolean;

function make(description: ArrayDescription = DESCRIPTION): void {
  fake = new FakeDevices(ROLES);
  clock = new FakeClock();
  told = [];
  canLose = true;
  const host = {
    metadataFailed: (device: Device) => {
      told.push(device);
      if (canLose) fake.eject(device);
      return canLose;
    },
  };
  const bitmap = { eventsCleared: 4, knownZero: true };
  const freshest = superblockOf(0, ROLES);
  writer = new MetadataWriter(description, fake.devices, freshest, bitmap, host, clock);
}

beforeEach(() => make());

const isBitmap = ({ offset }: DurableWrite): boolean => offset === BITMAP_OFFSET_BYTES;

/** The log in short: "bitmap 0" is a bitmap superblock to device 0. */
function order(): string[] {
  return fake.log.map((write) => `${isBitmap(write) ? "bitmap" : "superblock"} ${write.device}`);
}

/** What the disk of a device holds: its last superblock that was not failed. */
function superblockOn(device: number): Superblock {
  const last = fake.log.findLast((write) => !isBitmap(write) && write.device === device);
  return decodeSuperblock(last!.bytes, "member", MEMBER_BYTES / 512);
}

function bitmapOn(device: number) {
  const last = fake.log.findLast((write) => isBitmap(write) && write.device === device);
  return decodeBitmapSuperblock(last!.bytes, "member");
}

function fail(kind: "bitmap" | "superblock", device: number, code?: "EIO" | "ENOSPC"): void {
  let left = 1;
  fake.beforeWrite = (write) => {
    const wanted = write.device === device && isBitmap(write) === (kind === "bitmap");
    if (wanted && left-- > 0) throw memberError(code);
  };
}

describe("an update", () => {
  test("writes bitmap superblocks to who takes writes, then superblocks to spares too", async () => {
    await writer.update();
    expect(order()).toEqual([
      "bitmap 0",
      "bitmap 1",
      "superblock 0",
      "superblock 1",
      "superblock 2",
    ]);
  });

  test("writes no superblock before every bitmap superblock is durable", async () => {
    let durable = 0;
    fake.beforeWrite = (write) => {
      if (isBitmap(write)) durable++;
      else expect(durable).toBe(2);
    };
    await writer.update();
  });

  test("says one event more, and the same of all", async () => {
    await clock.pass(1234);
    await writer.update();
    const superblocks = [0, 1, 2].map(superblockOn);
    expect(superblocks.map(({ events }) => events)).toEqual([11, 11, 11]);
    expect([bitmapOn(0).events, bitmapOn(1).events]).toEqual([11, 11]);
    for (const { utime } of superblocks) {
      expect(timestampsEqual(utime, superblocks[0]!.utime)).toBe(true);
      expect(utime.microseconds).not.toBe(0);
    }
    expect(writer.events).toBe(11);
  });

  test("keeps each device's own fields", async () => {
    await writer.update();
    for (const number of [0, 1, 2]) {
      const { devNumber, deviceUuid } = superblockOn(number);
      expect([devNumber, deviceUuid]).toEqual([number, superblockOf(number, ROLES).deviceUuid]);
    }
  });

  test("says dirty or clean as asked, and otherwise what was said before", async () => {
    await writer.update(0);
    expect(superblockOn(0).resyncOffsetSectors).toBe(0);
    await writer.update();
    expect(superblockOn(0).resyncOffsetSectors).toBe(0);
    await writer.update("clean");
    await writer.update();
    expect(superblockOn(0).resyncOffsetSectors).toBe("clean");
  });

  test("records how far a rebuild is, on the device that is rebuilt alone", async () => {
    Object.assign(fake.at(1), {
      state: "rebuilding",
      recovery: { byBitmap: true, offset: 64 * 512 + 100 },
    });
    fake.devices.changed();
    await writer.update();
    expect(superblockOn(1).featureMap).toBe(0x83);
    expect(superblockOn(1).recoveryOffsetSectors).toBe(64);
    expect(superblockOn(0).featureMap).toBe(0x1);
    expect(superblockOn(1).roles.slice(0, 3), "it holds its slot").toEqual(ROLES);
  });

  test("takes the recovery back when it is done", async () => {
    Object.assign(fake.at(1), { state: "rebuilding", recovery: { byBitmap: false, offset: 512 } });
    fake.devices.changed();
    await writer.update();
    expect(superblockOn(1).featureMap).toBe(0x3);
    Object.assign(fake.at(1), { state: "in_sync", recovery: null });
    fake.devices.changed();
    await writer.update();
    expect(superblockOn(1).featureMap).toBe(0x1);
    expect(superblockOn(1).recoveryOffsetSectors).toBe(0);
  });

  test("records what write-mostly is now", async () => {
    fake.at(1).writeMostly = true;
    await writer.update();
    expect(superblockOn(0).devflags & DEVFLAG_WRITE_MOSTLY).toBe(0);
    expect(superblockOn(1).devflags & DEVFLAG_WRITE_MOSTLY).toBe(DEVFLAG_WRITE_MOSTLY);
  });

  test("updates that are asked for at once follow one another", async () => {
    await Promise.all([writer.update(0), writer.update("clean")]);
    expect(order()).toHaveLength(10);
    expect(order().slice(5)).toEqual(order().slice(0, 5));
    expect(superblockOn(0)).toMatchObject({ events: 12, resyncOffsetSectors: "clean" });
  });
});

describe("without a bitmap", () => {
  beforeEach(() => make({ ...DESCRIPTION, bitmap: "none", bitmapOffsetSectors: 0 }));

  test("an update writes superblocks alone, which name no bitmap", async () => {
    await writer.update();
    expect(order()).toEqual(["superblock 0", "superblock 1", "superblock 2"]);
    expect(superblockOn(0).featureMap).toBe(0);
  });

  test("there is no events_cleared to record", async () => {
    await writer.recordEventsCleared();
    expect(order()).toEqual([]);
  });
});

describe("the known-zero record", () => {
  const valid = (device: number, { events, utime }: Superblock): boolean =>
    knownZeroRecordValid(bitmapOn(device).knownZero!, events, utime);

  test("holds before the superblocks follow the bitmap superblock, and after", async () => {
    await writer.update();
    const before = superblockOn(0);
    fake.beforeWrite = (write) => {
      if (isBitmap(write)) return;
      for (const device of [0, 1]) expect(valid(device, before)).toBe(true);
    };
    await clock.pass(5000);
    await writer.update();
    for (const device of [0, 1]) {
      expect(valid(device, superblockOn(device))).toBe(true);
      expect(bitmapOn(device).knownZero!.older.events).toBe(before.events);
    }
  });

  test("holds after an update that a member failed, and that was written again", async () => {
    for (const kind of ["bitmap", "superblock"] as const) {
      make();
      fail(kind, 1);
      await writer.update();
      expect(valid(0, superblockOn(0))).toBe(true);
    }
  });

  test("is not written where the array is not known-zero", async () => {
    writer.knownZero = false;
    await writer.update();
    expect(bitmapOn(0).knownZero).toBeNull();
  });
});

describe("a failed member", () => {
  test("is faulty on the survivors, which are two events further than it", async () => {
    fake.eject(fake.at(1));
    expect(writer.failureUnrecorded()).toBe(true);
    await writer.update();
    expect(fake.log.some(({ device }) => device === 1)).toBe(false);
    for (const survivor of [0, 2]) {
      expect(superblockOn(survivor).roles.slice(0, 3)).toEqual([0, ROLE_FAULTY, ROLE_SPARE]);
      expect(superblockOn(survivor).events).toBe(12);
    }
    expect(bitmapOn(0).events).toBe(12);
    expect(writer.failureUnrecorded()).toBe(false);
  });

  test("stays faulty for all once it was removed", async () => {
    fake.eject(fake.at(1));
    await writer.update();
    fake.devices.slots[1] = null;
    fake.devices.changed();
    await writer.update();
    expect(superblockOn(0).roles[1]).toBe(ROLE_FAULTY);
  });

  test("survivors are never two events apart, whenever the power fails", async () => {
    fake.eject(fake.at(1));
    const events = new Map([0, 2].map((device) => [device, 10]));
    fake.beforeWrite = (write) => {
      if (isBitmap(write)) return;
      events.set(write.device, decodeSuperblock(write.bytes, "", MEMBER_BYTES / 512).events);
      const [one, other] = events.values();
      expect(Math.abs(one! - other!)).toBeLessThanOrEqual(1);
    };
    await writer.update();
  });

  test("nor are several that a crash has left one behind, and one that joins", async () => {
    const events = new Map([0, 1, 2].map((device) => [device, 9]));
    for (const device of [0, 1]) {
      fake.at(device).superblock = { ...superblockOf(device, ROLES), events: 9 };
    }
    fake.at(2).superblock = { ...superblockOf(2, ROLES), events: 3 };
    const inSync = (): number[] => [events.get(0)!, events.get(1)!];
    fake.beforeWrite = (write) => {
      if (isBitmap(write)) return;
      const superblock = decodeSuperblock(write.bytes, "", MEMBER_BYTES / 512);
      events.set(write.device, superblock.events);
      expect(Math.max(...events.values()) - Math.min(...inSync())).toBeLessThanOrEqual(1);
    };
    await writer.update();
    expect([...events.values()]).toEqual([11, 11, 11]);
  });

  test.each(["bitmap", "superblock"] as const)(
    "that fails by its %s in an update is recorded by the time it ends",
    async (kind) => {
      fail(kind, 1);
      await writer.update(0);
      expect(told).toEqual([fake.at(1)]);
      expect(writer.failureUnrecorded()).toBe(false);
      expect(superblockOn(0).roles[1]).toBe(ROLE_FAULTY);
      expect(superblockOn(0).resyncOffsetSectors).toBe(0);
      const itsEvents = kind === "bitmap" ? 10 : superblockOn(1).events;
      expect(superblockOn(0).events - itsEvents).toBeGreaterThanOrEqual(2);
      expect(superblockOn(2).events).toBe(superblockOn(0).events);
    },
  );

  test("that the level cannot lose fails the update", async () => {
    canLose = false;
    fail("superblock", 0);
    await expect(writer.update()).rejects.toMatchObject({ code: "array-failed" });
  });

  test("does not keep the next update from being written", async () => {
    canLose = false;
    fail("bitmap", 0);
    await expect(writer.update()).rejects.toMatchObject({ code: "array-failed" });
    await writer.update();
    expect(superblockOn(0).events).toBe(superblockOn(1).events);
  });
});

describe("missing space", () => {
  test.each(["bitmap", "superblock"] as const)(
    "for a %s rejects, ejects nobody, and is made good by the next update",
    async (kind) => {
      fail(kind, 1, "ENOSPC");
      await expect(writer.update(0)).rejects.toMatchObject({ code: "no-space" });
      expect(told).toEqual([]);
      await writer.update(0);
      const events = [0, 1, 2].map((device) => superblockOn(device).events);
      expect(new Set(events).size).toBe(1);
      expect(bitmapOn(1).events).toBe(events[0]);
    },
  );

  test("for a superblock leaves no later bitmap superblock older than those that were written", async () => {
    fail("superblock", 1, "ENOSPC");
    await expect(writer.update(0)).rejects.toMatchObject({ code: "no-space" });
    await writer.recordEventsCleared();
    expect(superblockOn(0).events).toBe(11);
    expect([bitmapOn(0).events, bitmapOn(1).events]).toEqual([11, 11]);
  });

  test("on one member does not hide that another is broken", async () => {
    fake.beforeWrite = (write) => {
      if (!isBitmap(write) && write.device === 0) throw memberError("ENOSPC");
      if (!isBitmap(write) && write.device === 1) throw memberError("EIO");
    };
    await expect(writer.update(0)).rejects.toMatchObject({ code: "no-space" });
    expect(told).toEqual([fake.at(1)]);
    expect(writer.failureUnrecorded()).toBe(true);
  });
});

describe("events_cleared", () => {
  test("is written to the bitmap superblocks alone, with the events of now", async () => {
    await writer.recordEventsCleared();
    expect(order()).toEqual(["bitmap 0", "bitmap 1"]);
    expect(bitmapOn(0)).toMatchObject({ events: 10, eventsCleared: 10 });
  });

  test("that is current is not written again", async () => {
    await writer.recordEventsCleared();
    await writer.recordEventsCleared();
    expect(order()).toHaveLength(2);
    await writer.update();
    await writer.recordEventsCleared();
    expect(bitmapOn(0).eventsCleared).toBe(11);
  });

  test("is kept by updates", async () => {
    await writer.update();
    expect(bitmapOn(0).eventsCleared).toBe(4);
  });

  test.each(["EIO", "ENOSPC"] as const)(
    "that could not be written (%s) rejects, and is written when asked for again",
    async (code) => {
      fail("bitmap", 0, code);
      await expect(writer.recordEventsCleared()).rejects.toThrow();
      fake.log.length = 0;
      await writer.recordEventsCleared();
      expect(bitmapOn(1).eventsCleared).toBe(writer.events);
    },
  );
});

describe("device numbers", () => {
  test("of spares that never were come first, then those of devices that are gone", () => {
    expect(writer.freeDevNumber()).toBe(3);
    expect(writer.roleCount).toBe(8);
  });

  test("end where the superblock has no room", () => {
    for (let number = 3; number < 8; number++) {
      const superblock = superblockOf(number, ROLES);
      fake.devices.others.push({ ...fake.at(2), superblock });
    }
    expect(writer.freeDevNumber()).toBeUndefined();
    fake.devices.others.pop();
    expect(writer.freeDevNumber()).toBe(7);
  });
});

describe("whenever the power fails in an update, no member is called in sync that is not:", () => {
  /** What an assembly makes of the superblocks on the disks, after each that was written. */
  let uses: string[];
  let disks: Map<number, Superblock>;

  function watch(devices: readonly number[]): void {
    uses = [];
    disks = new Map(devices.map((device) => [device, superblockOf(device, ROLES)]));
    fake.beforeWrite = (write) => {
      if (isBitmap(write)) return;
      disks.set(write.device, decodeSuperblock(write.bytes, "", MEMBER_BYTES / 512));
      uses.push(useOf(1), useOf(2));
    };
  }

  function useOf(device: number): string {
    const found = [...disks].map(([number, superblock]) => {
      return { path: `${number}`, superblock, bitmap: null };
    });
    const { members } = planAssembly(found);
    const member = members.find(({ found: { path } }) => path === `${device}`);
    return `${device} ${member?.use ?? "not here"}`;
  }

  test("an old one that is added before its absence was recorded", async () => {
    const device = fake.at(1);
    fake.devices.slots[1] = null;
    fake.devices.others.length = 0;
    watch([0]);
    disks.set(1, { ...superblockOf(1, ROLES), events: 3 });
    device.superblock = { ...superblockOf(1, ROLES), events: 0 };
    Object.assign(device, { state: "spare", slot: null });
    fake.devices.others.push(device);
    fake.devices.changed();
    await writer.update();
    expect(uses).not.toContain("1 in_sync");
    expect(superblockOn(1).roles[1]).toBe(ROLE_SPARE);
  });

  test("a spare that found no space for the superblock of its slot", async () => {
    fake.devices.slots[1] = null;
    fake.devices.changed();
    await writer.update();
    const spare = fake.at(2);
    fake.devices.others.length = 0;
    fake.devices.slots[1] = spare;
    Object.assign(spare, { slot: 1, state: "rebuilding" });
    spare.recovery = { byBitmap: false, offset: 0 };
    fake.devices.changed();
    fail("superblock", 2, "ENOSPC");
    await expect(writer.update()).rejects.toMatchObject({ code: "no-space" });
    const onDisk = [0, 2].map(superblockOn);
    Object.assign(spare, { slot: null, state: "spare", recovery: null });
    fake.devices.slots[1] = null;
    fake.devices.others.push(spare);
    fake.devices.changed();
    watch([]);
    disks.set(0, onDisk[0]!).set(2, { ...onDisk[1]!, events: onDisk[0]!.events - 1 });
    await writer.update();
    expect(uses).not.toContain("2 in_sync");
  });

  test("one that is rebuilt and fails while others get what they missed", async () => {
    fake.devices.others.length = 0;
    const target = fake.at(1);
    target.state = "rebuilding";
    target.recovery = { byBitmap: false, offset: 4096 };
    fake.devices.changed();
    await writer.update();
    const onDisk = [0, 1].map(superblockOn);
    fake.at(0).superblock = { ...fake.at(0).superblock, events: 10 };
    watch([]);
    disks.set(0, { ...onDisk[0]!, events: 10 }).set(1, onDisk[1]!);
    const note = fake.beforeWrite;
    fake.beforeWrite = (write) => {
      if (!isBitmap(write) && target.state !== "faulty") fake.eject(target);
      note(write);
    };
    await writer.update();
    expect(uses).not.toContain("1 in_sync");
  });
});
