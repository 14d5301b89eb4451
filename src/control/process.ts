import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { NbdRaidError } from "../errors.ts";

const POLL_MS = 10;
const EXIT_LIMIT_MS = 30_000;

/** Resolves when no process has this id. One that has stopped its arrays exits at once. */
export async function waitForExit(pid: number): Promise<void> {
  for (let waitedMs = 0; runs(pid); waitedMs += POLL_MS) {
    if (waitedMs >= EXIT_LIMIT_MS)
      throw new NbdRaidError("shutting-down", `the arrays are stopped, but process ${pid} is not`);
    await sleep(POLL_MS);
  }
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return !isZombie(pid);
}

/** An exited process whose parent has not asked for its exit code yet (Linux; else unknown). */
function isZombie(pid: number): boolean {
  try {
    // The state is the letter behind the name, which is in parentheses and may hold any other.
    return /\) Z [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
