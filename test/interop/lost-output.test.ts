/**
 * stdout on a full disk: what was to be printed is lost, and a command says so in one line; the
 * server has better to do. (Every write to /dev/full ends with ENOSPC.)
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { executable } from "../../scripts/project-root.ts";
import { testWith } from "./fixtures.ts";
import type { Server } from "./server.ts";

const test = testWith();

function spawnWithFullStdout(server: Server, args: readonly string[]) {
  const full = openSync("/dev/full", "w");
  const env = { ...process.env, NBD_RAID_CONTROL: server.control };
  const child = spawn(process.execPath, [executable, ...args], {
    env,
    stdio: ["ignore", full, "pipe"],
  });
  closeSync(full);
  const ended = once(child, "close") as Promise<[number | null]>;
  const said = text(child.stderr!);
  return {
    child,
    result: Promise.all([ended, said]).then(([[code], stderr]) => ({ code, stderr })),
  };
}

const LOST = /^nbd-raid: stdout: ENOSPC: [^\n]+ \(check the storage behind it\)\n$/;

test("a command whose output is lost says so in one line and ends with 4", async ({ serve }) => {
  const server = await serve();
  const [image] = server.images as [string];
  for (const args of [
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["examine", image],
    ["--help"],
  ]) {
    const { code, stderr } = await spawnWithFullStdout(server, args).result;
    expect({ args, code }).toEqual({ args, code: 4 });
    expect(stderr).toMatch(LOST);
  }
});

test("a command that prints nothing, and one that fails, end as ever", async ({ serve }) => {
  const server = await serve();
  const unknown = await spawnWithFullStdout(server, ["wait", "nothere", "--json"]).result;
  expect(unknown.code).toBe(4);
  expect(unknown.stderr).toMatch(/^nbd-raid: [^\n]*nothere[^\n]*\n$/);
  expect(await spawnWithFullStdout(server, ["stop"]).result).toEqual({ code: 0, stderr: "" });
});

test("a server whose line of output is lost serves nevertheless", async ({ create }) => {
  const server = await create();
  const where = ["--listen", `nbd+unix:///?socket=${server.socket}`, "--log-level", "error"];
  const { result } = spawnWithFullStdout(server, ["serve", ...where, ...server.images]);
  while ((await server.cli("status", "--quiet")).code === 3) await sleep(20);
  await server.ok("stop");
  expect(await result).toEqual({ code: 0, stderr: "" });
});
