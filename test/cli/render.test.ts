import { describe, expect, test } from "vitest";
import type {
  ArrayStatus,
  LastSync,
  MemberStatus,
  SyncAction,
  SyncStatus,
} from "../../src/array/status.ts";
import { adviceFor } from "../../src/cli/render/advice.ts";
import { renderAssembly } from "../../src/cli/render/assembly.ts";
import {
  renderArray,
  renderStatus,
  renderSummary,
  slotMap,
  stateInWords,
} from "../../src/cli/render/status.ts";
import { percent, progressBar, renderLastSync, renderSync } from "../../src/cli/render/sync.ts";
import { coloured, paintFor, plain } from "../../src/cli/terminal.ts";
import { arrayStatus } from "../control/fake-array.ts";

const MIB = 1024 ** 2;

function member(slot: number | null, changes: Partial<MemberStatus> = {}): MemberStatus {
  const healthy = {
    state: "in_sync",
    writeMostly: false,
    readErrors: 0,
    writeErrors: 0,
    unlinked: false,
  } as const;
  return { slot, path: `/images/${slot}.img`, ...healthy, ...changes };
}

function sync(changes: Partial<SyncStatus> = {}): SyncStatus {
  return {
    action: "recovery",
    pending: false,
    waitingFor: null,
    doneBytes: 126 * MIB,
    totalBytes: 1000 * MIB,
    skippedBytes: 0,
    bytesPerSecond: 120 * MIB,
    etaSeconds: 192,
    ...changes,
  };
}

function lastSync(action: SyncAction, result: LastSync["result"] = "done"): LastSync {
  const bytes = { readBytes: 0, writtenBytes: 0, skippedBytes: 0 };
  const failure = result === "failed" ? "nobody could read it" : null;
  return { action, startedAt: 1, finishedAt: 2, result, failure, ...bytes };
}

function degraded(second: MemberStatus, changes: Partial<ArrayStatus> = {}): ArrayStatus {
  return arrayStatus({ degraded: 1, members: [member(0), second], ...changes });
}

