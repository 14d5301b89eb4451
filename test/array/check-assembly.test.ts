/** What `assemble --check` says of a sync, and what a server of the same images then does. */
import { join } from "node:path";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkAssembly } from "../../src/array/check-assembly.ts";
import { createArray } from "../../src/array/create.ts";
import { openArrays } from "../../src/array/open.ts";
import {
  BITMAP_FIRST_USE,
  BITMAP_STALE,
  BITMAP_WRITE_ERROR,
  type BitmapSuperblock,
  decodeBitmapSuperblock,
  encodeBitmapSuperblock,
} from "../../src/metadata/bitmap-superblock.ts";
import type { BitmapKind } from "../../src/metadata/layout.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
} from "../../src/metadata/superblock.ts";
import { temporaryFolder } from "../member/temporary.ts";
import { KiB, MiB, readAt, writeAt } from "./images.ts";

const SUPERBLOCK = 4096;
const BITMAP = 8192;
const SIZE = 4 * MiB;
const EVERYTHING = "resync of everything: the bitmap has missed writes";

let folder: ReturnType<typeof temporaryFolder>;

beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => folder.dispose());

/** Absolute paths, in slot order. */
async function create(level: string, bitmap: BitmapKind | "none"): Promise<string[]> {
  const members = ["a", "b", "c"].map((name) => join(folder.path, name));
  await createArray({
    ...{ name: "data", level, bitmap, sizeBytes: SIZE, members, writeMostly: [], spares: 0 },
    ...{ assumeClean: false, preallocate: false, force: false },
  });
  return members;
}

function editSuperblock(path: string, fields: Partial<Superblock>): void {
  const before = decodeSuperblock(readAt(path, SUPERBLOCK, 4096), path, 2 ** 40);
  writeAt(path, encodeSuperblock({ ...before, ...fields }), SUPERBLOCK);
}

function editBitmap(path: string, fields: Partial<BitmapSuperblock>): void {
  const before = decodeBitmapSuperblock(readAt(path, BITMAP, 1024), path);
  writeAt(path, encodeBitmapSuperblock({ ...before, ...fields }), BITMAP);
}

/** True if the array, once served, syncs something; it has read all of itself then, or some. */
async function served(paths: readonly string[]): Promise<"nothing" | "some" | "everything"> {
  const logger = pino({ level: "silent" });
  const [array] = await openArrays(paths, { readOnly: false, run: true, force: false, logger });
  await array!.start();
  await array!.wait();
  const { lastSync } = array!.status();
  await array!.stop();
  if (lastSync === null) return "nothing";
  expect(lastSync).toMatchObject({ action: "resync", result: "done" });
  return lastSync.skippedBytes === 0 ? "everything" : "some";
}

interface Case {
  readonly what: string;
  readonly level?: string;
  readonly bitmap?: BitmapKind | "none";
  readonly edit: (paths: readonly string[]) => void;
  /** How many members are given. */
  readonly given?: number;
  readonly sync: string | null;
  readonly serves: "nothing" | "some" | "everything";
}

const each =
  (edit: (path: string) => void) =>
  (paths: readonly string[]): void =>
    paths.forEach(edit);

const older = each((path) => {
  editSuperblock(path, { events: 3 });
});

const CASES: Case[] = [
  { what: "a bitmap older than the array", edit: older, sync: EVERYTHING, serves: "everything" },
  {
    what: "an internal bitmap older than the array",
    bitmap: "internal",
    edit: older,
    sync: EVERYTHING,
    serves: "everything",
  },
  {
    what: "a bitmap older than the array, level 5",
    level: "5",
    edit: older,
    sync: EVERYTHING,
    serves: "everything",
  },
  {
    what: "a bitmap older than the array, which lacks a member",
    edit: older,
    given: 2,
    sync: EVERYTHING,
    serves: "everything",
  },
  {
    what: "a bitmap older than the array, level 5, which lacks a member",
    level: "5",
    edit: older,
    given: 2,
    sync: null,
    serves: "nothing",
  },
  {
    what: "a bitmap that md called stale",
    edit: each((path) => editBitmap(path, { state: BITMAP_STALE })),
    sync: EVERYTHING,
    serves: "everything",
  },
  {
    what: "a bitmap that md could not write",
    edit: each((path) => editBitmap(path, { state: BITMAP_WRITE_ERROR })),
    sync: EVERYTHING,
    serves: "everything",
  },
  {
    what: "a bitmap left to be initialised by an array that has run since",
    edit: each((path) => {
      editSuperblock(path, { events: 2 });
      editBitmap(path, { state: BITMAP_FIRST_USE });
    }),
    sync: EVERYTHING,
    serves: "everything",
  },
  {
    what: "a bitmap left to be initialised, and not stopped clean",
    edit: each((path) => {
      editSuperblock(path, { resyncOffsetSectors: 0 });
      editBitmap(path, { state: BITMAP_FIRST_USE });
    }),
    sync: null,
    serves: "nothing",
  },
  {
    what: "one copy of the bitmap older than the others",
    edit: ([first]) => editBitmap(first!, { events: 0 }),
    sync: null,
    serves: "nothing",
  },
  {
    what: "a region marked in a copy that counts",
    bitmap: "internal",
    edit: ([first]) => writeAt(first!, Uint8Array.of(1), BITMAP + 256),
    sync: "resync of the regions that are marked",
    serves: "everything",
  },
  {
    what: "a region marked in a copy that missed writes",
    edit: ([first]) => {
      editBitmap(first!, { events: 0 });
      writeAt(first!, Uint8Array.of(2), BITMAP + 1024);
    },
    sync: null,
    serves: "nothing",
  },
  {
    what: "no bitmap, and not stopped clean",
    bitmap: "none",
    edit: each((path) => editSuperblock(path, { resyncOffsetSectors: 0 })),
    sync: "resync of everything: there is no bitmap",
    serves: "everything",
  },
  {
    what: "level 0, not stopped clean",
    level: "0",
    bitmap: "none",
    edit: each((path) => editSuperblock(path, { resyncOffsetSectors: 0 })),
    sync: null,
    serves: "nothing",
  },
];

describe("the sync that a check promises is the one that is done", () => {
  it.each(CASES)("$what", async ({ level, bitmap, edit, given, sync, serves }) => {
    const members = await create(level ?? "1", bitmap ?? "lockless");
    edit(members);
    const paths = members.slice(0, given);
    const [report] = await checkAssembly(paths);
    expect(report).toMatchObject({
      verdict: given === undefined ? "start" : "needs --run",
      sync,
    });
    expect(await served(paths)).toBe(serves);
  });
});

it("members whose bitmaps are of two kinds would not start", async () => {
  const members = await create("1", "lockless");
  const fields = { knownZero: null, kind: "internal", regionSectors: (64 * KiB) / 512 } as const;
  editBitmap(members[0]!, fields);
  const [report] = await checkAssembly(members);
  const reason = expect.stringContaining(": the bitmap is ") as string;
  expect(report).toMatchObject({ verdict: "refused", reason, sync: null });
  await expect(served(members)).rejects.toMatchObject({ code: "bitmap-corrupt" });
});
