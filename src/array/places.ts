/** Where the members of an array to be made are, or will be: paths, before anything is opened. */
import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { NbdRaidError } from "../errors.ts";
import { absoluteFile, identityOf } from "../member/open-file.ts";

export interface Place {
  /** Absolute. */
  readonly path: string;
  /** Equal for the same storage, also through links, and for the same absent file. */
  readonly identity: string;
  readonly exists: boolean;
}

/** Throws an NbdRaidError: member-not-file, member-unreadable (its folder is absent, too). */
export async function findPlace(given: string): Promise<Place> {
  const path = absoluteFile(given);
  try {
    const found = await statIfThere(path);
    if (found !== null) return { path, identity: identityOf(path, found), exists: true };
    const folder = await realpath(dirname(path));
    return { path, identity: join(folder, basename(path)), exists: false };
  } catch (error) {
    if (error instanceof NbdRaidError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new NbdRaidError("member-unreadable", `${path}: ${reason}`, { cause: error });
  }
}

async function statIfThere(path: string) {
  try {
    return await stat(path, { bigint: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Throws member-listed-twice, naming both paths. */
export function refuseTwice(places: readonly Place[]): void {
  const seen = new Map<string, Place>();
  for (const place of places) {
    const before = seen.get(place.identity);
    if (before !== undefined) {
      const what = before.path === place.path ? "" : `: it is ${before.path}`;
      throw new NbdRaidError("member-listed-twice", `${place.path} is listed twice${what}`);
    }
    seen.set(place.identity, place);
  }
}
