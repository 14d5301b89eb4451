import { describe, expect, test } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { MemberError } from "../../src/member/member.ts";
import type { LegFailure } from "../../src/raid/level.ts";
import type { Piece } from "../../src/raid/stripe-plan.ts";
import { StripeQueue } from "../../src/raid/stripe-queue.ts";
import { World } from "../sim/world.ts";

const CHUNK = 16;
/** Of three chunks. */
const STRIPE = 3 * CHUNK;

/** An update that the queue has begun, which goes on until the test ends it. */
interface Update {
  readonly stripe: number;
  /** Offsets in the stripe, with lengths. */
  readonly pieces: readonly string[];
  end(failures?: LegFailure<string>[]): void;
  refuse(error: Error): void;
}

function describePiece({ index, start, bytes }: Piece): string {
  return `${index * CHUNK + start}+${bytes.length}`;
}

class Bench {
  readonly world = new World(1);
  readonly updates: Update[] = [];
  readonly queue = new StripeQueue<string>(
    STRIPE,
    CHUNK,
    (stripe, pieces) =>
      new Promise((resolve, reject) => {
        this.updates.push({
          stripe,
          pieces: pieces.map(describePiece),
          end: (failures = []) => resolve(failures),
          refuse: reject,
        });
      }),
    this.world.clock,
  );

  /** What becomes of a write, in a word; "" while it is under way. */
  write(offset: number, length: number): { outcome: string } {
    const written = { outcome: "" };
    this.queue.add(new Uint8Array(length), offset).then(
      (failures) => (written.outcome = ["done", ...failures.map(({ leg }) => leg)].join(" ")),
      (error: unknown) => (written.outcome = (error as Error).message),
    );
    return written;
  }

  /** Lets so much time pass. */
  pass(ms: number): Promise<void> {
    return this.world.until(this.world.sleep(ms));
  }

  get begun(): string[] {
    return this.updates.map(({ stripe, pieces }) => `${stripe}: ${pieces.join(" ")}`);
  }
}

const refusal = (message: string): NbdRaidError => new NbdRaidError("unknown-data", message);
const failure = (leg: string): LegFailure<string> => {
  return { leg, error: new MemberError(leg, "write", new Error("EIO")) };
};

describe("an update begins", () => {
  test("at once, if it is of a whole stripe", () => {
    const bench = new Bench();
    bench.write(STRIPE, STRIPE);
    expect(bench.begun).toEqual(["1: 0+16 16+16 32+16"]);
  });

  test("when what has arrived is dealt with, if it is of a part, and neighbours join it", async () => {
    const bench = new Bench();
    bench.write(20, 4);
    bench.write(40, 4);
    expect(bench.begun).toEqual([]);
    await bench.pass(1);
    expect(bench.begun).toEqual(["0: 20+4 40+4"]);
  });

  test("when the one before has ended, with all that came meanwhile", async () => {
    const bench = new Bench();
    bench.write(20, 4);
    await bench.pass(1);
    const late = [bench.write(24, 4), bench.write(44, 4)];
    await bench.pass(10);
    expect(bench.updates.length).toBe(1);
    bench.updates[0]!.end();
    await bench.pass(1);
    expect(bench.begun.slice(1)).toEqual(["0: 24+4 44+4"]);
    expect(late.map(({ outcome }) => outcome)).toEqual(["", ""]);
    bench.updates[1]!.end();
    await bench.pass(1);
    expect(late.map(({ outcome }) => outcome)).toEqual(["done", "done"]);
    expect(bench.queue.isIdle(0)).toBe(true);
  });

  test("when other work that holds the stripe has ended", async () => {
    const bench = new Bench();
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    bench.queue.occupy(0, held);
    bench.write(0, STRIPE);
    await bench.pass(10);
    expect(bench.begun).toEqual([]);
    release();
    await bench.pass(1);
    expect(bench.updates.length).toBe(1);
  });
});

