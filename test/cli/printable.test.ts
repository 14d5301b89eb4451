import { expect, test } from "vitest";
import { mdSuperblock } from "../../src/array/md-fields.ts";
import { reportFailure } from "../../src/cli/failure.ts";
import { renderAssembly } from "../../src/cli/render/assembly.ts";
import { renderConverted } from "../../src/cli/render/convert.ts";
import { renderExamined } from "../../src/cli/render/examine.ts";
import { printable } from "../../src/cli/render/printable.ts";
import { renderStatus, renderSummary } from "../../src/cli/render/status.ts";
import { createLogger } from "../../src/cli/serve/logger.ts";
import { plain } from "../../src/cli/terminal.ts";
import { NbdRaidError } from "../../src/errors.ts";
import { emptySuperblock } from "../../src/metadata/superblock.ts";
import { arrayStatus } from "../control/fake-array.ts";

/** Sets a terminal's title, rings its bell, begins a line, clears it, and ends it in C1. */
const CRAFTED = "a\x1b]0;P\x07\n\r\t\x7f\x9b2J\x00b";
const SHOWN = String.raw`a\x1b]0;P\x07\x0a\x0d\x09\x7f\x9b2J\x00b`;

const member = {
  slot: 0,
  path: CRAFTED,
  state: "in_sync",
  writeMostly: false,
  readErrors: 0,
  writeErrors: 0,
  unlinked: true,
} as const;
const status = arrayStatus({ name: CRAFTED, members: [member] });
const connection = {
  export: CRAFTED,
  peer: CRAFTED,
  tls: false,
  inFlight: 0,
  readBytes: 0,
  writtenBytes: 0,
};
const failed: string[] = [];
reportFailure(new NbdRaidError("usage", CRAFTED), false, {
  stdout: { writable: true, write: () => expect.unreachable() },
  stderr: { writable: true, write: (text: string) => failed.push(text) },
  env: {},
});

test.each<[string, (name: string) => string]>([
  [
    "status",
    (name) =>
      renderStatus(
        {
          version: 1,
          arrays: [{ ...status, name, members: [{ ...member, path: name }] }],
          exports: [],
          connections: [{ ...connection, export: name, peer: name }],
        },
        plain,
      ),
  ],
  ["a change", (name) => renderSummary({ ...status, name })],
  [
    "examine",
    (name) =>
      renderExamined({
        path: name,
        error: name,
        superblock: mdSuperblock({ ...emptySuperblock(1), setName: name }),
        bitmap: null,
      }),
  ],
  [
    "assemble",
    (name) =>
      renderAssembly({
        name,
        uuid: "u",
        level: "raid1",
        layout: null,
        chunkSize: null,
        raidDisks: 1,
        verdict: "refused",
        reason: name,
        sync: name,
        members: [{ path: name, slot: 0, events: 1, use: "in_sync", reason: name }],
      }),
  ],
  [
    "convert",
    (name) =>
      renderConverted({ name, uuid: "u", members: [], changed: false, before: null, bitmap: null }),
  ],
])("%s shows what could command a terminal as text, in as many lines", (_what, render) => {
  const shown = render(CRAFTED);
  expect(shown.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  expect(shown).toContain(SHOWN);
  expect(shown.split("\n")).toHaveLength(render("plain").split("\n").length);
});

test("so does an error", () => {
  expect(failed.join("")).not.toMatch(/(?!\n)\p{Cc}/u);
  expect(failed.join("")).toMatch(/^nbd-raid: a\\x1b\]0;P[^\n]+\n$/);
});

test("so does the log on a terminal, where stacks keep their lines", async () => {
  const lines: string[] = [];
  const terminal = {
    stderr: { isTTY: true, writable: true, write: () => expect.unreachable() },
    env: { NO_COLOR: "1" },
  };
  const logger = await createLogger("info", terminal, { write: (line) => void lines.push(line) });
  const err = new Error("bug");
  logger.error({ array: CRAFTED.replace("\n", ""), err }, `serving ${CRAFTED.replace("\n", "")}`);
  const text = lines.join("");
  expect(text).toContain("\\x1b]0;P\\x07");
  expect(text).not.toMatch(/(?!\n)\p{Cc}/u);
  expect(text).toMatch(/Error: bug\n +at /);
});

test("nothing else is changed", () => {
  const document = { name: "é 数 \\x1b", list: [1, null, true, 2 ** 53 - 1], inner: { a: "" } };
  expect(printable(document)).toEqual(document);
});
