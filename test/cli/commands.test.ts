import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import type { ArrayStatus } from "../../src/array/status.ts";
import { healthExitCode } from "../../src/cli/commands/status.ts";
import { parseWriteMostly } from "../../src/cli/commands/set.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { FakeArray, arrayStatus } from "../control/fake-array.ts";
import { runControl, temporaryFolder } from "../control/running.ts";
import { nbdRaid } from "./captured.ts";

/** The control socket is found by the variable: every verb looks there. */
async function serving(...arrays: FakeArray[]): Promise<{ env: NodeJS.ProcessEnv }> {
  const { path } = await runControl({ arrays });
  return { env: { NBD_RAID_CONTROL: path } };
}

const FAULTY: Partial<ArrayStatus> = {
  degraded: 1,
  members: arrayStatus().members.map((member) =>
    member.slot === 1 ? { ...member, state: "faulty" as const } : member,
  ),
};

describe("status", () => {
  test("prints the server's document with --json", async () => {
    const array = new FakeArray();
    const { code, stdout } = await nbdRaid(["status", "--json"], await serving(array));
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      version: 1,
      arrays: [array.current],
      exports: [],
      connections: [],
    });
  });

  test("prints text without, coloured on a terminal only", async () => {
    const server = await serving(new FakeArray(FAULTY));
    const piped = await nbdRaid(["status"], server);
    expect(piped.code).toBe(1);
    expect(piped.stdout).toContain("state: active, degraded\n");
    const shown = await nbdRaid(["status"], { ...server, isTTY: true });
    expect(shown.stdout).toContain("state: \x1b[33mactive, degraded\x1b[39m\n");
  });

  test("of one array is about that one", async () => {
    const server = await serving(new FakeArray(FAULTY), new FakeArray({ name: "other" }));
    expect((await nbdRaid(["status", "other"], server)).code).toBe(0);
    expect((await nbdRaid(["status", "data"], server)).code).toBe(1);
    expect((await nbdRaid(["status"], server)).code).toBe(1);
  });

  test("of an unknown array is an error, 4", async () => {
    const { code, stderr } = await nbdRaid(["status", "nope"], await serving(new FakeArray()));
    expect(code).toBe(4);
    expect(stderr).toBe(`nbd-raid: no array named "nope" (nbd-raid status lists the arrays)\n`);
  });

  test("without a server is 3", async () => {
    const env = { NBD_RAID_CONTROL: join(await temporaryFolder(), "none.sock") };
    const { code, stdout, stderr } = await nbdRaid(["status", "--json"], { env });
    expect(code).toBe(3);
    expect(stderr).toMatch(/^nbd-raid: no server is running: .*\n$/);
    expect(JSON.parse(stdout)).toMatchObject({ version: 1, error: { code: "no-server" } });
  });

  test.each<[string, Partial<ArrayStatus>[], number]>([
    ["healthy", [{}], 0],
    ["no arrays", [], 0],
    ["read-only", [{ state: "read-only" }], 0],
    ["degraded", [{ degraded: 1 }], 1],
    ["failed", [{ state: "failed" }], 2],
    ["the worst of several", [{}, { state: "failed", degraded: 1 }, { degraded: 1 }], 2],
  ])("exit code: %s", (_what, arrays, code) => {
    expect(healthExitCode(arrays.map(arrayStatus))).toBe(code);
  });

  test("--quiet prints nothing, whatever there is to say", async () => {
    const server = await serving(new FakeArray(FAULTY));
    const silent = { stdout: "", stderr: "" };
    expect(await nbdRaid(["status", "--quiet"], server)).toEqual({ code: 1, ...silent });
    expect(await nbdRaid(["status", "nope", "--quiet"], server)).toEqual({ code: 4, ...silent });
    const env = { NBD_RAID_CONTROL: join(await temporaryFolder(), "none.sock") };
    expect(await nbdRaid(["status", "--quiet"], { env })).toEqual({ code: 3, ...silent });
  });

  test("--watch with --json prints a document a line until its reader is gone", async () => {
    const server = await serving(new FakeArray());
    const watched = await nbdRaid(["status", "--watch", "--json"], { ...server, writesMax: 2 });
    const lines = watched.stdout.trimEnd().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as { version: number }).version)).toEqual([1, 1]);
  });

  test("--watch redraws a terminal, and writes no control characters elsewhere", async () => {
    const server = await serving(new FakeArray());
    const shown = await nbdRaid(["status", "--watch"], { ...server, isTTY: true, writesMax: 2 });
    expect(shown.stdout.startsWith("\x1b[H\x1b[J")).toBe(true);
    const piped = await nbdRaid(["status", "--watch"], { ...server, writesMax: 1 });
    expect(piped.stdout).not.toContain("\x1b");
  });
});

