import { readFile } from "node:fs/promises";
import { run as runCommand } from "../test/interop/run.ts";
import { fio } from "./fio.ts";
import type { Case, Measurement, PlaceKind, Scenario } from "./scenario.ts";
import { TARGETS, type RunningTarget, type TargetName } from "./targets.ts";

export interface Place {
  readonly kind: PlaceKind;
  readonly folder: string;
}

export interface Plan {
  readonly scenarios: readonly Scenario[];
  readonly runs: number;
  /** For each measurement. */
  readonly seconds: number;
  readonly sizeMiB: number;
}

interface Step {
  readonly run: number;
  readonly scenario: Scenario;
  readonly case: Case;
  readonly target: TargetName;
}

export interface Sample {
  readonly place: PlaceKind;
  readonly case: string;
  readonly target: TargetName;
  readonly run: number;
  readonly value: number;
  readonly cpuSecondsPerGiB: number;
}

/** All samples of one place, in the order of {@link schedule}. */
export async function measurePlace(place: Place, plan: Plan): Promise<Sample[]> {
  const steady = new Map<TargetName, RunningTarget>();
  const samples: Sample[] = [];
  try {
    for (const step of schedule(place.kind, plan)) {
      const take = step.scenario.fresh ? measureFresh : measureSteady;
      const sample = await take(step, place, plan, steady);
      samples.push(sample);
      const turn = `${step.run + 1}/${plan.runs}`;
      const value = `${sample.value.toFixed(1)} ${step.case.unit}`;
      console.error(
        `${place.kind} ${turn} ${sample.case}, ${TARGETS[step.target].title}: ${value}`,
      );
    }
  } finally {
    await Promise.all([...steady.values()].map((target) => target.stop()));
  }
  return samples;
}

/** Targets take turns at each case, and each run begins with another: noise meets all alike. */
function* schedule(place: PlaceKind, plan: Plan): Generator<Step> {
  for (let run = 0; run < plan.runs; run++) {
    for (const scenario of plan.scenarios.filter(({ where }) => where.includes(place))) {
      const first = run % scenario.targets.length;
      const targets = [...scenario.targets.slice(first), ...scenario.targets.slice(0, first)];
      for (const benchCase of scenario.cases) {
        for (const target of targets) yield { run, scenario, case: benchCase, target };
      }
    }
  }
}

async function measureFresh(step: Step, place: Place, plan: Plan): Promise<Sample> {
  const target = await TARGETS[step.target].start(place.folder, plan.sizeMiB);
  try {
    return await measureOnce(step, target, place, plan);
  } finally {
    await target.stop();
  }
}

/** A steady target is made at its first use, and written all over. */
async function measureSteady(
  step: Step,
  place: Place,
  plan: Plan,
  steady: Map<TargetName, RunningTarget>,
): Promise<Sample> {
  let target = steady.get(step.target);
  if (target === undefined) {
    target = await TARGETS[step.target].start(place.folder, plan.sizeMiB);
    steady.set(step.target, target);
    await fio(target, "MiB/s", ["--rw=write", "--bs=256k", "--iodepth=8"]);
  }
  return measureOnce(step, target, place, plan);
}

async function measureOnce(
  step: Step,
  target: RunningTarget,
  place: Place,
  plan: Plan,
): Promise<Sample> {
  // What the one before left to be written back must not slow this one down.
  await runCommand("sync", ["--file-system", place.folder]);
  const before = await cpuSeconds(target.pid);
  const { value, bytes }: Measurement = await step.case.measure(target, plan.seconds);
  const used = (await cpuSeconds(target.pid)) - before;
  return {
    place: place.kind,
    case: step.case.name,
    target: step.target,
    run: step.run,
    value,
    cpuSecondsPerGiB: used / (bytes / 1024 ** 3),
  };
}

/** User and system time of a process with all its threads (proc_pid_stat(5), fields 14 and 15). */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // The name in field 2 may hold spaces; what follows its bracket is field 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticksPerSecond = 100; // USER_HZ: the unit of this file on every architecture of Node's
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
