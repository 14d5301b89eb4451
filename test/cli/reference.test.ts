import { existsSync, readFileSync } from "node:fs";
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { buildProgram } from "../../src/cli/main.ts";
import { StatusSchema } from "../../src/control/api.ts";
import { CATALOGUE, Errno } from "../../src/errors.ts";

const nowhere = { writable: true, write: () => true };
const program = buildProgram({
  terminal: { stdout: nowhere, stderr: nowhere, env: {} },
  exitCode: 0,
});

describe("docs/reference/errors.md", () => {
  test("has a line for every error, with its errno and what to do, and no other", () => {
    const text = readFileSync("docs/reference/errors.md", "utf8");
    const rows = [...text.matchAll(/^\| `(.+?)` *\| (\w+) *\| .+ \| (.+?) *\|$/gm)];
    const documented = rows.map(([, code, errno, remedy]) => ({ code, errno, remedy }));
    const nameOf = (errno: number) =>
      Object.entries(Errno).find(([, value]) => value === errno)?.[0];
    const expected = Object.entries(CATALOGUE).map(([code, { errno, remedy }]) => ({
      code,
      errno: nameOf(errno),
      remedy,
    }));
    expect(documented).toEqual(expected);
  });
});

describe("docs/reference/cli.md", () => {
  const text = readFileSync("docs/reference/cli.md", "utf8");
  const optionsOf = (command: Command) => command.options.map(({ long }) => long ?? "");

  test.each(program.commands.map((command) => [command.name(), optionsOf(command)] as const))(
    "describes %s and its options",
    (name, options) => {
      expect(text).toMatch(new RegExp(`nbd-raid ${name} |\`${name}[ \`]`));
      for (const option of options) expect(text).toContain(option);
    },
  );

  test("names no option that does not exist", () => {
    const known = new Set(["--help", ...program.commands.flatMap(optionsOf)]);
    const named = [...text.matchAll(/`(--[a-z-]+)/g)].map(([, option]) => option);
    expect(named.filter((option) => !known.has(option ?? ""))).toEqual([]);
  });

  test("names every field of status --json", () => {
    for (const field of propertiesIn(StatusSchema))
      expect(text).toMatch(new RegExp(`\`${field}(\\[\\])?\``));
  });
});

test("a document that a remedy or a help text names exists, and is in the package", () => {
  const helps = program.commands.map((command) => command.helpInformation());
  const texts = [...helps, ...Object.values(CATALOGUE).map(({ remedy }) => remedy)].join("\n");
  const named = [...texts.matchAll(/(the project's\s+)?(docs\/\S+?\.md)/g)];
  expect(named.length).toBeGreaterThan(1);
  for (const [, whose, path] of named) {
    expect({ path, whose }).toEqual({ path, whose: expect.any(String) as string });
    expect(existsSync(path!)).toBe(true);
  }
  const { files } = JSON.parse(readFileSync("package.json", "utf8")) as { files: string[] };
  expect(files).toContain("docs");
});

/** The names of all properties of a JSON schema, at any depth. */
function propertiesIn(schema: unknown): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  const own = "properties" in schema ? Object.keys(schema.properties as object) : [];
  return [...own, ...Object.values(schema).flatMap(propertiesIn)];
}
