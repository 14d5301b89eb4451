import { readFileSync } from "node:fs";
import { CommanderError } from "commander";
import { describe, expect, test } from "vitest";
import { asFailure, exitCodeOf } from "../../src/cli/failure.ts";
import { CATALOGUE, type ErrorCode, NbdRaidError } from "../../src/errors.ts";
import { nbdRaid } from "./captured.ts";

describe("a command line that cannot be meant", () => {
  test.each<[string[], RegExp]>([
    [[], /a command is missing/],
    [["stats"], /unknown command 'stats' \(Did you mean status\?\)/],
    [["status", "--nonsense"], /unknown option '--nonsense'/],
    [["fail", "data"], /missing required argument 'member'/],
    [["wait", "a", "b"], /too many arguments/],
    [["create", "data", "a", "b"], /--level/],
    [["create", "data", "a", "b", "--level", "7"], /Allowed choices are 0, 1, 4, 5, 6, 10, linear/],
    [["create", "data", "a", "b", "--level", "1", "--size", "10X"], /"10X" is not a size/],
    [["create", "data", "a", "b", "--level", "1", "--size", "0"], /"0" is not a size/],
    [["create", "data", "a", "b", "--level", "1", "--spares", "x"], /"x" is not a number/],
    [["create", "é".repeat(17), "a", "b", "--level", "1"], /has 34 bytes/],
    [["create", "", "a", "b", "--level", "1"], /has 0 bytes/],
    [["assemble", "a"], /--check/],
    [["serve"], /either members, --config or --directory/],
    [["serve", "a", "--log-level", "loud"], /--log-level/],
    [["serve", "a", "--control", ""], /'--control <path>' argument '' is invalid. It is empty/],
    [["serve", "--directory", ""], /'--directory <dir>' argument '' is invalid. It is empty/],
    [["serve", "--config", ""], /'--config <file>' argument '' is invalid. It is empty/],
    [["serve", "a", "--tls-certificates", ""], /It is empty/],
    [["serve", "a", "--tls-psk", ""], /It is empty/],
    [["status", "--control", ""], /'--control <path>' argument '' is invalid. It is empty/],
    [["wait", "data", "--control="], /It is empty/],
    [["stop", "--control", ""], /It is empty/],
    [["set", "data", "colour", "1"], /no setting "colour": there are sync-speed-min/],
    [["set", "data", "constructor", "1"], /no setting/],
    [["set", "data", "daemon-sleep", "soon"], /"soon" is not a time/],
    [["set", "data", "daemon-sleep", "3000000"], /"3000000" is too long: at most 2147483 seconds/],
    [["set", "data", "sync-speed-max", "fast"], /"fast" is not a size/],
  ])("%j: one line on stderr, exit 64", async (args, reason) => {
    const { code, stdout, stderr } = await nbdRaid(args);
    expect(code).toBe(64);
    expect(stderr).toMatch(/^nbd-raid: .+ \(see nbd-raid --help\)\n$/);
    expect(stderr).toMatch(reason);
    expect(stdout).toBe("");
  });

  test("with --json is a document too", async () => {
    const { code, stdout } = await nbdRaid(["status", "--json", "--nonsense"]);
    expect(code).toBe(64);
    expect(JSON.parse(stdout)).toEqual({
      version: 1,
      error: {
        code: "usage",
        message: "unknown option '--nonsense'",
        remedy: CATALOGUE.usage.remedy,
      },
    });
  });
});

describe("help", () => {
  const verbs =
    "create examine assemble zero-superblock serve status fail remove re-add add check repair resync idle frozen set wait stop";

  test("lists every command", async () => {
    const { code, stdout } = await nbdRaid(["--help"]);
    expect(code).toBe(0);
    for (const verb of verbs.split(" ")) expect(stdout).toMatch(new RegExp(`^  ${verb} `, "m"));
  });

  test.each(verbs.split(" "))("of %s has an example", async (verb) => {
    const { code, stdout, stderr } = await nbdRaid([verb, "--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`Usage: nbd-raid ${verb}`);
    expect(stdout).toMatch(new RegExp(`Examples?:\\n  nbd-raid ${verb}\\b`));
  });

  test("the version is the package's", async () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await nbdRaid(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });
});

describe("the exit code", () => {
  test.each(Object.keys(CATALOGUE) as ErrorCode[])("of %s", (code) => {
    const expected = code === "usage" ? 64 : code === "no-server" ? 3 : 4;
    expect(exitCodeOf(new NbdRaidError(code, "x"))).toBe(expected);
  });

  test("of what commander refuses is 64, of a bug 4", () => {
    expect(
      exitCodeOf(asFailure(new CommanderError(1, "commander.unknownOption", "error: x"))),
    ).toBe(64);
    const bug = asFailure(new TypeError("x is\n  undefined"));
    expect(bug).toMatchObject({ code: "internal", message: "x is undefined" });
    expect(exitCodeOf(bug)).toBe(4);
  });
});
