import type { ArrayDescription } from "../../src/array/description.ts";
import { type Device, Devices } from "../../src/array/devices.ts";
import type { ArrayShape } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { type Member, MemberError } from "../../src/member/member.ts";
import { emptySuperblock, ROLE_SPARE, type Superblock } from "../../src/metadata/superblock.ts";

/** A durable write as a member was asked for it. */
export interface DurableWrite {
  readonly device: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export const MEMBER_BYTES = 4 * 1024 * 1024;
export const DATA_OFFSET_BYTES = 1024 * 1024;
export const COMPONENT_BYTES = MEMBER_BYTES - DATA_OFFSET_BYTES;

const SHAPE: ArrayShape = {
  level: 1,
  layout: 0,
  chunkBytes: 0,
  raidDisks: 2,
  componentBytes: COMPONENT_BYTES,
  dataBytes: [COMPONENT_BYTES, COMPONENT_BYTES],
};

export const DESCRIPTION: ArrayDescription = {
  name: "data",
  uuid: "11111111:22222222:33333333:44444444",
  shape: SHAPE,
  geometry: geometryOf(SHAPE),
  ctime: { seconds: 1_700_000_000, microseconds: 1 },
  bitmap: "lockless",
  regionBytes: 64 * 1024,
  bitmapOffsetSectors: 8,
  bitmapKept: { daemonSleepSeconds: 30, writeBehind: 0, sectorsReserved: 256 },
};

export function superblockOf(devNumber: number, roles: readonly number[]): Superblock {
  return {
    ...emptySuperblock(8),
    setUuid: DESCRIPTION.uuid,
    setName: DESCRIPTION.name,
    ctime: DESCRIPTION.ctime,
    level: 1,
    raidDisks: SHAPE.raidDisks,
    sizeSectors: COMPONENT_BYTES / 512,
    dataOffsetSectors: DATA_OFFSET_BYTES / 512,
    dataSizeSectors: COMPONENT_BYTES / 512,
    devNumber,
    deviceUuid: `00000000:00000000:00000000:0000000${devNumber}`,
    utime: { seconds: 1_700_000_000, microseconds: 7 },
    events: 10,
    resyncOffsetSectors: "clean",
    roles: [...roles, ...new Array<number>(8 - roles.length).fill(ROLE_SPARE)],
  };
}

/** Devices over members that only take durable writes, which they log in one list. */
export class FakeDevices {
  readonly devices: Devices;
  readonly log: DurableWrite[] = [];
  /** Called before each durable write; throws to fail it. */
  beforeWrite: (write: DurableWrite) => void = () => undefined;

  /** `roles` by device number: a slot, or ROLE_SPARE. */
  constructor(roles: readonly number[]) {
    this.devices = new Devices(SHAPE.raidDisks);
    for (const [number, role] of roles.entries()) {
      const device = this.device(number, role, superblockOf(number, roles));
      if (device.slot === null) this.devices.others.push(device);
      else this.devices.slots[device.slot] = device;
    }
  }

  at(number: number): Device {
    return this.devices.all().find(({ superblock }) => superblock.devNumber === number)!;
  }

  eject(device: Device): void {
    device.state = "faulty";
    device.recovery = null;
    this.devices.changed();
  }

  private device(number: number, role: number, superblock: Superblock): Device {
    const slot = role === ROLE_SPARE ? null : role;
    return {
      member: this.member(number),
      superblock,
      dataOffset: DATA_OFFSET_BYTES,
      state: slot === null ? "spare" : "in_sync",
      slot,
      writeMostly: false,
      readErrors: 0,
      writeErrors: 0,
      recovery: null,
    };
  }

  private member(number: number): Member {
    const unused = (): never => {
      throw new Error("not asked for here");
    };
    return {
      path: `/images/${number}`,
      identity: `${number}`,
      sizeBytes: MEMBER_BYTES,
      readOnly: false,
      descriptor: null,
      syncsInline: false,
      punchesFast: false,
      writeDurable: async (bytes, offset) => {
        const write = { device: number, offset, bytes: new Uint8Array(bytes) };
        this.log.push(write);
        await Promise.resolve();
        this.beforeWrite(write);
      },
      tryRead: unused,
      read: unused,
      tryReadv: unused,
      readv: unused,
      writesInline: unused,
      tryWrite: unused,
      write: unused,
      tryWritev: unused,
      writev: unused,
      sync: unused,
      punch: unused,
      zero: unused,
      prefetch: unused,
      nextData: unused,
      nextHole: unused,
      close: unused,
    };
  }
}

export function memberError(code: "EIO" | "ENOSPC" = "EIO"): MemberError {
  return new MemberError("/images", "durable write", Object.assign(new Error(code), { code }));
}
