/**
 * What `--metrics` tells: the status document as Prometheus metrics. docs/reference/metrics.md
 * lists them all, which a test compares.
 */
import { Counter, Gauge, Registry } from "prom-client";
import type { ArrayStatus, BitmapStatus, MemberStatus, SyncStatus } from "../array/status.ts";
import type { ExportTotals, StatusDocument } from "./api.ts";

/** One metric: its samples are read off the status, never counted here. */
export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "gauge" | "counter";
  readonly labels: readonly string[];
  readonly samples: (status: StatusDocument) => readonly Sample[];
}

type Sample = readonly [labels: Record<string, string>, value: number];

const SECTOR_BYTES = 512;

/** As text for a scrape, together with the metrics of `others`. */
export function renderMetrics(
  status: StatusDocument,
  others: readonly Registry[],
): Promise<string> {
  const registry = new Registry();
  for (const metric of METRICS) put(metric, status, registry);
  return Registry.merge([registry, ...others]).metrics();
}

function put(
  { name, help, type, labels, samples }: Metric,
  status: StatusDocument,
  into: Registry,
) {
  const options = { name, help, labelNames: labels, registers: [into] };
  if (type === "counter") {
    const counter = new Counter(options);
    for (const [of, value] of samples(status)) counter.inc(of, value);
  } else {
    const gauge = new Gauge(options);
    for (const [of, value] of samples(status)) gauge.set(of, value);
  }
}

/** Of every array; null where it has no such thing. */
const ofArrays =
  (value: (array: ArrayStatus) => number | null): Metric["samples"] =>
  ({ arrays }) =>
    arrays.flatMap((array) => one({ array: array.name }, value(array)));

const ofBitmaps = (value: (bitmap: BitmapStatus) => number | null): Metric["samples"] =>
  ofArrays(({ bitmap }) => (bitmap === null ? null : value(bitmap)));

const ofSyncs = (value: (sync: SyncStatus) => number | null): Metric["samples"] =>
  ofArrays(({ sync }) => (sync === null ? null : value(sync)));

/** Of every slot and every other member; a slot that is empty has no path, a spare no slot. */
const ofMembers =
  (value: (member: MemberStatus) => number): Metric["samples"] =>
  ({ arrays }) =>
    arrays.flatMap(({ name, members }) =>
      members.map((member): Sample => [memberLabels(name, member), value(member)]),
    );

const ofExports =
  (value: (totals: ExportTotals, status: StatusDocument) => number): Metric["samples"] =>
  (status) =>
    status.exports.map((totals): Sample => [{ export: totals.name }, value(totals, status)]);

function one(labels: Record<string, string>, value: number | null): readonly Sample[] {
  return value === null ? [] : [[labels, value]];
}

function memberLabels(array: string, { slot, path }: MemberStatus): Record<string, string> {
  return { array, slot: slot === null ? "" : String(slot), path: path ?? "" };
}

/** 1 for the word that holds, 0 for the others. */
function oneOf(
  words: readonly string[],
  now: string | null,
  label: string,
  labels: Record<string, string>,
): Sample[] {
  return words.map((word) => [{ ...labels, [label]: word }, word === now ? 1 : 0]);
}

const ARRAY_STATES = ["clean", "active", "failed", "read-only"] as const;
const MEMBER_STATES = ["in_sync", "rebuilding", "spare", "faulty", "missing"] as const;
const REGION_STATES = ["unwritten", "clean", "dirty", "needSync", "syncing"] as const;
const SYNC_ACTIONS = ["resync", "recovery", "check", "repair", "reshape"] as const;
const STRIPE_METHODS = ["full", "reconstruct", "modify"] as const;
const COMMANDS = ["read", "write", "flush", "trim", "cache", "writeZeroes", "blockStatus"] as const;

/** Labels have underscores where JSON has humps. */
const snake = (word: string): string =>
  word.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const gauge = (
  name: string,
  help: string,
  labels: readonly string[],
  samples: Metric["samples"],
): Metric => ({ name: `nbd_raid_${name}`, help, type: "gauge", labels, samples });

const counter = (...[name, help, labels, samples]: Parameters<typeof gauge>): Metric => ({
  ...gauge(`${name}_total`, help, labels, samples),
  type: "counter",
});

const ARRAY = ["array"];
const MEMBER = ["array", "slot", "path"];
const EXPORT = ["export"];

