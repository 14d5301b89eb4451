/** A machine with disks that runs one array: power on, power cuts, deaths of the process. */
import pino from "pino";
import { type AssemblyPlan, planAssembly } from "../../src/array/assemble.ts";
import type { RaidArray } from "../../src/array/array.ts";
import { readHeaders } from "../../src/array/headers.ts";
import { loadArray, type OpenMember } from "../../src/array/load.ts";
import type { ArraySettings } from "../../src/array/status.ts";
import { NbdRaidError } from "../../src/errors.ts";
import type { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { chunksBySlot, type OracleShape } from "../raid/oracle-placement.ts";
import { dataOffset, newArrayDisks, newUuid, oracleShape, type Shape } from "./disks.ts";
import { Trace, TracedMember } from "./traced.ts";
import type { World } from "./world.ts";

const logger = pino({ level: "silent" });

export class Machine {
  readonly world: World;
  readonly shape: Shape;
  readonly oracle: OracleShape;
  readonly trace = new Trace();
  readonly dataOffset: number;
  disks: Map<string, SimulatedDisk>;
  inline = false;
  settings: Partial<ArraySettings> = {};
  /** As last opened, by path. */
  readonly members = new Map<string, TracedMember>();
  private running: RaidArray | null = null;
  /** Level 10: by slot and chunk of the member, the chunk of the array. */
  private readonly chunks: readonly (readonly number[])[] | null;

  constructor(world: World, shape: Shape) {
    this.world = world;
    this.shape = shape;
    this.oracle = oracleShape(shape);
    this.chunks = shape.level === "10" ? chunksBySlot(this.oracle) : null;
    this.disks = newArrayDisks(world, shape);
    this.dataOffset = dataOffset(shape);
  }

  get array(): RaidArray {
    if (this.running === null) throw new Error("the machine is off");
    return this.running;
  }

  get paths(): string[] {
    return [...this.disks.keys()];
  }

  disk(path: string): SimulatedDisk {
    const disk = this.disks.get(path);
    if (disk === undefined) throw new Error(`there is no ${path}`);
    return disk;
  }

  member(path: string): TracedMember {
    const member = this.members.get(path);
    if (member === undefined) throw new Error(`${path} is not open`);
    return member;
  }

  /**
   * The regions that a range of a member belongs to, from its first byte of data on; those of the
   * array's own bytes at level 10, where members hold them in another order.
   */
  regionsAt(path: string, offset: number, length: number): number[] {
    const { regions } = this.array;
    const { chunks } = this;
    const start = offset - this.dataOffset;
    if (chunks === null) return span(regions.at(start), regions.at(start + length - 1));
    const slot = this.array.devices.all().find(({ member }) => member.path === path)?.slot ?? 0;
    const { chunkBytes } = this.shape;
    const found = new Set<number>();
    for (let at = start; at < start + length;) {
      const next = Math.min(start + length, (Math.floor(at / chunkBytes) + 1) * chunkBytes);
      const chunk = chunks[slot]?.[Math.floor(at / chunkBytes)];
      if (chunk !== undefined) {
        const tracked = chunk * chunkBytes + (at % chunkBytes);
        const last = regions.at(tracked + next - at - 1);
        for (const region of span(regions.at(tracked), last)) found.add(region);
      }
      at = next;
    }
    return [...found];
  }

  /** What assembly makes of these disks. */
  async plan(
    paths = this.paths,
    readOnly = false,
    force = false,
  ): Promise<AssemblyPlan<OpenMember>> {
    const found: OpenMember[] = [];
    for (const path of paths) {
      const member = this.open(path, readOnly);
      const headers = readHeaders(member).catch((error: unknown) => {
        // A disk that was never a member.
        if (error instanceof NbdRaidError && error.code === "member-foreign") return null;
        throw error;
      });
      const read = await this.world.until(headers);
      if (read !== null) found.push({ path, member, ...read });
    }
    return planAssembly(found, { force });
  }

  /** Loads the array; `start` of it is the caller's. */
  async load(plan: AssemblyPlan<OpenMember>, readOnly = false): Promise<RaidArray> {
    if (plan.refusal !== null) throw plan.refusal;
    const { clock } = this.world;
    const array = await this.world.until(
      loadArray(plan, {
        readOnly,
        clock,
        logger,
        openMember: (path) => Promise.resolve(this.open(path)),
        identify: (path) => (this.disks.has(path) ? `simulated:${path}` : null),
        newUuid: () => newUuid(this.world),
        oneThread: true,
      }),
    );
    array.set(this.settings);
    this.running = array;
    return array;
  }

  /** Power on: the array runs. */
  async start(paths = this.paths): Promise<RaidArray> {
    const array = await this.load(await this.plan(paths));
    await this.world.until(array.start());
    return array;
  }

  async stop(): Promise<void> {
    await this.world.until(this.array.stop());
    this.off((disk) => disk);
  }

  cut(): void {
    this.off((disk) => disk.cut(this.world.random));
  }

  kill(): void {
    this.off((disk) => disk.kill(this.world.random));
  }

  private off(after: (disk: SimulatedDisk) => SimulatedDisk): void {
    this.world.halt();
    this.disks = new Map([...this.disks].map(([path, disk]) => [path, after(disk)]));
    this.members.clear();
    this.running = null;
    this.trace.clear();
  }

  private open(path: string, readOnly = false): TracedMember {
    const { random, schedule } = this.world;
    const options = { path, random, schedule, inline: this.inline, readOnly };
    const member = new TracedMember(this.disk(path), options, this.trace);
    this.members.set(path, member);
    return member;
  }
}

function span(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
