/**
 * One seeded life of an array: clients work, members fail and return, power is cut, processes
 * die. After each start the disks and what clients read are held against the model.
 */
import { expect } from "vitest";
import type { RaidArray } from "../../src/array/array.ts";
import type { Device } from "../../src/array/devices.ts";
import { NbdRaidError } from "../../src/errors.ts";
import type { Fault } from "../../src/member/simulated.ts";
import { isParity, survives } from "../raid/oracle-placement.ts";
import { Absences, isFaulty } from "./absences.ts";
import {
  expectDataTouchedOnly,
  expectInSyncEqual,
  expectSameKnown,
  expectUnmarkedEqual,
  type Held,
  markedRegions,
  readKnown,
} from "./checks.ts";
import { runClients } from "./client.ts";
import { chooseBitmap, chooseSyncSpeed, MIRROR, type Shape, sizeOf } from "./disks.ts";
import { Machine } from "./machine.ts";
import { Model } from "./model.ts";
import { World } from "./world.ts";

const MiB = 1024 * 1024;
const CRASHES_IN_A_ROW_MAX = 3;
const DAEMON_PASSES_MS = 200_000;
/** What may fail; null: whatever comes. */
const KINDS = ["read", "write", "writeDurable", "sync", "punch", "zero", null] as const;
/**
 * Not a sync: a disk loses data before it says so, and until then parity is made of what it
 * reads, as md's would be.
 */
const KINDS_WITH_PARITY = ["read", "write", "writeDurable", "punch", "zero"] as const;

type Disturbance = "none" | "member fails" | "member breaks" | "no space";

export class Scenario {
  readonly world: World;
  readonly machine: Machine;
  readonly model: Model;
  private readonly absences: Absences;
  /** Something was suspect at some moment of this phase. */
  private suspected = false;
  /** A member whose operations are going to fail. */
  private broken: string | null = null;
  /** What it fails is of a kind that loses data it had taken. */
  private losing = false;

  constructor(seed: number, shapeOf: (world: World) => Shape = chooseMirror) {
    this.world = new World(seed);
    const { world } = this;
    this.machine = new Machine(world, shapeOf(world));
    this.machine.inline = world.chance(0.5);
    const quick = { daemonSleepMs: 300, barrierIdleMs: 100 };
    this.machine.settings = {
      ...(world.chance(0.6) ? quick : {}),
      ...chooseSyncSpeed(world),
    };
    this.model = new Model(sizeOf(this.machine.shape));
    this.absences = new Absences(this.machine, (path) => {
      if (this.broken === path) this.broken = null;
    });
  }

  async run(phases: number): Promise<void> {
    await this.machine.start();
    for (let phase = 0; phase < phases; phase++) await this.phase();
    await this.rest();
  }

  private get array(): RaidArray {
    return this.machine.array;
  }

  // ---- phases

  private async phase(): Promise<void> {
    const { world } = this;
    this.suspected = this.array.regions.anySuspect();
    const disturbance = this.chooseDisturbance();
    const work = Promise.all([
      runClients(world, this.array, this.model, {
        requests: world.pick([5, 20, 40]),
        clients: world.pick([1, 4, 8]),
        pauseMs: world.pick([1, 20, 400]),
        expects: (error) =>
          (disturbance === "no space" && error.code === "no-space") || this.isUnknown(error),
        trusts: () => !this.mayLie(),
        watch: () => {
          this.suspected ||= this.array.regions.anySuspect();
          return this.absences.watch();
        },
      }),
      this.disturb(disturbance),
    ]);
    const crashes = disturbance === "no space" || world.chance(0.75);
    const events = crashes ? world.below(world.pick([60, 600, 4000])) : Infinity;
    const ended =
      crashes && world.chance(0.3)
        ? await this.untilSomeoneFails(work)
        : await world.steps(work, events);
    if (ended) {
      await work;
      if (world.chance(0.5)) await world.until(world.sleep(world.random() * 100_000));
    }
    if (disturbance === "no space") this.expectNobodyFaulty();
    if (crashes) await this.crash();
    else await this.rest();
  }

  /** The moments in which a failure is being recorded are short, and the most delicate. */
  private async untilSomeoneFails(work: Promise<unknown>): Promise<boolean> {
    const failed = (): number => this.array.devices.all().filter(isFaulty).length;
    const before = failed();
    while (failed() <= before) if (await this.world.steps(work, 1)) return true;
    return this.world.steps(work, this.world.below(16));
  }

