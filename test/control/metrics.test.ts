import { readFileSync } from "node:fs";
import { collectDefaultMetrics, Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { StatusDocument } from "../../src/control/api.ts";
import { METRICS, renderMetrics } from "../../src/control/metrics.ts";
import { parseExposition, valueOf } from "./exposition.ts";
import { arrayStatus } from "./fake-array.ts";

/** Every number is another one, so that no metric can show the wrong one. */
const member = { writeMostly: false, readErrors: 0, writeErrors: 0, unlinked: false };
const STATUS: StatusDocument = {
  version: 1,
  arrays: [
    arrayStatus({
      name: "data",
      level: "5",
      layout: "left-symmetric",
      raidDisks: 4,
      state: "active",
      degraded: 2,
      mismatchCount: 24,
      suspectBytes: 65_536,
      stripeWrites: { full: 31, reconstruct: 32, modify: 33 },
      members: [
        { ...member, slot: 0, path: "/a", state: "in_sync", readErrors: 41, writeErrors: 42 },
        { ...member, slot: 1, path: null, state: "missing" },
        { ...member, slot: 2, path: "/c", state: "rebuilding" },
        { ...member, slot: null, path: "/d", state: "faulty", writeErrors: 43 },
      ],
      sync: {
        action: "recovery",
        pending: false,
        waitingFor: null,
        doneBytes: 51,
        totalBytes: 52,
        skippedBytes: 53,
        bytesPerSecond: 54,
        etaSeconds: 55,
      },
      lastSync: {
        action: "check",
        startedAt: 61,
        finishedAt: 62,
        result: "stopped",
        failure: null,
        readBytes: 63,
        writtenBytes: 64,
        skippedBytes: 65,
      },
    }),
    arrayStatus({ name: "plain", level: "0", bitmap: null, state: "read-only", members: [] }),
  ],
  exports: [
    {
      name: "data",
      connections: 71,
      requests: {
        read: 72,
        write: 73,
        flush: 74,
        trim: 75,
        cache: 76,
        writeZeroes: 77,
        blockStatus: 78,
      },
      readBytes: 79,
      writtenBytes: 80,
    },
  ],
  connections: [
    { export: "data", peer: "unix", tls: false, inFlight: 3, readBytes: 1, writtenBytes: 2 },
    { export: "data", peer: "unix", tls: true, inFlight: 4, readBytes: 1, writtenBytes: 2 },
    { export: "plain", peer: "unix", tls: true, inFlight: 9, readBytes: 1, writtenBytes: 2 },
  ],
};

const scrape = async (status: StatusDocument) => parseExposition(await renderMetrics(status, []));

describe("the metrics", () => {
  test("are the numbers of the status", async () => {
    const families = await scrape(STATUS);
    const data = { array: "data" };
    const expected: [name: string, labels: Record<string, string>, value: number | null][] = [
      [
        "array_info",
        { ...data, uuid: STATUS.arrays[0]!.uuid, level: "5", layout: "left-symmetric" },
        1,
      ],
      ["array_info", { array: "plain", uuid: STATUS.arrays[1]!.uuid, level: "0", layout: "" }, 1],
      ["array_state", { ...data, state: "active" }, 1],
      ["array_state", { ...data, state: "failed" }, 0],
      ["array_state", { array: "plain", state: "read-only" }, 1],
      ["array_size_bytes", data, 1024 ** 3],
      ["array_slots", data, 4],
      ["array_degraded_slots", data, 2],
      ["array_mismatch_bytes", data, 24 * 512],
      ["array_suspect_bytes", data, 65_536],
      ["array_stripe_writes_total", { ...data, method: "full" }, 31],
      ["array_stripe_writes_total", { ...data, method: "reconstruct" }, 32],
      ["array_stripe_writes_total", { ...data, method: "modify" }, 33],
      ["array_stripe_writes_total", { array: "plain", method: "full" }, null],
      ["member_state", { ...data, slot: "0", path: "/a", state: "in_sync" }, 1],
      ["member_state", { ...data, slot: "0", path: "/a", state: "faulty" }, 0],
      ["member_state", { ...data, slot: "1", path: "", state: "missing" }, 1],
      ["member_state", { ...data, slot: "2", path: "/c", state: "rebuilding" }, 1],
      ["member_state", { ...data, slot: "", path: "/d", state: "faulty" }, 1],
      ["member_read_errors_total", { ...data, slot: "0", path: "/a" }, 41],
      ["member_write_errors_total", { ...data, slot: "0", path: "/a" }, 42],
      ["member_write_errors_total", { ...data, slot: "", path: "/d" }, 43],
      ["bitmap_region_size_bytes", data, 65_536],
      ["bitmap_regions", { ...data, state: "unwritten" }, 16_000],
      ["bitmap_regions", { ...data, state: "clean" }, 300],
      ["bitmap_regions", { ...data, state: "dirty" }, 80],
      ["bitmap_regions", { ...data, state: "need_sync" }, 3],
      ["bitmap_regions", { ...data, state: "syncing" }, 1],
      ["bitmap_regions", { array: "plain", state: "dirty" }, null],
      ["bitmap_blocks_written_total", data, 12],
      ["bitmap_infections_total", data, 2],
      ["bitmap_oldest_dirty_seconds", data, 12],
      ["sync_running", { ...data, action: "recovery" }, 1],
      ["sync_running", { ...data, action: "resync" }, 0],
      ["sync_pending", data, 0],
      ["sync_done_bytes", data, 51],
      ["sync_goal_bytes", data, 52],
      ["sync_skipped_bytes", data, 53],
      ["sync_speed_bytes_per_second", data, 54],
      ["sync_done_bytes", { array: "plain" }, null],
      ["last_sync_finish_timestamp_seconds", { ...data, action: "check", result: "stopped" }, 62],
      ["open_connections", { export: "data" }, 2],
      ["requests_in_flight", { export: "data" }, 7],
      ["connections_total", { export: "data" }, 71],
      ["requests_total", { export: "data", command: "read" }, 72],
      ["requests_total", { export: "data", command: "write" }, 73],
      ["requests_total", { export: "data", command: "flush" }, 74],
      ["requests_total", { export: "data", command: "trim" }, 75],
      ["requests_total", { export: "data", command: "cache" }, 76],
      ["requests_total", { export: "data", command: "write_zeroes" }, 77],
      ["requests_total", { export: "data", command: "block_status" }, 78],
      ["read_bytes_total", { export: "data" }, 79],
      ["written_bytes_total", { export: "data" }, 80],
    ];
    const shown = expected.map(([name, labels]) => [
      name,
      labels,
      valueOf(families, `nbd_raid_${name}`, labels),
    ]);
    expect(shown).toEqual(expected);
    const tested = new Set(expected.map(([name]) => `nbd_raid_${name}`));
    expect(METRICS.map(({ name }) => name).filter((name) => !tested.has(name))).toEqual([]);
  });

  test("tell a sync that waits from one that runs", async () => {
    const [array] = STATUS.arrays;
    const sync = { ...array!.sync!, pending: true, waitingFor: "space" };
    const families = await scrape({ ...STATUS, arrays: [{ ...array!, sync }] });
    expect(valueOf(families, "nbd_raid_sync_pending", { array: "data" })).toBe(1);
    const running = { array: "data", action: "recovery" };
    expect(valueOf(families, "nbd_raid_sync_running", running)).toBe(0);
  });

  test("survive names and paths of any characters", async () => {
    for (const name of [`"`, "\\", "a\nb", `\\"\n}`, "é€😀", " ", "{x=1}"]) {
      const members = [{ ...member, slot: 0, path: `/${name}`, state: "in_sync" as const }];
      const families = await scrape({ ...STATUS, arrays: [arrayStatus({ name, members })] });
      expect(valueOf(families, "nbd_raid_array_slots", { array: name })).toBe(2);
      const labels = { array: name, slot: "0", path: `/${name}` };
      expect(valueOf(families, "nbd_raid_member_read_errors_total", labels)).toBe(0);
    }
  });

  test("start anew with each scrape: what is gone is not told of any more", async () => {
    await scrape(STATUS);
    const families = await scrape({ ...STATUS, arrays: [] });
    expect(valueOf(families, "nbd_raid_array_slots", { array: "data" })).toBeNull();
  });

  test.each(METRICS.map(({ name, type, help, labels }) => ({ name, type, help, labels })))(
    "$name is named as Prometheus wants it",
    ({ name, type, help, labels }) => {
      expect(name).toMatch(/^nbd_raid_[a-z_]+$/);
      expect(name.endsWith("_total")).toBe(type === "counter");
      expect(help).toMatch(/^[A-Z1].*\.$/);
      for (const label of labels) expect(label).toMatch(/^[a-z]+$/);
    },
  );
});

describe("docs/reference/metrics.md", () => {
  const text = readFileSync("docs/reference/metrics.md", "utf8");

  test("has a row for every metric of ours, in order, with its type and labels", () => {
    const rows = [...text.matchAll(/^\| `(nbd_raid_\w+)` *\| (\w+) *\| (.*?) *\| .+\|$/gm)];
    const documented = rows.map(([, name, type, labels]) => ({
      name,
      type,
      labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label),
    }));
    expect(documented).toEqual(METRICS.map(({ name, type, labels }) => ({ name, type, labels })));
  });

  test("names every metric of the process, and none that is not told", async () => {
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    const told = (await registry.getMetricsAsJSON()).map(({ name }) => name);
    const documented = [...text.matchAll(/`((?:process|nodejs)_\w+)`/g)].map(([, name]) => name);
    expect(documented.sort()).toEqual(told.sort());
  });
});
