import type { Report, Result } from "./report.ts";
import type { Scenario } from "./scenario.ts";
import { TARGETS, type TargetName } from "./targets.ts";

/** What of a result a table shows. */
interface Shown {
  readonly values: (result: Result) => Partial<Record<TargetName, number>>;
  readonly unit: (result: Result) => string;
  readonly digits: number;
}

const MEDIANS: Shown = { values: ({ medians }) => medians, unit: ({ unit }) => unit, digits: 0 };
const CPU: Shown = {
  values: ({ cpuSecondsPerGiB }) => cpuSecondsPerGiB,
  unit: () => "s/GiB",
  digits: 2,
};

/** A report for people; `scenarios` are those that it is of. */
export function toMarkdown(report: Report, scenarios: readonly Scenario[]): string {
  return [
    `${report.machine}. ${report.method}`,
    ...(report.goals.length > 0 ? [goalTable(report)] : []),
    "Medians:",
    ...resultTables(report, scenarios, MEDIANS),
    "CPU time of the server process, all its threads:",
    ...resultTables(report, scenarios, CPU),
  ].join("\n\n");
}

function goalTable({ goals }: Report): string {
  return table(
    ["where", "case", "ours / theirs", "ratio", "from to", "goal", ""],
    goals.map((goal) => [
      goal.place,
      goal.case,
      `${TARGETS[goal.ours].title} / ${TARGETS[goal.theirs].title}`,
      goal.median.toFixed(2),
      `${Math.min(...goal.ratios).toFixed(2)} to ${Math.max(...goal.ratios).toFixed(2)}`,
      `${goal.atMost ? "at most" : "at least"} ${goal.ratio}`,
      goal.met ? "met" : "missed",
    ]),
  );
}

function resultTables(report: Report, scenarios: readonly Scenario[], shown: Shown): string[] {
  const resultsOf = (rows: Scenario["rows"]): Result[][] =>
    scenarios
      .filter((scenario) => scenario.rows === rows)
      .map(({ name }) => report.results.filter(({ scenario }) => scenario === name))
      .filter((results) => results.length > 0);
  const byCase = resultsOf("cases").flat();
  return [
    ...(byCase.length > 0 ? [tableByCase(byCase, shown)] : []),
    ...resultsOf("targets").map((results) => tableByTarget(results, shown)),
  ];
}

/** A row a case and place, a column a target. */
function tableByCase(results: readonly Result[], { values, unit, digits }: Shown): string {
  const names = targetsOf(results);
  return table(
    ["where", "case", "unit", ...names.map((name) => TARGETS[name].title)],
    results.map((result) => [
      result.place,
      result.case,
      unit(result),
      ...names.map((name) => cell(values(result)[name], digits)),
    ]),
  );
}

/** A row a target, a column a case and place. */
function tableByTarget(results: readonly Result[], { values, unit, digits }: Shown): string {
  const severalPlaces = new Set(results.map(({ place }) => place)).size > 1;
  const heading = (result: Result): string =>
    `${result.case}${severalPlaces ? `, ${result.place}` : ""} (${unit(result)})`;
  return table(
    ["array", ...results.map(heading)],
    targetsOf(results).map((name) => [
      TARGETS[name].title,
      ...results.map((result) => cell(values(result)[name], digits)),
    ]),
  );
}

/** Those that were measured, in the order of {@link TARGETS}. */
function targetsOf(results: readonly Result[]): TargetName[] {
  const measured = new Set(results.flatMap(({ medians }) => Object.keys(medians)));
  return (Object.keys(TARGETS) as TargetName[]).filter((name) => measured.has(name));
}

function cell(value: number | undefined, digits: number): string {
  return value === undefined || Number.isNaN(value) ? "" : value.toFixed(digits);
}

function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(heading), line(heading.map(() => "---")), ...rows.map(line)].join("\n");
}
