/** What the tests of arrays do with image files, with node:fs alone. */
import { createHash } from "node:crypto";
import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

export const KiB = 1024;
export const MiB = 1024 * KiB;

/** A file of holes. */
export function makeImage(path: string, sizeBytes: number): string {
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

export function writeAt(path: string, bytes: Uint8Array, offset: number): void {
  const fd = openSync(path, "r+");
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

export function readAt(path: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const fd = openSync(path, "r");
  readSync(fd, bytes, 0, length, offset);
  closeSync(fd);
  return bytes;
}

export function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

/** Every name in a folder with what is behind it: equal only if nothing has changed. */
export function snapshot(folder: string): Record<string, string> {
  const entries = readdirSync(folder).map((name) => [name, describe(join(folder, name))] as const);
  return Object.fromEntries(entries);
}

function describe(path: string): string {
  const stat = lstatSync(path);
  if (!stat.isFile()) return `${stat.mode}`;
  return `${stat.size} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`;
}
