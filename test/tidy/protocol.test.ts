import { describe, expect, test } from "vitest";
import {
  ChunkType,
  Command,
  CommandFlag,
  HandshakeFlag,
  Info,
  Option,
  OptionReply,
  TransmissionFlag,
} from "../../src/nbd/constants.ts";
import { META_CONTEXTS } from "../../src/nbd/meta-contexts.ts";
import { textOf } from "./sources.ts";

/** The protocol's reference promises: whole tables, and tests that exist. */
const TEXT = textOf("docs/reference/protocol.md");
const ROWS = TEXT.split("\n").filter((line) => /^\| *(NBD_|[\w-]+:)/.test(line));
const named = (prefix: string, table: object): string[] =>
  Object.keys(table).map((name) => prefix + name);

const SERVED = [
  ...named("NBD_FLAG_", HandshakeFlag),
  ...named("NBD_OPT_", Option),
  ...named("NBD_REP_", OptionReply),
  ...named("NBD_INFO_", Info),
  ...named("NBD_FLAG_", TransmissionFlag),
  ...named("NBD_CMD_", Command),
  ...named("NBD_CMD_FLAG_", CommandFlag),
  ...named("NBD_REPLY_TYPE_", ChunkType),
  ...META_CONTEXTS.map(({ name }) => name),
];

describe("the reference of the protocol", () => {
  test.each(SERVED)("has a row for %s, which is served", (name) => {
    const row = ROWS.find((line) => new RegExp(`^\\| *${name} `).test(line));
    expect(row).toBeDefined();
    expect(row).not.toMatch(/^\|[^|]*\| *no\b/);
  });

  test("names a test in every row, and each of them exists", () => {
    const without = ROWS.filter((row) => !/`test\/[\w./-]+`: "[^"]+"/.test(row));
    expect(without).toEqual([]);
    const tests = [...TEXT.matchAll(/`(test\/[\w./-]+)`:\s+"([^"]+)"/g)];
    expect(tests.length).toBeGreaterThan(60);
    const missing = tests.filter(([, file, name]) => !textOf(file!).includes(name!));
    expect(missing.map(([line]) => line)).toEqual([]);
  });
});