describe("the progress of a sync", () => {
  test.each([
    [0, "[>....................]", "0.0%"],
    [0.126, "[==>..................]", "12.6%"],
    [0.5, "[==========>..........]", "50.0%"],
    [0.99999, "[===================>.]", "99.9%"],
    [1, "[====================>]", "100.0%"],
  ])("of %d is md's bar", (fraction, bar, shown) => {
    expect(progressBar(fraction)).toBe(bar);
    expect(percent(fraction)).toBe(shown);
  });

  test("shows amounts, speed and time to go", () => {
    expect(renderSync(sync())).toBe(
      "[==>..................] 12.6% (126 MiB/1000 MiB), 120 MiB/s, finish 3m 12s",
    );
  });

  test("shows what was skipped, and no time to go while it is unknown", () => {
    expect(renderSync(sync({ etaSeconds: null, skippedBytes: 64 * MIB }))).toBe(
      "[==>..................] 12.6% (126 MiB/1000 MiB), 120 MiB/s, 64 MiB skipped",
    );
  });

  test("of nothing is done", () => {
    expect(renderSync(sync({ doneBytes: 0, totalBytes: 0 }))).toContain("100.0% (0 B/0 B)");
  });

  test.each([
    [{ pending: true }, "pending"],
    [{ pending: true, waitingFor: "no space" }, "waits: no space"],
  ])("that has not begun says what it waits for: %j", (changes, text) => {
    expect(renderSync(sync(changes))).toBe(text);
  });

  test("that pauses says why", () => {
    expect(renderSync(sync({ waitingFor: "no space" }))).toMatch(/^\[==>.*, waits: no space$/);
  });

  test("that is over says how it went", () => {
    const last = {
      action: "resync",
      startedAt: 1_700_000_000,
      finishedAt: 1_700_000_012,
      result: "done",
      failure: null,
      readBytes: 2 * MIB,
      writtenBytes: MIB,
      skippedBytes: 0,
    } as const;
    expect(renderLastSync(last)).toBe(
      "resync done at 2023-11-14 22:13:32 UTC, took 12s: " +
        "2 MiB read, 1 MiB written, 0 B skipped",
    );
  });
});

describe("an array's state", () => {
  test.each<[string, ArrayStatus, string]>([
    ["healthy", arrayStatus(), "active"],
    ["clean", arrayStatus({ state: "clean" }), "clean"],
    ["degraded", degraded(member(1, { state: "faulty" })), "active, degraded"],
    [
      "rebuilding",
      degraded(member(1, { state: "rebuilding" }), { sync: sync() }),
      "active, degraded, recovering",
    ],
    [
      "to be resynced",
      arrayStatus({ sync: sync({ action: "resync", pending: true }) }),
      "active, resyncing (pending)",
    ],
    ["failed", arrayStatus({ state: "failed", degraded: 2 }), "failed, degraded"],
  ])("%s", (_what, array, words) => expect(stateInWords(array)).toBe(words));

  test("is one line after a change", () => {
    const array = degraded(member(1, { state: "rebuilding" }), { sync: sync() });
    expect(renderSummary(array)).toBe("data: active, degraded, recovering 12.6% [U_]\n");
    expect(renderSummary(arrayStatus())).toBe("data: active [UU]\n");
    const differing = arrayStatus({ mismatchCount: 128 });
    expect(renderSummary(differing)).toBe("data: active [UU], 128 sectors differ\n");
  });

  test.each<[MemberStatus["state"], string]>([
    ["in_sync", "U"],
    ["rebuilding", "_"],
    ["faulty", "_"],
    ["missing", "_"],
  ])("has a letter for a slot that is %s", (state, letter) => {
    expect(slotMap([member(0), member(1, { state })])).toBe(`[U${letter}]`);
  });

  test("has no letter for members without a slot", () => {
    expect(slotMap([member(0), member(null, { state: "spare" })])).toBe("[U]");
  });
});

describe("the next step", () => {
  test.each<[string, ArrayStatus, RegExp | null, RegExp | null]>([
    ["healthy", arrayStatus(), null, null],
    ["failed", arrayStatus({ state: "failed", degraded: 1 }), /has failed/, /restart the server/],
    [
      "faulty member",
      degraded(member(1, { state: "faulty" })),
      /^\/images\/1\.img in slot 1 has failed/,
      /nbd-raid remove data \/images\/1\.img; nbd-raid re-add data \/images\/1\.img .* nbd-raid add data/,
    ],
    [
      "write errors that nobody could bear",
      degraded(member(1, { state: "missing", path: null }), {
        members: [member(0, { writeErrors: 3 }), member(1, { state: "missing", path: null })],
      }),
      /^\/images\/0\.img in slot 0 has failed 3 writes .* clients got errors/,
      /^Bring a missing member back first .* nbd-raid fail data 0; nbd-raid remove data 0; nbd-raid add data/,
    ],
    [
      "write errors of a member that can be replaced by now",
      arrayStatus({ members: [member(0, { writeErrors: 3 }), member(1)] }),
      /has failed 3 writes/,
      /^Put sound storage in its place: nbd-raid fail data 0/,
    ],
    [
      "write errors without redundancy",
      arrayStatus({ level: "0", members: [member(0, { writeErrors: 3 }), member(1)] }),
      /has failed 3 writes/,
      /^Copy the array's data elsewhere/,
    ],
    [
      "empty slot",
      degraded(member(1, { state: "missing", path: null })),
      /^Slot 1 has no member/,
      /nbd-raid re-add data MEMBER .* nbd-raid add data MEMBER/,
    ],
    [
      "rebuilding",
      degraded(member(1, { state: "rebuilding" }), { sync: sync() }),
      /1\.img in slot 1 is being rebuilt \(874 MiB to go\)/,
      /nbd-raid wait data/,
    ],
    ["resync", arrayStatus({ sync: sync({ action: "resync" }) }), /crash/, /nbd-raid wait data/],
    [
      "a write hole",
      degraded(member(1, { state: "missing", path: null }), { level: "5", suspectBytes: 65536 }),
      /cannot be known in 64 KiB of each member/,
      /nbd-raid repair data/,
    ],
    [
      "no space",
      arrayStatus({ sync: sync({ waitingFor: "no space" }) }),
      /waits: no space/,
      /by itself/,
    ],
    [
      "failed sync",
      arrayStatus({ lastSync: lastSync("resync", "failed") }),
      /The last resync failed: nobody could read it/,
      /storage/,
    ],
    [
      "a check that found something",
      arrayStatus({ mismatchCount: 8, lastSync: lastSync("check") }),
      /8 sectors that differ/,
      /nbd-raid repair data/,
    ],
    [
      "a repair that did too",
      arrayStatus({ mismatchCount: 8, lastSync: lastSync("repair") }),
      null,
      null,
    ],
  ])("%s", (_what, array, status, action) => {
    const advice = adviceFor(array);
    if (status === null || action === null) expect(advice).toBeNull();
    else
      expect(advice).toEqual({
        status: expect.stringMatching(status) as string,
        action: expect.stringMatching(action) as string,
      });
  });

  test("quotes names for the shell", () => {
    const array = degraded(member(1, { state: "faulty", path: "/my images/it's" }), {
      name: "a b",
    });
    expect(adviceFor(array)?.action).toContain(`re-add 'a b' '/my images/it'\\''s'`);
  });
});

describe("status in full", () => {
  test("of a degraded array", () => {
    const second = member(1, { state: "rebuilding", readErrors: 7, writeMostly: true });
    const array = degraded(second, { sync: sync(), mismatchCount: 8 });
    expect(renderArray(array, plain)).toBe(`   array: data
   state: active, degraded, recovering
   level: raid1, 2 slots
    size: 1 GiB (1073741824 bytes)
    uuid: 00112233:44556677:8899aabb:ccddeeff, events 17
  status: /images/1.img in slot 1 is being rebuilt (874 MiB to go).
  action: Wait for it: nbd-raid wait data
   slots: [U_]
  bitmap: lockless, 16384 regions of 64 KiB: 16000 unwritten, 300 clean, 80 dirty, 3 need sync, 1 syncing; 12 blocks written, 2 infections, oldest dirty 12s
recovery: [==>..................] 12.6% (126 MiB/1000 MiB), 120 MiB/s, finish 3m 12s
mismatch: 8 sectors

  SLOT  STATE       READ ERRORS  WRITE ERRORS  PATH
     0  in_sync               0             0  /images/0.img
     1  rebuilding            7             0  /images/1.img (write-mostly)
`);
  });

  test("shows every kind of member, and colours those that need attention", () => {
    const members = [
      member(0),
      member(1, { state: "rebuilding" }),
      member(2, { state: "faulty", writeErrors: 1 }),
      member(3, { state: "missing", path: null }),
      member(null, { state: "spare", path: "/images/s.img", unlinked: true }),
    ];
    const array = arrayStatus({ members, degraded: 3, bitmap: null });
    const text = renderArray(array, (colour, word) => `<${colour}>${word}</>`);
    expect(text.split("\n").slice(-6)).toEqual([
      "     0  in_sync               0             0  /images/0.img",
      "<yellow>     1  rebuilding            0             0  /images/1.img</>",
      "<red>     2  faulty                0             1  /images/2.img</>",
      "<red>     3  missing               0             0  -</>",
      "     -  spare                 0             0  /images/s.img (deleted)",
      "",
    ]);
    expect(text).toContain("state: <yellow>active, degraded</>");
    expect(text).not.toContain("bitmap:");
  });

  test("names layout and chunk of striped levels", () => {
    const array = arrayStatus({ level: "5", layout: "left-symmetric", chunkSize: 524_288 });
    expect(renderArray(array, plain)).toContain(
      "level: raid5, 2 slots, left-symmetric, chunk 512 KiB",
    );
    expect(renderArray(arrayStatus({ level: "linear" }), plain)).toContain(
      "level: linear, 2 slots",
    );
  });

  test("lists clients", () => {
    const connections = [
      { export: "data", peer: "unix", tls: false, inFlight: 3, readBytes: MIB, writtenBytes: 0 },
    ];
    const text = renderStatus({ version: 1, arrays: [], exports: [], connections }, plain);
    expect(text).toBe(`  CLIENT  EXPORT  TLS  IN FLIGHT   READ  WRITTEN
  unix    data    no           3  1 MiB      0 B
`);
  });
});

describe("what serve would do", () => {
  test("comes with its reasons", () => {
    const report = {
      name: "data",
      uuid: "1:2:3:4",
      level: "1",
      layout: null,
      chunkSize: null,
      raidDisks: 2,
      verdict: "needs --run",
      reason: "slot 1 is missing",
      members: [
        { path: "/a", slot: 0, events: 17, use: "in_sync", reason: null },
        { path: "/b", slot: null, events: 9, use: "left out", reason: "8 events behind" },
      ],
      sync: "resync of 3 regions",
    } as const;
    expect(renderAssembly({ ...report, members: [...report.members] }))
      .toBe(`data: would start only with --run: slot 1 is missing
  level 1, 1 of 2 slots in sync, uuid 1:2:3:4
  sync: resync of 3 regions

  SLOT  EVENTS  USE       PATH  WHY
     0      17  in_sync   /a
     -       9  left out  /b    8 events behind
`);
  });
});

test("what serve would do is said of levels with layouts and chunks", () => {
  const about = { name: "data", uuid: "1:2:3:4", raidDisks: 4, members: [], sync: null };
  const refused = { verdict: "needs --force", reason: "not clean" } as const;
  const level = { level: "5", layout: "left-symmetric", chunkSize: 524_288 };
  const [first, second] = renderAssembly({ ...about, ...refused, ...level }).split("\n");
  expect(first).toBe("data: would start only with --force: not clean");
  expect(second).toBe(
    "  level 5, left-symmetric, chunk 512 KiB, 0 of 4 slots in sync, uuid 1:2:3:4",
  );
});

describe("colour", () => {
  const terminal = { writable: true, isTTY: true, write: () => true };
  const pipe = { writable: true, write: () => true };

  test.each([
    [terminal, {}, coloured],
    [terminal, { NO_COLOR: "" }, coloured],
    [terminal, { NO_COLOR: "1" }, plain],
    [terminal, { TERM: "dumb" }, plain],
    [pipe, {}, plain],
  ])("only on a terminal that can show it", (output, env, paint) => {
    expect(paintFor(output, env)).toBe(paint);
  });

  test("is the terminal's own", () => expect(coloured("red", "x")).toBe("\x1b[31mx\x1b[39m"));
});
