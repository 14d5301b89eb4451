import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** The repository's root. */
export const ROOT = join(import.meta.dirname, "../..");

/** Files below a folder of the repository, as paths from its root; not those of packages. */
export function filesIn(folder: string, extension: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((path) => !path.split("/").includes("node_modules"))
    .sort();
}

export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

export interface Imports {
  /** Files of the repository, as paths from its root. */
  readonly files: string[];
  /** Modules of Node and packages. */
  readonly modules: string[];
  /** What is needed when the program runs, not only for its types. */
  readonly atRunTime: string[];
}

const IMPORT = /^\s*(?:import|export)\s(?<types>type\s)?[^"';]*?\bfrom\s+"(?<from>[^"]+)"/gm;
const BARE_IMPORT = /\bimport\s*\(?\s*"(?<from>[^"]+)"/g;

/** What a file of TypeScript imports, in every form that the sources use. */
export function importsOf(path: string): Imports {
  const text = textOf(path);
  const found = [...text.matchAll(IMPORT), ...text.matchAll(BARE_IMPORT)].map(({ groups }) => {
    return { from: groups!["from"]!, types: groups!["types"] !== undefined };
  });
  const resolve = (from: string): string => join(dirname(path), from);
  const ours = found.filter(({ from }) => from.startsWith("."));
  return {
    files: [...new Set(ours.map(({ from }) => resolve(from)))],
    modules: found.map(({ from }) => from).filter((from) => !from.startsWith(".")),
    atRunTime: ours.filter(({ types }) => !types).map(({ from }) => resolve(from)),
  };
}
