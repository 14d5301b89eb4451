import type { RunningTarget } from "./target.ts";
import type { TargetName } from "./targets.ts";

/** What one measurement found. */
export interface Measurement {
  /** In the case's unit. */
  readonly value: number;
  /** Bytes moved: what the CPU time is set against. */
  readonly bytes: number;
}

export type Unit = "IOPS" | "MiB/s" | "µs" | "%";

export interface Case {
  readonly name: string;
  readonly unit: Unit;
  readonly measure: (target: RunningTarget, seconds: number) => Promise<Measurement>;
}

/** `ours` against `theirs`, at least (or, for a latency, at most) `ratio`. */
export interface Goal {
  readonly case: string;
  readonly ours: TargetName;
  readonly theirs: TargetName;
  readonly ratio: number;
  /** A goal that is set for one kind of place only. */
  readonly where?: PlaceKind;
}

/** `memory`: images on a memory file system, the cost of the program itself. */
export type PlaceKind = "memory" | "disk";

export interface Scenario {
  readonly name: string;
  readonly where: readonly PlaceKind[];
  readonly targets: readonly TargetName[];
  /** How long a target is used: once, in a run of this scenario, or in all scenarios of a place. */
  readonly lifetime: "measurement" | "run" | "place";
  /** It was written all over before; if not, it is empty at first. */
  readonly full: boolean;
  /** What the tables of results have a row for. */
  readonly rows: "cases" | "targets";
  /** Of what a target serves, unless another size is asked for. */
  readonly sizeMiB: number;
  readonly cases: readonly Case[];
  readonly goals: readonly Goal[];
}
