/**
 * `npm run bench`: this server beside others, all measured in turns in one run. Prints Markdown
 * (or --json) on stdout, progress on stderr.
 */
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { measurePlace, type Place, type Plan, type Sample } from "./measure.ts";
import { toMarkdown } from "./markdown.ts";
import { makeReport } from "./report.ts";
import { coldReads } from "./scenarios/cold-reads.ts";
import { durableWrites } from "./scenarios/durable-writes.ts";
import { firstPass } from "./scenarios/first-pass.ts";
import { levelsRebuild } from "./scenarios/levels-rebuild.ts";
import { levelsStripeShare, levelsWholeStripes } from "./scenarios/levels-stripes.ts";
import { levels, levelsDegraded } from "./scenarios/levels.ts";
import { random4k } from "./scenarios/random-4k.ts";
import { sequential256k } from "./scenarios/sequential-256k.ts";

const SCENARIOS = [
  random4k,
  sequential256k,
  firstPass,
  coldReads,
  durableWrites,
  levels,
  levelsDegraded,
  levelsWholeStripes,
  levelsStripeShare,
  levelsRebuild,
];

const usage = `npm run bench -- [options]
  --runs N       how often each measurement is made; the median counts (5)
  --seconds S    how long each takes (5)
  --size MIB     of each array (1024, in levels* mostly 256)
  --memory DIR   a folder on a memory file system (/dev/shm); "none" leaves it out
  --dir DIR      a folder on a real file system (${tmpdir()}); "none" leaves it out
  --only NAME    one scenario, and those whose names begin with it and a dash:
                 ${SCENARIOS.map(({ name }) => name).join("\n                 ")}
  --json         everything, as one document
`;

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      runs: { type: "string", default: "5" },
      seconds: { type: "string", default: "5" },
      size: { type: "string" },
      memory: { type: "string", default: "/dev/shm" },
      dir: { type: "string", default: tmpdir() },
      only: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (options.help) {
    process.stdout.write(usage);
    return;
  }
  const { only } = options;
  const scenarios = SCENARIOS.filter(
    ({ name }) => only === undefined || name === only || name.startsWith(`${only}-`),
  );
  if (scenarios.length === 0) throw new Error(`no scenario is named ${only}`);
  const plan: Plan = {
    scenarios,
    runs: Number(options.runs),
    seconds: Number(options.seconds),
    sizeMiB: options.size === undefined ? null : Number(options.size),
  };
  const places: Place[] = [
    { kind: "memory" as const, folder: options.memory },
    { kind: "disk" as const, folder: options.dir },
  ].filter(({ folder }) => folder !== "none");
  for (const place of places) await assertKind(place);

  const samples: Sample[] = [];
  for (const place of places) samples.push(...(await measurePlace(place, plan)));
  const sizes = [...new Set(scenarios.map(({ sizeMiB }) => plan.sizeMiB ?? sizeMiB))];
  const method =
    `Medians of ${plan.runs} interleaved runs, ${plan.seconds} s a measurement, on arrays of ` +
    `${sizes.join(" or ")} MiB, over one connection on a Unix socket.`;
  const report = makeReport(scenarios, samples, method);
  console.log(options.json ? JSON.stringify(report, null, 2) : toMarkdown(report, scenarios));
}

/** A disk that is memory in truth would make every durable write look free. */
async function assertKind({ kind, folder }: Place): Promise<void> {
  const TMPFS_MAGIC = 0x01021994; // statfs(2)
  const isMemory = (await statfs(folder)).type === TMPFS_MAGIC;
  if (isMemory === (kind === "memory")) return;
  const option = kind === "memory" ? "--memory" : "--dir";
  throw new Error(`${option} ${folder}: ${isMemory ? "a" : "not a"} memory file system`);
}

await main();
