import { describe, expect, test } from "vitest";
import { MemberError } from "../../src/member/member.ts";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { oracleShape } from "../sim/disks.ts";
import { KiB, MiB, startMachine, write } from "../sim/rule-machine.ts";
import { failWhile } from "../array/failing-members.ts";

const CHUNK = 64 * KiB;
const SHAPE = { level: "5", layout: 2, chunkBytes: CHUNK, raidDisks: 4, sizeBytes: MiB } as const;

describe("a block that cannot be read, while the member with its parity is gone", () => {
  test("ends the read with what its member said", async () => {
    const machine = await startMachine(1, SHAPE);
    const { world, array } = machine;
    const geometry = geometryOf(oracleShape(machine.shape)) as ParityGeometry;
    const { data, p } = geometry.stripe(0);
    await write(machine, 0, 3 * CHUNK);
    await world.until(array.fail(String(p)));
    const start = machine.dataOffset;
    failWhile(machine, `/disk${data[0]!}`, "read", (offset) => offset === start);
    const error: unknown = await world
      .until(array.read(Buffer.alloc(4 * KiB), 0))
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "io-error" });
    expect((error as Error).cause).toBeInstanceOf(MemberError);
  });
});
