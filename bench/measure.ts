import { readFile } from "node:fs/promises";
import { run as runCommand } from "../test/interop/run.ts";
import { fio } from "./fio.ts";
import type { Case, Measurement, PlaceKind, Scenario } from "./scenario.ts";
import type { RunningTarget } from "./target.ts";
import { TARGETS, type TargetName } from "./targets.ts";

export interface Place {
  readonly kind: PlaceKind;
  readonly folder: string;
}

export interface Plan {
  readonly scenarios: readonly Scenario[];
  readonly runs: number;
  /** For each measurement. */
  readonly seconds: number;
  /** Null: what each scenario chooses. */
  readonly sizeMiB: number | null;
}

interface Step {
  readonly run: number;
  readonly scenario: Scenario;
  readonly case: Case;
  readonly target: TargetName;
}

export interface Sample {
  readonly place: PlaceKind;
  readonly scenario: string;
  readonly case: string;
  readonly target: TargetName;
  readonly run: number;
  readonly value: number;
  /** NaN: not known. */
  readonly cpuSecondsPerGiB: number;
}

/** All samples of one place: run by run, and in each scenario by scenario. */
export async function measurePlace(place: Place, plan: Plan): Promise<Sample[]> {
  const scenarios = plan.scenarios.filter(({ where }) => where.includes(place.kind));
  const lasting = new Targets(place.folder);
  const samples: Sample[] = [];
  try {
    for (let run = 0; run < plan.runs; run++) {
      for (const scenario of scenarios) {
        const targets = scenario.lifetime === "place" ? lasting : new Targets(place.folder);
        try {
          for (const step of stepsOf(run, scenario)) {
            samples.push(await measureStep(step, place, plan, targets));
            if (scenario.lifetime === "measurement") await targets.stop();
          }
        } finally {
          if (targets !== lasting) await targets.stop();
        }
      }
    }
  } finally {
    await lasting.stop();
  }
  return samples;
}

/** Targets take turns at each case, and each run begins with another: noise meets all alike. */
function* stepsOf(run: number, scenario: Scenario): Generator<Step> {
  const first = run % scenario.targets.length;
  const targets = [...scenario.targets.slice(first), ...scenario.targets.slice(0, first)];
  for (const benchCase of scenario.cases) {
    for (const target of targets) yield { run, scenario, case: benchCase, target };
  }
}

async function measureStep(
  step: Step,
  place: Place,
  plan: Plan,
  targets: Targets,
): Promise<Sample> {
  const { full, sizeMiB } = step.scenario;
  const target = await targets.get(step.target, plan.sizeMiB ?? sizeMiB, full);
  const sample = await measureOnce(step, target, place, plan);
  const turn = `${step.run + 1}/${plan.runs}`;
  const value = `${sample.value.toFixed(1)} ${step.case.unit}`;
  console.error(`${place.kind} ${turn} ${sample.case}, ${TARGETS[step.target].title}: ${value}`);
  return sample;
}

/** Those that run, each made when it is first asked for. */
class Targets {
  readonly #folder: string;
  readonly #running = new Map<string, RunningTarget>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** `full`: it is written all over once it is made. */
  async get(name: TargetName, sizeMiB: number, full: boolean): Promise<RunningTarget> {
    const key = `${name} ${sizeMiB} ${full}`;
    const known = this.#running.get(key);
    if (known !== undefined) return known;
    const { start, whenFull } = TARGETS[name];
    const target = await start(this.#folder, sizeMiB);
    this.#running.set(key, target);
    if (full) await fio(target, "MiB/s", ["--rw=write", "--bs=256k", "--iodepth=8"]);
    if (full) await whenFull?.(target);
    return target;
  }

  async stop(): Promise<void> {
    const ended = [...this.#running.values()];
    this.#running.clear();
    await Promise.all(ended.map((target) => target.stop()));
  }
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
    scenario: step.scenario.name,
    case: step.case.name,
    target: step.target,
    run: step.run,
    value,
    cpuSecondsPerGiB: used / (bytes / 1024 ** 3),
  };
}

/** User and system time of a process with all its threads (proc_pid_stat(5), fields 14 and 15). */
async function cpuSeconds(pid: number | null): Promise<number> {
  if (pid === null) return NaN;
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // The name in field 2 may hold spaces; what follows its bracket is field 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticksPerSecond = 100; // USER_HZ: the unit of this file on every architecture of Node's
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