  private chooseDisturbance(): Disturbance {
    if (this.broken !== null || this.losable().length === 0) return "none";
    return this.world.pick(["none", "none", "member fails", "member breaks", "no space"]);
  }

  private async disturb(disturbance: Disturbance): Promise<void> {
    const { world } = this;
    if (disturbance === "none") return this.absences.bringBackSome();
    const path = this.someLosable();
    if (disturbance === "no space") return this.fillUp(path);
    if (disturbance === "member breaks") return this.breakMember(path);
    await world.sleep(world.random() * world.pick([1, 50]));
    await this.array.fail(path);
    await world.sleep(world.random() * world.pick([1, 50, 1000]));
    if (world.chance(0.7)) await this.absences.bringBack(path);
  }

  /** Members in sync that the array can do without now. */
  private losable(): string[] {
    const { inSync } = this.array.devices;
    const without = (lost: Device): boolean =>
      survives(this.machine.oracle, (slot) =>
        inSync.some((one) => one !== lost && one.slot === slot),
      );
    return inSync.filter(without).map(({ member }) => member.path);
  }

  private someLosable(): string {
    const losable = this.losable();
    return losable[this.world.below(losable.length)]!;
  }

  private breakMember(path: string): void {
    const { world } = this;
    const kind = world.pick(isParity(this.machine.oracle) ? KINDS_WITH_PARITY : KINDS);
    const fault: Fault = { nth: 1 + world.below(40), persistent: world.chance(0.5) };
    this.broken = path;
    this.losing = kind === null || kind === "sync" || kind === "writeDurable";
    this.machine.member(path).failOperation(kind === null ? fault : { ...fault, kind });
  }

  /** A disk loses what a sync was to cover when that fails, which is before it says so. */
  private mayLie(): boolean {
    const { inSync } = this.array.devices;
    return this.losing && inSync.some(({ member }) => member.path === this.broken);
  }

  private fillUp(path: string): void {
    const { world } = this;
    for (let count = 0; count < 10; count++) {
      const kind = world.pick(["write", "writeDurable", "punch", "zero"] as const);
      const nth = 1 + world.below(40);
      this.machine.member(path).failOperation({ nth, kind, code: "ENOSPC" });
    }
  }

  private expectNobodyFaulty(): void {
    for (const device of this.array.devices.all()) expect(device.state).not.toBe("faulty");
  }

  // ---- ends

  /** Power is cut or the process dies, perhaps again while the array recovers from that. */
  private async crash(depth = 1): Promise<void> {
    const { world, machine, model } = this;
    // What a failed sync left in the cache alone, no later process can know of.
    const cut = this.broken !== null || world.chance(0.8);
    if (cut) machine.cut();
    else machine.kill();
    if (cut) model.cut();
    else model.killed();
    const before = await this.loadAfterCrash();
    const breaks = depth === 1 && this.losable().length > 0 && world.chance(0.2);
    // A member that breaks may be the one that was read: then another's bytes are as good.
    if (cut && !breaks) model.adopt(before.bytes, before.unknown);
    else model.lose(before.unknown);
    if (breaks) this.breakMember(this.someLosable());
    const marked = markedRegions(this.array);
    const bitmapDecides = machine.shape.bitmap !== "none" && !breaks && this.recoversNothing();
    machine.trace.clear();
    const synced = this.array.start().then(() => this.syncsEnd());
    if (depth < CRASHES_IN_A_ROW_MAX && world.chance(0.3)) {
      const reading = Promise.all([synced, this.readWhile(breaks ? null : before, synced)]);
      if (await world.steps(reading, world.below(world.pick([10, 100, 500])))) await reading;
      return this.crash(depth + 1);
    }
    const clientsRead = world.chance(0.5);
    if (clientsRead) await world.until(this.readWhile(breaks ? null : before, synced));
    await world.until(synced);
    if (bitmapDecides) expectDataTouchedOnly(machine, marked, clientsRead);
    const after = await this.readKnown();
    if (!breaks) expectSameKnown(after, before, "read again after the sync");
    this.expectSynced();
  }

  private async loadAfterCrash(): Promise<Held> {
    const { machine } = this;
    this.broken = null;
    const plan = await this.plan();
    expect(plan.missingActive, "members that the freshest superblock misses").toEqual([]);
    for (const { found, use } of plan.members) {
      if (this.absences.missedChanges(found.path))
        expect(use, `${found.path} missed writes`).toBe("left out");
    }
    const array = await machine.load(plan);
    expectUnmarkedEqual(machine, array);
    return this.readKnown();
  }

