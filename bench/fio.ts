import { run } from "../test/interop/run.ts";
import type { Case, Measurement, Unit } from "./scenario.ts";
import type { RunningTarget } from "./target.ts";

interface FioDirection {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly io_bytes: number;
  readonly lat_ns: { readonly mean: number };
}

interface FioReport {
  readonly jobs: readonly { readonly read: FioDirection; readonly write: FioDirection }[];
}

/** What fio itself can tell. */
type FioUnit = Exclude<Unit, "%">;

const value: Record<FioUnit, (direction: FioDirection) => number> = {
  IOPS: ({ iops }) => iops,
  "MiB/s": ({ bw_bytes }) => bw_bytes / 1024 ** 2,
  µs: ({ lat_ns }) => lat_ns.mean / 1000,
};

/** A case that fio measures on one connection, for a time. */
export function fioCase(name: string, unit: FioUnit, args: readonly string[]): Case {
  return {
    name,
    unit,
    measure: (target, seconds) =>
      fio(target, unit, ["--time_based", `--runtime=${seconds}`, ...args]),
  };
}

/** A case that goes over every block once, or for as long as there is time. */
export function onePassCase(
  name: string,
  unit: FioUnit,
  args: readonly string[],
  before: (target: RunningTarget) => Promise<void> = () => Promise.resolve(),
): Case {
  return {
    name,
    unit,
    measure: async (target, seconds) => {
      await before(target);
      return fio(target, unit, [`--runtime=${seconds}`, ...args]);
    },
  };
}

/** One job of fio's nbd engine over the whole export. */
export async function fio(
  target: RunningTarget,
  unit: FioUnit,
  args: readonly string[],
): Promise<Measurement> {
  const job = ["--name=job", "--ioengine=nbd", `--uri=${target.uri}`, "--output-format=json"];
  const output = await run("fio", [...job, ...args]);
  // libnbd's engine says that it is connected before the document begins.
  const report = JSON.parse(output.slice(output.indexOf("{"))) as FioReport;
  const [first] = report.jobs;
  if (first === undefined) throw new Error("fio reported no job");
  const direction = first.read.io_bytes > 0 ? first.read : first.write;
  return { value: value[unit](direction), bytes: direction.io_bytes };
}
