import type { Member } from "../member/member.ts";
import type { Superblock } from "../metadata/superblock.ts";
import type { Legs } from "../raid/level.ts";

/** How far a rebuild has come, and what it has to copy. */
export interface Recovery {
  /** Only what is marked, also above `offset`: the member was away and the bitmap kept count. */
  readonly byBitmap: boolean;
  /** Bytes of the data area that are finished; above them the rebuild copies what it is for. */
  readonly offset: number;
  /** A write below the offset found no space on the member: nothing counts as finished any more. */
  readonly lacks?: boolean;
}

/** One member as the running array sees it. */
export interface Device {
  readonly member: Member;
  /** Its own superblock as last read or written: what is kept field by field. */
  superblock: Superblock;
  /** Bytes from the start of the member to its data area. */
  readonly dataOffset: number;
  state: "in_sync" | "rebuilding" | "spare" | "faulty";
  /** Null: a spare, or failed and its slot taken by another. */
  slot: number | null;
  writeMostly: boolean;
  readErrors: number;
  writeErrors: number;
  /** Not null exactly while `state` is "rebuilding". */
  recovery: Recovery | null;
}

/** Takes every write: its slot misses nothing from here on. */
export function takesWrites(device: Device): boolean {
  return device.state === "in_sync" || device.state === "rebuilding";
}

/** The devices of one array: by slot, and those without one. */
export class Devices implements Legs<Device> {
  /** By slot. A failed device stays until it is removed or a spare takes the slot. */
  readonly slots: (Device | null)[];
  /** Spares, and failed devices that lost their slot. */
  readonly others: Device[];
  /** Bumped at every change of state; what is derived from states is then looked up again. */
  generation = 0;
  private cached = -1;
  private inSyncCache: Device[] = [];
  private writableCache: Device[] = [];
  private inSyncBySlot: (Device | null)[] = [];
  private writableBySlot: (Device | null)[] = [];

  constructor(raidDisks: number) {
    this.slots = Array.from({ length: raidDisks }, () => null);
    this.others = [];
  }

  changed(): void {
    this.generation++;
  }

  all(): Device[] {
    return [...this.slots.filter((device) => device !== null), ...this.others];
  }

  /** In slot order. */
  get inSync(): readonly Device[] {
    this.refresh();
    return this.inSyncCache;
  }

  /** In slot order: in sync or rebuilding. */
  get writable(): readonly Device[] {
    this.refresh();
    return this.writableCache;
  }

  inSyncAt(slot: number): Device | null {
    this.refresh();
    return this.inSyncBySlot[slot] ?? null;
  }

  writableAt(slot: number): Device | null {
    this.refresh();
    return this.writableBySlot[slot] ?? null;
  }

  /** In-sync, rebuilding and spare: superblocks go to all of them. */
  recorded(): Device[] {
    return this.all().filter((device) => device.state !== "faulty");
  }

  rebuilding(): Device[] {
    return this.writable.filter((device) => device.state === "rebuilding");
  }

  /** Slots that are not in sync. */
  get degraded(): number {
    return this.slots.length - this.inSync.length;
  }

  /** Slots that have no device that takes writes. */
  get absent(): number {
    return this.slots.length - this.writable.length;
  }

  private refresh(): void {
    if (this.cached === this.generation) return;
    const only = (takes: (device: Device) => boolean): (Device | null)[] =>
      this.slots.map((device) => (device !== null && takes(device) ? device : null));
    this.inSyncBySlot = only(({ state }) => state === "in_sync");
    this.writableBySlot = only(takesWrites);
    this.inSyncCache = this.inSyncBySlot.filter((device) => device !== null);
    this.writableCache = this.writableBySlot.filter((device) => device !== null);
    this.cached = this.generation;
  }
}
