/**
 * A member fails one stripe of a longer write, of which other stripes still go on: nobody may
 * take what it holds there for what was written.
 */
import { describe, expect, test } from "vitest";
import { type Member, MemberError } from "../../src/member/member.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { totalLength } from "../../src/member/vectors.ts";
import { oracleShape } from "../sim/disks.ts";
import type { Machine } from "../sim/machine.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { failOnce, failWhile } from "./failing-members.ts";

const CHUNK = 64 * KiB;
const SHAPE = {
  level: "5",
  layout: 2,
  chunkBytes: CHUNK,
  raidDisks: 4,
  sizeBytes: 2 * MiB,
} as const;
const STRIPE = 3 * CHUNK;

interface Bench {
  readonly machine: Machine;
  readonly geometry: ParityGeometry;
  readonly model: Buffer;
}

async function bench(): Promise<Bench> {
  const machine = await startMachine(1, SHAPE);
  const geometry = geometryOf(oracleShape(machine.shape)) as ParityGeometry;
  const model = Buffer.from(await write(machine, 0, 4 * STRIPE));
  await machine.world.until(machine.world.sleep(2_000));
  return { machine, geometry, model };
}

/** The member that holds this data chunk, and where it starts there. */
function placeOf({ machine, geometry }: Bench, stripe: number, index: number) {
  const slot = geometry.stripe(stripe).data[index]!;
  return { path: `/disk${slot}`, start: machine.dataOffset + stripe * CHUNK };
}

/** Writes of the member to this chunk take so long. */
function delayWrites(machine: Machine, path: string, start: number, ms: number): void {
  const member: Member = machine.member(path);
  const writev = member.writev.bind(member);
  member.writev = async (from, offset) => {
    const touches = offset < start + CHUNK && offset + totalLength(from) > start;
    if (touches) await machine.world.sleep(ms);
    await writev(from, offset);
  };
}

async function read({ machine }: Bench, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length);
  await machine.world.until(machine.array.read(into, offset));
  return into;
}

describe("while the rest of the write goes on", () => {
  test("another write of the stripe does not take the old bytes for the new", async () => {
    const one = await bench();
    const { machine, model } = one;
    const { world, array } = machine;
    const failing = placeOf(one, 0, 1);
    failOnce(machine, failing.path, "write", (offset) => offset === failing.start);
    const slow = placeOf(one, 1, 0);
    delayWrites(machine, slow.path, slow.start, 1_000);
    const long = Buffer.alloc(STRIPE - CHUNK + STRIPE, 0x77);
    const first = array.write(long, CHUNK, false);
    await world.until(world.sleep(200));
    const second = array.write(Buffer.alloc(CHUNK, 0x55), 0, false);
    await world.until(Promise.all([first, second]));
    long.copy(model, CHUNK);
    model.fill(0x55, 0, CHUNK);
    expect(array.status().members.map(({ state }) => state)).toContain("faulty");
    expect((await read(one, 0, 2 * STRIPE)).equals(model.subarray(0, 2 * STRIPE))).toBe(true);
  });
});

describe.each(["EIO", "ENOSPC"] as const)("%s, where another stripe cannot be read", (code) => {
  test("makes parity suspect, though the write ends with the other's error", async () => {
    const one = await bench();
    const { machine, geometry, model } = one;
    const { world, array } = machine;
    // Data of both stripes is lost, and both are to be written in part.
    const lost = geometry.stripe(0).data[0]!;
    await world.until(array.fail(String(lost)));
    const failing = placeOf(one, 0, 1);
    failWhile(machine, failing.path, "write", (offset) => offset === failing.start, code);
    const unreadable = placeOf(one, 1, 0);
    failWhile(machine, unreadable.path, "read", (offset) => offset === unreadable.start);
    const long = Buffer.alloc(STRIPE - CHUNK + 512, 0x77);
    const outcome = world.until(array.write(long, CHUNK, false));
    await expect(outcome).rejects.toThrow("read failed");
    const before = model.subarray(0, CHUNK);
    const after = await read(one, 0, CHUNK).catch((error: unknown) => error);
    if (Buffer.isBuffer(after)) expect(after.equals(before)).toBe(true);
    else expect(after).toMatchObject({ code: "unknown-data" });
    expect(array.regions.isSuspect(0)).toBe(true);
    expect(after).not.toBeInstanceOf(MemberError);
  });
});
