import { lstatSync } from "node:fs";
import { dirname, join } from "node:path";
import { NbdRaidError } from "../errors.ts";

export interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  readonly uid: number;
  /** The system's folder for temporary files. */
  readonly temporaryFolder: string;
}

/**
 * Where the control socket is, for servers and clients alike: as given, else
 * $NBD_RAID_CONTROL, else in $XDG_RUNTIME_DIR, else /run for root, else in a private folder
 * under the temporary one. An empty variable counts as none.
 */
export function controlPath(given: string | undefined, surroundings: Surroundings): string {
  const { env, uid, temporaryFolder } = surroundings;
  if (given !== undefined) return given;
  if (env["NBD_RAID_CONTROL"]) return env["NBD_RAID_CONTROL"];
  if (env["XDG_RUNTIME_DIR"]) return join(env["XDG_RUNTIME_DIR"], "nbd-raid.sock");
  if (uid === 0) return "/run/nbd-raid.sock";
  const path = join(temporaryFolder, `nbd-raid-${uid}`, "control.sock");
  assertPrivate(dirname(path), uid);
  return path;
}

/** Anybody may make a folder under the temporary one: a socket in theirs is not to be trusted. */
function assertPrivate(folder: string, uid: number): void {
  const found = lstatSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o077) !== 0)
    throw new NbdRaidError("control-denied", `${folder} is not a private folder of this user`);
}