  /** Parity that a crash left is not believed while a member is missing, unless it must be. */
  private async plan(): ReturnType<Machine["plan"]> {
    const { machine } = this;
    const plan = await machine.plan();
    const inSync = plan.members.filter(({ use }) => use === "in_sync").length;
    const degraded = inSync < machine.shape.raidDisks;
    const unclean = plan.freshest.resyncOffsetSectors !== "clean";
    if (!isParity(machine.oracle) || !degraded || !unclean) {
      expect(plan.refusal).toBeNull();
      return plan;
    }
    expect(plan.refusal?.code).toBe("dirty-degraded");
    const forced = await machine.plan(machine.paths, false, true);
    expect(forced.refusal).toBeNull();
    return forced;
  }

  /** What clients read now is what they may read; what they cannot know from now on is noted. */
  private async readKnown(): Promise<Held> {
    const { world, machine, model, broken } = this;
    const held = await world.until(readKnown(machine, broken));
    model.lose(held.unknown);
    model.check(0, held.bytes);
    return held;
  }

  /**
   * Where data is missing and parity is not believed nothing can be read, and not all be written.
   * A repair may have ended that between the refusal and its answer.
   */
  private isUnknown({ code }: NbdRaidError): boolean {
    const { regions, devices } = this.array;
    const suspected = this.suspected || regions.anySuspect();
    if (!isParity(this.machine.oracle) || !suspected) return false;
    return (devices.degraded > 0 && code === "unknown-data") || code === "io-error";
  }

  /** A sync may fail only where a member did. */
  private async syncsEnd(): Promise<void> {
    try {
      await this.array.wait();
    } catch (error) {
      const fails = error instanceof NbdRaidError && error.code === "sync-failed";
      if (!fails || this.isWhole) throw error;
    }
  }

  /** A member that cannot be read stays where it is while parity cannot stand in for it. */
  private get staysSuspect(): boolean {
    const { broken, machine } = this;
    return broken !== null && isParity(machine.oracle) && this.array.regions.anySuspect();
  }

  private get isWhole(): boolean {
    return this.array.devices.degraded === 0 && !this.staysSuspect;
  }

  /** Clients read all the time, and always the same if it is known. */
  private async readWhile(expected: Held | null, synced: Promise<void>): Promise<void> {
    let done = false;
    const end = (): void => {
      done = true;
    };
    synced.then(end, end);
    const { machine, world, model } = this;
    while (!done) {
      const trusted = !this.mayLie();
      const held = await readKnown(machine, this.broken);
      model.lose(held.unknown);
      if (trusted && !this.mayLie()) model.check(0, held.bytes);
      if (expected !== null) expectSameKnown(held, expected, "read during the sync");
      await world.sleep(20);
    }
  }

  private recoversNothing(): boolean {
    return this.array.devices.all().every(({ state }) => state === "in_sync");
  }

  /** Time passes until all is done; then a stop, after which nothing is left to do. */
  private async rest(): Promise<void> {
    const { world, machine, model } = this;
    await world.until(this.syncsEnd());
    this.expectSynced();
    if (world.chance(0.5)) await this.idle();
    await machine.stop();
    model.killed();
    await machine.load(await this.plan());
    const { array } = this;
    expectUnmarkedEqual(machine, array);
    // A member may fail in the stop itself; what it lacks stays marked.
    if (this.isWhole) {
      expect([...markedRegions(array)]).toEqual([]);
      expect(array.status().state).toBe("clean");
    }
    machine.trace.clear();
    await world.until(array.start());
    if (this.isWhole) expectDataTouchedOnly(machine, new Set(), false);
    await world.until(this.syncsEnd());
    await this.readKnown();
    this.expectSynced();
  }

  /** An array that nobody writes to becomes clean by itself. */
  private async idle(): Promise<void> {
    await this.world.until(this.world.sleep(DAEMON_PASSES_MS));
    if (this.isWhole) expect(this.array.status().state, "after a long rest").toBe("clean");
  }

  private expectSynced(): void {
    expectUnmarkedEqual(this.machine, this.array);
    if (this.array.devices.rebuilding().length === 0 && !this.staysSuspect)
      expectInSyncEqual(this.machine, this.array);
  }
}

function chooseMirror(world: World): Shape {
  const large = world.chance(0.15);
  return {
    ...MIRROR,
    raidDisks: world.pick([2, 2, 3]),
    // More than 512 regions of 64 KiB: two bitmap blocks.
    sizeBytes: large ? 40 * MiB : world.pick([2, 3, 5]) * MiB,
    ...chooseBitmap(world),
    writeMostly: world.chance(0.2),
  };
}
