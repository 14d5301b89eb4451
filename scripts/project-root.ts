import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The checkout's root: sources and their compiled copies lie at different depths below it. */
export const projectRoot = findRoot(import.meta.dirname);

/** The program's executable, as a user of the checkout starts it. */
export const executable = join(projectRoot, "bin", "nbd-raid");

function findRoot(folder: string): string {
  if (existsSync(join(folder, "package-lock.json"))) return folder;
  const parent = dirname(folder);
  if (parent === folder) throw new Error("not inside a checkout: no package-lock.json above");
  return findRoot(parent);
}
