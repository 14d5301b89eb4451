import type { RaidArray } from "../../src/array/array.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import { freshBytes } from "../sim/client.ts";
import { blankDisk, chooseSyncSpeed, contents, put, type Shape } from "../sim/disks.ts";
import { Machine } from "../sim/machine.ts";
import { World } from "../sim/world.ts";
import type { Bench } from "./bench.ts";

/** Faults whose failures lose nothing that was answered. */
const KINDS = ["read", "write", "punch", "zero"] as const;

/** Simulated disks in virtual time: the seed decides every interleaving. */
export class SimulatedBench implements Bench {
  readonly shape: Shape;
  readonly random: Random;
  private readonly machine: Machine;
  private spares = 0;

  constructor(seed: number, shape: Shape) {
    const world = new World(seed);
    this.shape = shape;
    this.random = world.random;
    this.machine = new Machine(world, shape);
    this.machine.inline = world.chance(0.5);
    if (shape.unknown === true) this.fillWithAnything();
    this.machine.settings = {
      ...(world.chance(0.7) ? { daemonSleepMs: 300, barrierIdleMs: 100 } : {}),
      ...chooseSyncSpeed(world),
    };
  }

  private fillWithAnything(): void {
    const { machine, random } = this;
    for (const disk of machine.disks.values()) {
      const { dataOffset } = machine;
      put(disk, freshBytes(random, disk.sizeBytes - dataOffset), dataOffset);
    }
  }

  get array(): RaidArray {
    return this.machine.array;
  }

  get paths(): readonly string[] {
    return this.machine.paths;
  }

  until<T>(promise: Promise<T>): Promise<T> {
    return this.machine.world.until(promise);
  }

  sleep(ms: number): Promise<void> {
    return this.machine.world.sleep(ms);
  }

  replace(path: string): string {
    const replacement = `/spare${this.spares++}`;
    this.machine.disks.delete(path);
    this.machine.disks.set(replacement, blankDisk(this.shape));
    return replacement;
  }

  breakMember(path: string): void {
    const { world } = this.machine;
    const fault = { nth: 1 + world.below(30), persistent: world.chance(0.3) };
    this.machine.member(path).failOperation({ ...fault, kind: world.pick(KINDS) });
  }

  async start(paths = this.paths, readOnly = false): Promise<RaidArray> {
    const array = await this.machine.load(await this.machine.plan([...paths], readOnly), readOnly);
    await this.until(array.start());
    return array;
  }

  stop(): Promise<void> {
    return this.machine.stop();
  }

  image(path: string): Buffer {
    const disk = this.machine.disk(path);
    const { dataOffset } = this.machine;
    return contents(disk, dataOffset, disk.sizeBytes - dataOffset);
  }
}
