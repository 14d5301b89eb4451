import { expect } from "vitest";
import type { Device } from "../../src/array/devices.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { isParity } from "../raid/oracle-placement.ts";
import { blankDisk } from "./disks.ts";
import type { Machine } from "./machine.ts";

/** Members that failed, and their return. */
export class Absences {
  private readonly machine: Machine;
  private readonly returning: (path: string) => void;
  /** Changes were answered while these were failed: they must not count after a crash. */
  private readonly lost = new Set<string>();

  constructor(machine: Machine, returning: (path: string) => void) {
    this.machine = machine;
    this.returning = returning;
  }

  missedChanges(path: string): boolean {
    return this.lost.has(path);
  }

  /** A request is sent: those that are failed now miss it, if they are not back before its answer. */
  watch(): () => void {
    const { array } = this.machine;
    const failed = array.devices.all().filter(isFaulty);
    return () => {
      for (const device of failed) {
        if (array.devices.all().includes(device)) this.lost.add(device.member.path);
      }
    };
  }

  async bringBackSome(): Promise<void> {
    const { array, paths, world } = this.machine;
    await this.acceptParity();
    for (const path of paths) {
      const device = array.devices.all().find(({ member }) => member.path === path);
      if (device !== undefined && !isFaulty(device)) continue;
      await world.sleep(world.random() * world.pick([1, 50]));
      if (world.chance(0.8)) await this.bringBack(path);
    }
  }

  /** What is missing cannot be rebuilt where parity is not believed: until a repair takes it as it is. */
  private async acceptParity(): Promise<void> {
    const { array, oracle } = this.machine;
    if (!isParity(oracle) || array.devices.degraded === 0 || !array.regions.anySuspect()) return;
    await array.sync("repair");
    await array.wait();
    expect(array.regions.anySuspect(), "after a repair").toBe(false);
  }

  /** By bitmap if it may, else in full; or a blank disk takes its place. */
  async bringBack(path: string): Promise<void> {
    const { array, disks, shape, world } = this.machine;
    const held = array.devices.all().some(({ member }) => member.path === path);
    if (held) await array.remove(path);
    this.returning(path);
    this.lost.delete(path);
    if (world.chance(0.15)) {
      const replacement = `/spare${world.below(1e9)}`;
      disks.delete(path);
      disks.set(replacement, blankDisk(shape));
      await array.add(replacement, { writeMostly: false });
      return;
    }
    try {
      if (world.chance(0.2)) await array.add(path, { writeMostly: false });
      else await array.reAdd(path);
    } catch (error) {
      if (!(error instanceof NbdRaidError) || error.code !== "re-add-refused") throw error;
      await array.add(path, { writeMostly: false });
    }
  }
}

export function isFaulty({ state }: Device): boolean {
  return state === "faulty";
}
