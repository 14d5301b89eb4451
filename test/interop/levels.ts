/** Arrays of the levels that tests run through the real server, and checks of their images. */
import { readFile } from "node:fs/promises";
import { expect } from "vitest";
import type { LevelName } from "../../src/metadata/levels.ts";
import { LAYOUTS, levelNumber } from "../raid/oracle-shapes.ts";
import type { OracleShape } from "../raid/oracle-placement.ts";
import { check, readArray } from "../raid/oracle.ts";
import { dataArea } from "./images.ts";
import type { Server, ServerOptions } from "./server.ts";

const KIB = 1024;

export interface LevelCase {
  readonly title: string;
  readonly level: LevelName;
  /** By mdadm's name; null where the level has none. */
  readonly layout: string | null;
  readonly members: number;
  readonly chunkKib: number;
}

const caseOf = (
  level: LevelName,
  layout: string | null,
  members: number,
  chunkKib: number,
): LevelCase => ({
  title: `level ${level}${layout === null ? "" : ` ${layout}`} of ${members}`,
  ...{ level, layout, members, chunkKib },
});

export const REDUNDANT: readonly LevelCase[] = [
  caseOf("5", "left-symmetric", 4, 64),
  caseOf("6", "left-symmetric", 5, 64),
  caseOf("10", "n2", 4, 64),
  caseOf("10", "f2", 3, 512),
];
export const ALL: readonly LevelCase[] = [
  caseOf("0", "original", 3, 64),
  caseOf("linear", null, 2, 0),
  ...REDUNDANT,
];

/** How many members can be lost, whichever they are. */
export const redundancyOf = ({ level }: LevelCase): number =>
  ({ "4": 1, "5": 1, "6": 2, "10": 1 })[level as string] ?? 0;

/** For `serve` and `create` of the fixtures. */
export function optionsOf(of: LevelCase, size: string, more: ServerOptions = {}): ServerOptions {
  const chunk = of.chunkKib === 0 ? [] : ["--chunk", `${of.chunkKib}K`];
  const layout = of.layout === null ? [] : ["--layout", of.layout];
  const { level, members } = of;
  return { ...more, level, members, size, createArgs: [...chunk, ...layout] };
}

/** The data areas as the oracle takes them; of a server that is stopped, all members in place. */
async function readImages(of: LevelCase, images: readonly string[]) {
  const areas = await Promise.all(images.map(dataArea));
  const parts = await Promise.all(
    images.map(async (image, slot) => {
      const { start, length } = areas[slot]!;
      return (await readFile(image)).subarray(start, start + length);
    }),
  );
  // md-superblock: `size`, the sectors that the array uses of each member.
  const superblock = (await readFile(images[0]!)).subarray(4096, 8192);
  const layout = LAYOUTS.find(({ level, name }) => level === of.level && name === of.layout);
  const shape: OracleShape = {
    level: levelNumber(of.level),
    layout: layout?.layout ?? 0,
    chunkBytes: of.chunkKib * KIB,
    raidDisks: of.members,
    componentBytes: Number(superblock.readBigUInt64LE(80)) * 512,
    dataBytes: areas.map(({ length }) => length),
  };
  return { shape, parts };
}

/** Copies are equal and parity is that of the data, without the program's own word for it. */
export async function expectConsistentImages(
  of: LevelCase,
  images: readonly string[],
): Promise<void> {
  const { shape, parts } = await readImages(of, images);
  expect(check(shape, parts), "stripes or chunks that contradict themselves").toEqual([]);
}

/** What a client would read of these images, by the formulas alone. */
export async function readByOracle(of: LevelCase, images: readonly string[]): Promise<Buffer> {
  const { shape, parts } = await readImages(of, images);
  return readArray(shape, parts);
}

/** The server's own check of all that was ever written finds nothing. */
export async function expectChecked(server: Server): Promise<void> {
  await server.ok("wait", "data");
  await server.ok("check", "data", "--wait");
  const { degraded, mismatchCount, lastSync, sync } = await server.status();
  expect({ degraded, mismatchCount, sync }).toEqual({ degraded: 0, mismatchCount: 0, sync: null });
  expect(lastSync).toMatchObject({ action: "check", result: "done" });
}
