/** A fixed sequence of requests that makes the engine do every kind of member operation. */
import type { RaidArray } from "../../src/array/array.ts";
import { NbdRaidError } from "../../src/errors.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import { flush, read, trim, write, zero } from "./client.ts";
import type { Machine } from "./machine.ts";
import type { Model } from "./model.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
/** A daemon's pass, and what follows it. */
const REST_MS = 100_000;

export interface ScriptRun {
  readonly machine: Machine;
  readonly model: Model;
  /** Errors that requests were answered with. */
  readonly errors: NbdRaidError[];
  /** After each request, whatever its answer. True: that was the last. */
  readonly ended: () => boolean;
}

type Step = (target: Target) => Promise<void>;

interface Target {
  readonly array: RaidArray;
  readonly model: Model;
  readonly random: Random;
  readonly sleep: (ms: number) => Promise<void>;
}

const writes = (offset: number, length: number, fua = false): Step => {
  return (target) => write({ ...target, offset, length }, fua);
};
const reads = (offset: number, length: number): Step => {
  return (target) => read({ ...target, offset, length });
};
const flushes: Step = ({ array, model }) => flush(array, model);
const rests: Step = ({ sleep }) => sleep(REST_MS);

const STEPS: readonly Step[] = [
  writes(0, 4 * KiB),
  writes(100, 70 * KiB),
  flushes,
  reads(0, 128 * KiB),
  writes(1 * MiB, 200 * KiB, true),
  (target) => trim({ ...target, offset: 1 * MiB, length: 128 * KiB }, true),
  rests,
  reads(1 * MiB, 256 * KiB),
  writes(64 * KiB, 512),
  (target) => zero({ ...target, offset: 60 * KiB, length: 8 * KiB }, true, true),
  (target) => zero({ ...target, offset: 1 * MiB, length: 65 * KiB }, false, false),
  writes(MiB + 64 * KiB, 64 * KiB),
  flushes,
  rests,
  reads(0, 1 * MiB),
  writes(512 * KiB, 100 * KiB, true),
  reads(512 * KiB, 100 * KiB),
];

/** Sends one request after the other, until `ended` says so. Resolves true if it did. */
export async function runScript(run: ScriptRun): Promise<boolean> {
  const { machine, model, errors, ended } = run;
  const { world, array } = machine;
  const sleep = (ms: number): Promise<void> => world.sleep(ms);
  for (const step of STEPS) {
    try {
      await step({ array, model, random: world.random, sleep });
    } catch (error) {
      if (!(error instanceof NbdRaidError)) throw error;
      errors.push(error);
    }
    if (ended()) return true;
  }
  return false;
}
