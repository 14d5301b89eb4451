import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesIn, importsOf, ROOT, textOf } from "./sources.ts";

/**
 * The arrows between the rooms of src/ (docs/internals/architecture.md): a room may import what is
 * named here, itself, and the files that belong to no room.
 */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  // The command `serve` puts a server together, so it knows the rooms that it puts there.
  cli: ["control", "array", "nbd", "metadata", "platform"],
  control: ["array", "member"],
  array: ["raid", "bitmap", "sync", "metadata", "member", "platform"],
  raid: ["bitmap", "sync", "member", "parity"],
  sync: ["bitmap", "raid", "member", "parity"],
  bitmap: [],
  metadata: [],
  member: ["platform"],
  parity: [],
  platform: [],
  nbd: [],
};
/** Files of src/ that every room may import. */
const SHARED = ["src/errors.ts", "src/clock.ts"];
/** What the wire may know of an array: these shapes, which it owns itself. */
const EXCEPTIONS = [["src/array/array.ts", "src/nbd/block-device.ts"]];

/** AssemblyScript: compiled on its own, into a file of src/parity. */
const ASSEMBLY = "src/parity/assembly/";

const files = filesIn("src", ".ts").filter((path) => !path.startsWith(ASSEMBLY));
const roomOf = (path: string): string => path.split("/")[1]!;

describe("imports", () => {
  test("every file of src/ is in a room, or shared by all", () => {
    const strays = files.filter((path) => !(roomOf(path) in ARROWS) && !SHARED.includes(path));
    expect(strays).toEqual([]);
  });

  test("follow the arrows between rooms", () => {
    const against = files.flatMap((path) =>
      importsOf(path)
        .files.filter((to) => !SHARED.includes(to) && roomOf(to) !== roomOf(path))
        .filter((to) => ARROWS[roomOf(path)]?.includes(roomOf(to)) !== true)
        .filter((to) => !EXCEPTIONS.some(([one, other]) => one === path && other === to))
        .map((to) => `${path} -> ${to}`),
    );
    expect(against).toEqual([]);
  });

  test("name files that exist", () => {
    const missing = files.flatMap((path) =>
      importsOf(path).files.filter((to) => !existsSync(join(ROOT, to))),
    );
    expect(missing).toEqual([]);
  });

  test("have no cycles between files", () => {
    expect(cycles()).toEqual([]);
  });

  test("of modules are Node's own, by their full name, or declared dependencies", () => {
    const packages = Object.keys(
      (JSON.parse(textOf("package.json")) as { dependencies: object }).dependencies,
    );
    const unknown = files.flatMap((path) =>
      importsOf(path)
        .modules.filter((name) => !name.startsWith("node:") && !packages.includes(packageOf(name)))
        .map((name) => `${path}: ${name}`),
    );
    expect(unknown).toEqual([]);
  });

  test("reach every file of src/ from the executable or the sync thread", () => {
    const reached = new Set<string>();
    const visit = (path: string): void => {
      if (reached.has(path)) return;
      reached.add(path);
      importsOf(path).files.forEach(visit);
    };
    ["src/cli/main.ts", "src/sync/worker.ts"].forEach(visit);
    const forTests = ["src/member/simulated.ts", "src/member/simulated-disk.ts"];
    expect(files.filter((path) => !reached.has(path) && !forTests.includes(path))).toEqual([]);
  });
});

/** "typebox/value" is of the package "typebox", "@fastify/swagger" of itself. */
function packageOf(name: string): string {
  return name.split("/", name.startsWith("@") ? 2 : 1).join("/");
}

/** Cycles of imports, types included, each as the path that closes it. */
function cycles(): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      found.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
      return;
    }
    if (done.has(path)) return;
    for (const to of importsOf(path).files) walk(to, [...trail, path]);
    done.add(path);
  };
  for (const path of files) walk(path, []);
  return found;
}
