import { randomBytes } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kind, Place } from "./places.ts";
import { SIZE } from "./places.ts";

/** What one program does at every place. */
export interface ClientCase {
  /** A sentence; " over TCP, plain" is put behind it. */
  readonly title: string;
  /** Throws if the program, or what it did, is not as it should be. */
  readonly run: (place: Place) => Promise<void>;
  /** Why this version of the program cannot do it at a place, if that is so. */
  readonly cannot?: (kind: Pick<Place, "security" | "transport">) => Cannot | null;
}

export interface Cannot {
  readonly because: string;
  /** What it says when it is run all the same. */
  readonly says: RegExp;
}

export interface ClientCases {
  /** That must be installed, besides openssl. */
  readonly programs: readonly string[];
  /** Every one of `KINDS` by default. */
  readonly kinds?: readonly Kind[];
  /** Where the client itself is no program: what to do if it is not installed, in a line. */
  readonly missing?: string | null;
  readonly cases: readonly ClientCase[];
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** Where `sparseFile` has data, at places that are no multiple of any block; bytes. */
const ISLANDS = [0, 3 * MIB - 1, 17 * MIB + 513, SIZE - 70_001] as const;
const ISLAND_BYTES = 70_001;

/** A file of the array's size, all random. */
export async function randomFile(folder: string): Promise<string> {
  const path = join(folder, "random.img");
  await writeFile(path, randomBytes(SIZE));
  return path;
}

/** A file of the array's size: islands of random bytes, the rest are holes. */
export async function sparseFile(folder: string): Promise<string> {
  const path = join(folder, "sparse.img");
  const file = await open(path, "wx");
  await file.truncate(SIZE);
  for (const offset of ISLANDS) {
    await file.write(randomBytes(ISLAND_BYTES), 0, ISLAND_BYTES, offset);
  }
  await file.close();
  return path;
}

/** Runs Python with a connected handle `h`; `before` has it unconnected. */
export function nbdsh(place: Place, script: string, before = ""): Promise<string> {
  const connect = `
${before}
h.set_uri_allow_local_file(True)
h.connect_uri(${JSON.stringify(place.uri)})
size = h.get_size()
`;
  return place.run("nbdsh", "-c", connect + script);
}

/** The whole export is one hole again, as earlier clients left what they wrote. */
export async function emptyTheArray(place: Place): Promise<void> {
  await nbdsh(place, "h.trim(size, 0)\nh.flush()");
}
