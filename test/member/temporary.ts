import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A folder on the ordinary temporary file system, gone after `dispose`. */
export function temporaryFolder(parent = tmpdir()): { path: string; dispose: () => void } {
  const path = mkdtempSync(join(parent, "nbd-raid-test-"));
  return { path, dispose: () => rmSync(path, { recursive: true, force: true }) };
}

/** Where a file system in memory is, or null. */
export function memoryFolder(): string | null {
  try {
    accessSync("/dev/shm", constants.W_OK);
    return "/dev/shm";
  } catch {
    return null;
  }
}
