/**
 * A parity array that lost its power while a member was missing: what parity says of the missing
 * member is not believed, and is not made worse, until a repair accepts it.
 */
import { describe, expect, it } from "vitest";
import { type LevelName } from "../../src/metadata/levels.ts";
import { anyLost } from "../raid/oracle-placement.ts";
import { freshBytes } from "../sim/client.ts";
import { oracleShape, type Shape, sizeOf } from "../sim/disks.ts";
import { Machine } from "../sim/machine.ts";
import { World } from "../sim/world.ts";

const KiB = 1024;
const CHUNK = 64 * KiB;

const shapeOf = (level: LevelName): Shape => ({
  level,
  layout: level === "4" ? 0 : 2,
  chunkBytes: CHUNK,
  raidDisks: 5,
  sizeBytes: 8 * CHUNK,
  bitmap: "lockless",
  writeMostly: false,
});

/** All is written and flushed while as many members as may be are missing; then the power is cut. */
async function cutWhileDegraded(level: LevelName): Promise<{ machine: Machine; bytes: Buffer }> {
  const machine = new Machine(new World(1), shapeOf(level));
  const { world } = machine;
  const array = await machine.start();
  for (let slot = 1; slot <= anyLost(oracleShape(machine.shape)); slot++) {
    await world.until(array.fail(String(slot)));
  }
  const bytes = Buffer.from(freshBytes(world.random, sizeOf(machine.shape)));
  await world.until(array.write(bytes, 0, false));
  await world.until(array.flush());
  machine.cut();
  return { machine, bytes };
}

async function startForced(machine: Machine): Promise<Machine["array"]> {
  const array = await machine.load(await machine.plan(machine.paths, false, true));
  await machine.world.until(array.start());
  return array;
}

/** By chunk of the array: what a client reads of it, null where that is refused. */
async function readChunks({ world, array }: Machine): Promise<(Buffer | null)[]> {
  const chunks: (Buffer | null)[] = [];
  for (let offset = 0; offset < array.sizeBytes; offset += CHUNK) {
    const into = Buffer.alloc(CHUNK);
    const read = array.read(into, offset).then(() => into);
    chunks.push(
      await world.until(
        read.catch((error: { code?: string }) => {
          expect(error.code).toBe("unknown-data");
          return null;
        }),
      ),
    );
  }
  return chunks;
}

describe.for(["4", "5", "6"] as const)("level %s", (level) => {
  it("starts only if it is forced to", async () => {
    const { machine } = await cutWhileDegraded(level);
    expect((await machine.plan()).refusal?.code).toBe("dirty-degraded");
  });

  it("refuses what was on missing members, and gives the rest, until a repair", async () => {
    const { machine, bytes } = await cutWhileDegraded(level);
    const array = await startForced(machine);
    await machine.world.until(array.wait());
    const before = await readChunks(machine);
    expect(before.filter((chunk) => chunk === null).length).toBeGreaterThan(0);
    for (const [index, chunk] of before.entries()) {
      const expected = bytes.subarray(index * CHUNK, (index + 1) * CHUNK);
      if (chunk !== null) expect(chunk.equals(expected), `chunk ${index}`).toBe(true);
    }
    await machine.world.until(array.sync("repair"));
    await machine.world.until(array.wait());
    const after = await readChunks(machine);
    // No write was under way when the power failed: parity happens to be right everywhere.
    expect(after).not.toContain(null);
    expect(Buffer.concat(after.map((chunk) => chunk!)).equals(bytes)).toBe(true);
  });

  it("writes to other chunks change nothing of what parity says of a missing one", async () => {
    const { machine, bytes } = await cutWhileDegraded(level);
    const { world } = machine;
    const array = await startForced(machine);
    await world.until(array.wait());
    const readable = await readChunks(machine);
    for (const [index, chunk] of readable.entries()) {
      if (chunk === null) continue;
      const [offset, length] = [index * CHUNK + 1000, 30 * KiB + index];
      const fresh = freshBytes(world.random, length);
      await world.until(array.write(fresh, offset, false));
      bytes.set(fresh, offset);
    }
    await world.until(array.sync("repair"));
    await world.until(array.wait());
    const after = await readChunks(machine);
    for (const [index, chunk] of after.entries()) {
      const expected = bytes.subarray(index * CHUNK, (index + 1) * CHUNK);
      expect(chunk?.equals(expected), `chunk ${index}`).toBe(true);
    }
  });
});