describe("the start of a stripe", () => {
  test("waits for the rest", async () => {
    const bench = new Bench();
    bench.write(0, 20);
    await bench.pass(3);
    expect(bench.begun).toEqual([]);
    bench.write(20, STRIPE - 20);
    expect(bench.begun).toEqual(["0: 0+16 16+4 20+12 32+16"]);
  });

  test("waits no longer than that pays, and then not again so soon", async () => {
    const bench = new Bench();
    const waited: boolean[] = [];
    for (let stripe = 0; stripe < 8; stripe++) {
      bench.write(stripe * STRIPE, 20);
      await bench.pass(1);
      waited.push(bench.updates.length === stripe);
      await bench.pass(4);
      expect(bench.updates.length).toBe(stripe + 1);
    }
    expect(waited).toEqual([true, false, true, false, false, true, false, false]);
  });
});

describe("a write in several stripes", () => {
  test("names the failed legs of all of them when the last has ended", async () => {
    const bench = new Bench();
    const written = bench.write(STRIPE / 2, STRIPE);
    await bench.pass(10);
    expect(bench.begun).toEqual(["0: 24+8 32+16", "1: 0+16 16+8"]);
    bench.updates[1]!.end([failure("b")]);
    await bench.pass(1);
    expect(written.outcome).toBe("");
    bench.updates[0]!.end([failure("a")]);
    await bench.pass(1);
    expect(written.outcome).toBe("done b a");
  });

  test("is refused with the first refusal, but not while its bytes are in use", async () => {
    const bench = new Bench();
    const written = bench.write(STRIPE / 2, STRIPE);
    await bench.pass(10);
    bench.updates[1]!.refuse(refusal("unknown"));
    await bench.pass(1);
    expect(written.outcome).toBe("");
    bench.updates[0]!.end();
    await bench.pass(1);
    expect(written.outcome).toBe("unknown");
  });
});

describe("writes that are refused together", () => {
  test.each([
    ["data that cannot be known", refusal("together")],
    ["a member that cannot be read", new MemberError("/a", "read", new Error("EIO"))],
  ])("are tried one by one: %s", async (_what, together) => {
    const bench = new Bench();
    const [fine, lost, across] = [bench.write(4, 4), bench.write(20, 4), bench.write(28, 8)];
    await bench.pass(10);
    expect(bench.begun).toEqual(["0: 4+4 20+4 28+4 32+4"]);
    bench.updates[0]!.refuse(together);
    await bench.pass(1);
    expect(bench.begun.slice(1)).toEqual(["0: 4+4"]);
    const late = bench.write(8, 4);
    bench.updates[1]!.end();
    await bench.pass(1);
    expect(bench.begun.slice(2)).toEqual(["0: 20+4"]);
    bench.updates[2]!.refuse(refusal("alone"));
    await bench.pass(1);
    expect(bench.begun.slice(3)).toEqual(["0: 28+4 32+4"]);
    bench.updates[3]!.end([failure("a")]);
    await bench.pass(1);
    expect([fine, lost, across].map(({ outcome }) => outcome)).toEqual(["done", "alone", "done a"]);
    // Nobody else wrote the stripe meanwhile.
    expect(bench.begun.slice(4)).toEqual(["0: 8+4"]);
    bench.updates[4]!.end();
    await bench.pass(1);
    expect(late.outcome).toBe("done");
  });

  test("are not tried again if it is one write, or no refusal", async () => {
    const bench = new Bench();
    const alone = bench.write(20, 4);
    await bench.pass(1);
    bench.updates[0]!.refuse(refusal("unknown"));
    const two = [bench.write(STRIPE + 20, 4), bench.write(STRIPE + 24, 4)];
    await bench.pass(1);
    // Something may have been written.
    bench.updates[1]!.refuse(new Error("broken"));
    await bench.pass(1);
    expect([alone, ...two].map(({ outcome }) => outcome)).toEqual(["unknown", "broken", "broken"]);
    expect(bench.updates.length).toBe(2);
  });
});
