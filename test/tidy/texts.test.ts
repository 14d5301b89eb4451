import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesIn, ROOT, textOf } from "./sources.ts";

/** What the repository's own texts must not hold, and what its documents promise. */
const SOURCES = ["src", "test", "bench", "scripts"].flatMap((folder) => filesIn(folder, ".ts"));
const DOCUMENTS = [...filesIn("docs", ".md"), "README.md", "Dockerfile"].filter((path) =>
  existsSync(join(ROOT, path)),
);
/** This file spells out what it looks for. */
const OTHERS = [...SOURCES, ...DOCUMENTS].filter((path) => path !== "test/tidy/texts.test.ts");

/** Lines of files that match, as "file:line". */
function linesWith(pattern: RegExp, paths: readonly string[]): string[] {
  return paths.flatMap((path) =>
    textOf(path)
      .split("\n")
      .flatMap((line, index) =>
        pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [],
      ),
  );
}

describe("no text holds", () => {
  test("a marker of unfinished work", () => {
    expect(linesWith(/\b(TODO|FIXME|HACK|WIP)\b|\bXXX\b(?!:)/, OTHERS)).toEqual([]);
  });

  test("a test that is switched off, or switches others off", () => {
    expect(linesWith(/\b(it|test|describe)\.(only|todo|skip)\b/, OTHERS)).toEqual([]);
  });

  test("a trace of a debugger or of conflicting versions", () => {
    expect(linesWith(/^\s*debugger\b|^(<{7}|>{7}|={7})(\s|$)/, OTHERS)).toEqual([]);
  });

  test("a linter that is switched off", () => {
    expect(linesWith(/eslint-disable|@ts-(ignore|nocheck|expect-error)/, OTHERS)).toEqual([]);
  });

  test("a word about how the project is made, or where", () => {
    const ours =
      /\bissues? #?\d|\bagents?\b(?!:)|\bthe brief\b|\/work\/|\bshared\/(design|reference)/i;
    expect(linesWith(ours, OTHERS)).toEqual([]);
  });
});

describe("files", () => {
  const LINES_MAX = 500;
  /** Longer, for one reason each. */
  const EXCEPTIONS: Readonly<Record<string, number>> = {
    "test/array/create.test.ts": 650, // one command, every option of it
  };

  test(`have one subject: ${LINES_MAX} lines at most`, () => {
    const long = SOURCES.map((path) => ({ path, lines: textOf(path).split("\n").length })).filter(
      ({ path, lines }) => lines > (EXCEPTIONS[path] ?? LINES_MAX),
    );
    expect(long).toEqual([]);
  });

  test("export by name, and are no barrels", () => {
    expect(linesWith(/^export \* from|^export default/, SOURCES)).toEqual([]);
  });
});

describe("lock files", () => {
  test.each(["package-lock.json", "test/interop/npm-peers/package-lock.json"])(
    "name no host, so that any registry serves: npm's --omit-lockfile-registry-resolved: %s",
    (path) => expect(linesWith(/"resolved":/, [path])).toEqual([]),
  );
});

describe("documents", () => {
  test("link to files that exist", () => {
    const broken = DOCUMENTS.filter((path) => path.endsWith(".md")).flatMap((path) =>
      [...textOf(path).matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)]
        .filter(([, target]) => !existsSync(join(ROOT, path, "..", target!)))
        .map(([, target]) => `${path}: ${target}`),
    );
    expect(broken).toEqual([]);
  });

  test("name source files that exist", () => {
    const missing = DOCUMENTS.flatMap((path) =>
      [...textOf(path).matchAll(/`((?:src|test|bench|scripts|docs)\/[\w./-]+\.(?:ts|js|md))`/g)]
        .filter(([, named]) => !existsSync(join(ROOT, named!)))
        .map(([, named]) => `${path}: ${named}`),
    );
    expect(missing).toEqual([]);
  });

  test("on security name tests that exist, for each class of flaws", () => {
    const [, flaws = ""] = textOf("docs/reference/security.md").split(
      "## What has befallen others",
    );
    const classes = flaws.split(/^### /m).slice(1);
    expect(classes.length).toBeGreaterThan(5);
    for (const section of classes) {
      const tests = [...section.matchAll(/^- `(test\/[\w./-]+)`:\s+"([^"]+)"/gm)];
      expect(tests.length, section).toBeGreaterThan(0);
      const missing = tests.filter(([, file, name]) => !textOf(file!).includes(name!));
      expect(missing.map(([line]) => line)).toEqual([]);
    }
  });

  test("on durability name tests that exist, for each of the fifteen rules", () => {
    const rules = textOf("docs/internals/durability.md")
      .split(/^## /m)
      .filter((section) => /^\d+\. /.test(section));
    expect(rules.map((rule) => Number.parseInt(rule, 10))).toEqual(
      Array.from({ length: 15 }, (_, index) => index + 1),
    );
    for (const rule of rules) {
      const tests = [...rule.matchAll(/^- `(test\/[\w./-]+)`:\s+"([^"]+)"/gm)];
      expect(tests.length, rule).toBeGreaterThan(0);
      const missing = tests.filter(([, file, name]) => !textOf(file!).includes(name!));
      expect(missing.map(([line]) => line)).toEqual([]);
    }
  });
});
