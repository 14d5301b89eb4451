import { constants } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { NbdRaidError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import { allocate, isUnsupported } from "../platform/fallocate.ts";
import { makeZero } from "./zeroes.ts";

/**
 * Makes an image file of `sizeBytes` zeroes: the first `allocatedBytes` have space behind them (so
 * that metadata can be written on a full file system), the rest is a hole. File and name are on
 * stable storage when it resolves.
 *
 * Throws an NbdRaidError, having left nothing behind: member-not-empty (the file exists),
 * no-space, io-error (the file system takes no file of this length), member-unreadable.
 */
export async function createImageFile(
  path: string,
  options: { sizeBytes: number; allocatedBytes: number },
): Promise<void> {
  try {
    const file = await open(path, "wx");
    try {
      await fill(file, options.sizeBytes, options.allocatedBytes);
      await file.close();
      await syncFolder(dirname(path));
    } catch (error) {
      await file.close();
      await rm(path);
      throw error;
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const what = codeOf(error) === "io-error" ? ` of ${options.sizeBytes} bytes` : "";
    const message = `cannot make ${path}${what}: ${reason}`;
    throw new NbdRaidError(codeOf(error), message, { cause: error });
  }
}

async function fill(file: FileHandle, sizeBytes: number, allocatedBytes: number): Promise<void> {
  await file.truncate(sizeBytes);
  try {
    await allocate(file.fd, 0, allocatedBytes);
  } catch (error) {
    if (!isUnsupported(error)) throw error;
    await makeZero(file.fd, 0, allocatedBytes);
  }
  await file.sync();
}

/** A file's name is its folder's data. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function codeOf(error: unknown): ErrorCode {
  switch ((error as NodeJS.ErrnoException).code) {
    case "EEXIST":
      return "member-not-empty";
    case "ENOSPC":
    case "EDQUOT":
      return "no-space";
    case "EFBIG": // the file system takes no file of this length: room would not help
      return "io-error";
    default:
      return "member-unreadable";
  }
}
