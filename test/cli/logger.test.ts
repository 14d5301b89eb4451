import { spawnSync } from "node:child_process";
import { closeSync, constants, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { writerTo } from "../../src/cli/serve/logger.ts";
import { temporaryFolder } from "../control/running.ts";

const KIB = 1024;
/** What is logged in a test is counted in lines of this length. */
const lineOf = (letter: string, bytes = 1000): string => `${letter.repeat(bytes - 1)}\n`;

/** A pipe of the system's usual 64 KiB whose ends never wait. */
async function pipe() {
  const path = join(await temporaryFolder(), "pipe");
  spawnSync("mkfifo", [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  onTestFinished(() => closeSync(fd));
  const buffer = Buffer.alloc(64 * KIB);
  const drain = (): string => buffer.toString("latin1", 0, readSync(fd, buffer));
  return { fd, drain };
}

test("a log line that is written stands there at once", async () => {
  const { fd, drain } = await pipe();
  writerTo(fd).write("é\n");
  expect(drain()).toBe(Buffer.from("é\n").toString("latin1"));
});

test("of lines that a full pipe does not take none is waited for, and none is run into another", async () => {
  const { fd, drain } = await pipe();
  const out = writerTo(fd);
  out.write(lineOf("a", 60 * KIB));
  for (let i = 0; i < 20; i++) out.write(lineOf("b", 5 * KIB)); // the first fits in part
  const before = drain();
  out.write(lineOf("c"));
  out.write(lineOf("d"));
  const lines = (before + drain()).split("\n");
  expect(lines.map((line) => line[0] ?? "")).toEqual(["a", "b", "c", "d", ""]);
  expect(lines.slice(2)).toEqual([lineOf("c").trim(), lineOf("d").trim(), ""]);
});

test("to a disk that is full a line is lost, and no error", () => {
  const full = openSync("/dev/full", "w");
  onTestFinished(() => closeSync(full));
  expect(() => writerTo(full).write(lineOf("a"))).not.toThrow();
});
