import { statfsSync } from "node:fs";

/** `f_type` of the file systems that live in memory (linux/magic.h: TMPFS, RAMFS). */
const MEMORY_FILE_SYSTEMS = new Set([0x01021994, 0x858458f6]);

/**
 * True if the regular file at `path` is in memory: its I/O never waits for a device and there is
 * nothing to sync. Not for device nodes: those live on a tmpfs (/dev) and are none.
 */
export function isOnMemoryFileSystem(path: string): boolean {
  return MEMORY_FILE_SYSTEMS.has(statfsSync(path).type);
}