describe("a member verb", () => {
  test.each([
    [["fail", "data", "b.img"], `fail ${resolve("b.img")}`],
    [["fail", "data", "1"], "fail 1"],
    [["fail", "data", "./1"], `fail ${resolve("1")}`],
    [["remove", "data", "/b.img"], "remove /b.img"],
    [["re-add", "data", "b.img"], `re-add ${resolve("b.img")}`],
    [["add", "data", "nbd://host/x"], "add nbd://host/x false"],
    [["add", "data", "c.img", "--write-mostly"], `add ${resolve("c.img")} true`],
    [["set", "data", "write-mostly", "b.img"], `write-mostly ${resolve("b.img")} true`],
    [["set", "data", "write-mostly", "1=off"], "write-mostly 1 false"],
    [["set", "data", "daemon-sleep", "0.5"], `set {"daemonSleepMs":500}`],
    [["set", "data", "barrier-idle", "500ms"], `set {"barrierIdleMs":500}`],
    [["set", "data", "sync-speed-min", "1M"], `set {"syncSpeedMin":1048576}`],
    [["set", "data", "sync-speed-max", "0"], `set {"syncSpeedMax":0}`],
    [["check", "data"], "sync check"],
    [["repair", "data"], "sync repair"],
    [["resync", "data"], "sync resync"],
    [["idle", "data"], "sync idle"],
    [["frozen", "data", "--wait"], "sync frozen"],
    [["wait", "data"], "wait"],
  ])("%j asks the server for: %s", async (args, call) => {
    const array = new FakeArray();
    const { code, stderr } = await nbdRaid(args, await serving(array));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(array.calls).toEqual([call]);
  });

  test("shows the array as it is afterwards", async () => {
    const server = await serving(new FakeArray(FAULTY));
    const { stdout } = await nbdRaid(["fail", "data", "1"], server);
    expect(stdout).toBe("data: active, degraded [U_]\n");
    const json = await nbdRaid(["fail", "data", "1", "--json"], server);
    expect(JSON.parse(json.stdout)).toMatchObject({ version: 1, arrays: [{ degraded: 1 }] });
  });

  test("that is refused says what else to do", async () => {
    const array = new FakeArray();
    array.fails = new NbdRaidError("re-add-refused", "b.img: its bitmap is too old");
    const server = await serving(array);
    const { code, stderr } = await nbdRaid(["re-add", "data", "b.img"], server);
    expect(code).toBe(4);
    expect(stderr).toBe(
      "nbd-raid: b.img: its bitmap is too old (nbd-raid add copies it in full)\n",
    );
  });

  test("wait tells of a sync that failed", async () => {
    const array = new FakeArray();
    array.fails = new NbdRaidError("sync-failed", "the recovery failed");
    expect((await nbdRaid(["wait", "data"], await serving(array))).code).toBe(4);
  });

  test("of syncs waits if asked to, and shows the array as it is then", async () => {
    const array = new FakeArray();
    const server = await serving(array);
    const { code, stdout } = await nbdRaid(["check", "data", "--wait", "--json"], server);
    expect(code).toBe(0);
    expect(array.calls).toEqual(["sync check", "wait"]);
    expect(JSON.parse(stdout)).toEqual({ version: 1, arrays: [array.current] });
  });

  test("write-mostly takes a path that looks like a switch", () => {
    expect(parseWriteMostly("/a=b")).toEqual({ member: "/a=b", writeMostly: true });
    expect(parseWriteMostly("/a=on")).toEqual({ member: "/a", writeMostly: true });
    expect(parseWriteMostly("/a=on=off")).toEqual({ member: "/a=on", writeMostly: false });
  });
});
