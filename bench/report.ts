import { cpus, release, totalmem } from "node:os";
import type { Sample } from "./measure.ts";
import type { Case, Goal, PlaceKind, Scenario, Unit } from "./scenario.ts";
import type { TargetName } from "./targets.ts";

export interface Result {
  readonly place: PlaceKind;
  readonly scenario: string;
  readonly case: string;
  readonly unit: Unit;
  readonly medians: Partial<Record<TargetName, number>>;
  readonly cpuSecondsPerGiB: Partial<Record<TargetName, number>>;
}

export interface GoalResult extends Goal {
  readonly place: PlaceKind;
  /** Ours against theirs, run by run. */
  readonly ratios: readonly number[];
  readonly median: number;
  /** For a latency the ratio is a ceiling. */
  readonly atMost: boolean;
  readonly met: boolean;
}

export interface Report {
  readonly version: 1;
  readonly machine: string;
  readonly method: string;
  readonly results: readonly Result[];
  readonly goals: readonly GoalResult[];
  readonly samples: readonly Sample[];
}

export function makeReport(
  scenarios: readonly Scenario[],
  samples: readonly Sample[],
  method: string,
): Report {
  const places = (["memory", "disk"] as const).filter((place) =>
    samples.some((sample) => sample.place === place),
  );
  const measured = places.flatMap((place) =>
    scenarios
      .filter(({ where }) => where.includes(place))
      .map((scenario) => {
        const here = samples.filter((s) => s.place === place && s.scenario === scenario.name);
        return { place, scenario, here };
      }),
  );
  return {
    version: 1,
    machine: describeMachine(),
    method,
    results: measured.flatMap(({ place, scenario, here }) =>
      scenario.cases.map((benchCase) => resultOf(place, scenario, benchCase, here)),
    ),
    goals: measured.flatMap(({ place, scenario, here }) =>
      scenario.goals
        .filter(({ where }) => where === undefined || where === place)
        .map((goal) => goalResult(place, scenario, goal, here)),
    ),
    samples,
  };
}

function resultOf(
  place: PlaceKind,
  scenario: Scenario,
  { name, unit }: Case,
  samples: readonly Sample[],
): Result {
  const medianOf = (field: "value" | "cpuSecondsPerGiB") =>
    Object.fromEntries(
      scenario.targets.map((target) => {
        const own = samples.filter((sample) => sample.case === name && sample.target === target);
        return [target, median(own.map((sample) => sample[field]))];
      }),
    );
  return {
    place,
    scenario: scenario.name,
    case: name,
    unit,
    medians: medianOf("value"),
    cpuSecondsPerGiB: medianOf("cpuSecondsPerGiB"),
  };
}

/** Ratios are taken within a run, where both met the same noise; their median counts. */
function goalResult(
  place: PlaceKind,
  scenario: Scenario,
  goal: Goal,
  samples: readonly Sample[],
): GoalResult {
  const valuesOf = (target: TargetName) =>
    samples
      .filter((sample) => sample.case === goal.case && sample.target === target)
      .map(({ value }) => value);
  const theirs = valuesOf(goal.theirs);
  const ratios = valuesOf(goal.ours).map((ours, run) => ours / (theirs[run] ?? NaN));
  const atMost = scenario.cases.some(({ name, unit }) => name === goal.case && unit === "µs");
  const middle = median(ratios);
  const met = atMost ? middle <= goal.ratio : middle >= goal.ratio;
  return { ...goal, place, ratios, median: middle, atMost, met };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [below, above] = [sorted[middle - 1] ?? NaN, sorted[middle] ?? NaN];
  return sorted.length % 2 === 1 ? above : (below + above) / 2;
}

function describeMachine(): string {
  const memoryGiB = Math.round(totalmem() / 1024 ** 3);
  const kernel = release().split(".").slice(0, 2).join(".");
  return `${cpus().length} cores, ${memoryGiB} GiB of memory, Linux ${kernel}, Node ${process.versions.node}`;
}