export const METRICS: readonly Metric[] = [
  gauge("array_info", "What the array is.", ["array", "uuid", "level", "layout"], ({ arrays }) =>
    arrays.map(({ name, uuid, level, layout }): Sample => [
      { array: name, uuid, level, layout: layout ?? "" },
      1,
    ]),
  ),
  gauge("array_state", "1 for the state the array is in.", ["array", "state"], ({ arrays }) =>
    arrays.flatMap(({ name, state }) => oneOf(ARRAY_STATES, state, "state", { array: name })),
  ),
  gauge(
    "array_size_bytes",
    "What clients see.",
    ARRAY,
    ofArrays(({ size }) => size),
  ),
  gauge(
    "array_slots",
    "Slots for members.",
    ARRAY,
    ofArrays(({ raidDisks }) => raidDisks),
  ),
  gauge(
    "array_degraded_slots",
    "Slots that are not in sync.",
    ARRAY,
    ofArrays(({ degraded }) => degraded),
  ),
  gauge(
    "array_mismatch_bytes",
    "What the last check, repair or resync found to differ, in md's units.",
    ARRAY,
    ofArrays(({ mismatchCount }) => mismatchCount * SECTOR_BYTES),
  ),
  gauge(
    "array_suspect_bytes",
    "Tracked bytes in which members may not fit together until a sync has run.",
    ARRAY,
    ofArrays(({ suspectBytes }) => suspectBytes),
  ),
  counter(
    "array_stripe_writes",
    "Stripes written, by what had to be read: nothing, the rest of the data, old data and parity.",
    ["array", "method"],
    ({ arrays }) =>
      arrays.flatMap(({ name, stripeWrites }) =>
        stripeWrites === null
          ? []
          : STRIPE_METHODS.map((method): Sample => [{ array: name, method }, stripeWrites[method]]),
      ),
  ),
  gauge("member_state", "1 for the state the member is in.", [...MEMBER, "state"], ({ arrays }) =>
    arrays.flatMap(({ name, members }) =>
      members.flatMap((member) =>
        oneOf(MEMBER_STATES, member.state, "state", memberLabels(name, member)),
      ),
    ),
  ),
  counter(
    "member_read_errors",
    "Reads that the member failed.",
    MEMBER,
    ofMembers(({ readErrors }) => readErrors),
  ),
  counter(
    "member_write_errors",
    "Writes that the member failed.",
    MEMBER,
    ofMembers(({ writeErrors }) => writeErrors),
  ),
  gauge(
    "bitmap_region_size_bytes",
    "What one region covers.",
    ARRAY,
    ofBitmaps(({ regionSize }) => regionSize),
  ),
  gauge("bitmap_regions", "Regions in the state.", ["array", "state"], ({ arrays }) =>
    arrays.flatMap(({ name, bitmap }) =>
      bitmap === null
        ? []
        : REGION_STATES.map((state): Sample => [
            { array: name, state: snake(state) },
            bitmap[state],
          ]),
    ),
  ),
  counter(
    "bitmap_blocks_written",
    "Blocks of the bitmap written.",
    ARRAY,
    ofBitmaps(({ blocksWritten }) => blocksWritten),
  ),
  counter(
    "bitmap_infections",
    "Blocks of the bitmap turned dirty as a whole.",
    ARRAY,
    ofBitmaps(({ infections }) => infections),
  ),
  gauge(
    "bitmap_oldest_dirty_seconds",
    "For how long the oldest dirty region has been dirty.",
    ARRAY,
    ofBitmaps(({ oldestDirtySeconds }) => oldestDirtySeconds),
  ),
  gauge("sync_running", "1 for the action that runs.", ["array", "action"], ({ arrays }) =>
    arrays.flatMap(({ name, sync }) =>
      oneOf(SYNC_ACTIONS, sync?.pending === false ? sync.action : null, "action", { array: name }),
    ),
  ),
  gauge(
    "sync_pending",
    "1 while a sync waits to start.",
    ARRAY,
    ofArrays(({ sync }) => (sync?.pending === true ? 1 : 0)),
  ),
  gauge(
    "sync_done_bytes",
    "How far the sync is, skipped bytes among it.",
    ARRAY,
    ofSyncs(({ doneBytes }) => doneBytes),
  ),
  gauge(
    "sync_goal_bytes",
    "How far the sync goes.",
    ARRAY,
    ofSyncs(({ totalBytes }) => totalBytes),
  ),
  gauge(
    "sync_skipped_bytes",
    "What the bitmap spared the sync.",
    ARRAY,
    ofSyncs(({ skippedBytes }) => skippedBytes),
  ),
  gauge(
    "sync_speed_bytes_per_second",
    "Recent speed of the sync.",
    ARRAY,
    ofSyncs(({ bytesPerSecond }) => bytesPerSecond),
  ),
  gauge(
    "last_sync_finish_timestamp_seconds",
    "When the last sync ended, and how.",
    ["array", "action", "result"],
    ({ arrays }) =>
      arrays.flatMap(({ name, lastSync }) =>
        lastSync === null
          ? []
          : one(
              { array: name, action: lastSync.action, result: lastSync.result },
              lastSync.finishedAt,
            ),
      ),
  ),
  gauge(
    "open_connections",
    "Clients that are connected.",
    EXPORT,
    ofExports(({ name }, { connections }) => connections.filter((c) => c.export === name).length),
  ),
  gauge(
    "requests_in_flight",
    "Requests not finished yet.",
    EXPORT,
    ofExports(({ name }, { connections }) =>
      connections
        .filter((connection) => connection.export === name)
        .reduce((sum, { inFlight }) => sum + inFlight, 0),
    ),
  ),
  counter(
    "connections",
    "Clients that chose the export.",
    EXPORT,
    ofExports(({ connections }) => connections),
  ),
  counter(
    "requests",
    "Requests the array was asked for.",
    ["export", "command"],
    ({ exports: all }) =>
      all.flatMap(({ name, requests }) =>
        COMMANDS.map((command): Sample => [
          { export: name, command: snake(command) },
          requests[command],
        ]),
      ),
  ),
  counter(
    "read_bytes",
    "Bytes that clients have read.",
    EXPORT,
    ofExports(({ readBytes }) => readBytes),
  ),
  counter(
    "written_bytes",
    "Bytes that clients have written.",
    EXPORT,
    ofExports(({ writtenBytes }) => writtenBytes),
  ),
];
