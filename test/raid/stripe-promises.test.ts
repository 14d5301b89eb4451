/**
 * What an update of a stripe promises when it does not refuse, held against every stripe there is:
 * each slot in sync, in sync but unreadable now, rebuilding or absent; each set of chunks that are
 * new; each thing that parity may be. The bytes are random.
 */
import { describe, expect, test } from "vitest";
import { NbdRaidError } from "../../src/errors.ts";
import { MemberError } from "../../src/member/member.ts";
import { createKernels } from "../../src/parity/create.ts";
import type { ParityGeometry } from "../../src/raid/geometry/geometry.ts";
import { geometryOf } from "../../src/raid/geometry/of.ts";
import { Scratch } from "../../src/raid/scratch.ts";
import { type StripeParts, StripeUpdate } from "../../src/raid/stripe-write.ts";
import { World } from "../sim/world.ts";
import { BLOCK, FakeLeg } from "./fake-leg.ts";

/** Columns that are written. */
const WIDTH = 8;

type SlotState = "in sync" | "unreadable" | "rebuilding" | "absent";
const STATES: readonly SlotState[] = ["in sync", "unreadable", "rebuilding", "absent"];

/** What is known of parity, and what is so: `fits` where the columns were written before. */
const PARITIES = [
  { name: "good", suspect: false, doubtful: false, fits: true },
  { name: "unbuilt, but made here", suspect: false, doubtful: true, fits: true },
  { name: "unbuilt", suspect: false, doubtful: true, fits: false },
  { name: "suspect", suspect: true, doubtful: true, fits: false },
] as const;
type Parity = (typeof PARITIES)[number];

const SHAPES = [
  { name: "level 5, 4 slots", level: 5, raidDisks: 4 },
  { name: "level 6, 4 slots", level: 6, raidDisks: 4 },
  { name: "level 6, 5 slots", level: 6, raidDisks: 5 },
] as const;

const kernels = createKernels();
const scratch = new Scratch(kernels);

function* combinations<T>(items: readonly T[], count: number): Iterable<T[]> {
  if (count === 0) {
    yield [];
    return;
  }
  for (const rest of combinations(items, count - 1))
    for (const item of items) yield [...rest, item];
}

function subsets<T>(items: readonly T[]): T[][] {
  return items.reduce<T[][]>((all, item) => all.flatMap((one) => [one, [...one, item]]), [[]]);
}

/** One stripe of an array, slots of which are in these states. */
class Stripe {
  readonly geometry: ParityGeometry;
  states: readonly SlotState[] = [];
  parity: Parity = PARITIES[0];
  private readonly legs: FakeLeg[];
  private readonly parts: StripeParts<FakeLeg>;
  private readonly world = new World(1);

  constructor(level: number, raidDisks: number) {
    const shape = { level, layout: 2, chunkBytes: BLOCK, raidDisks, componentBytes: 4 * BLOCK };
    this.geometry = geometryOf({ ...shape, dataBytes: [] }) as ParityGeometry;
    this.legs = Array.from({ length: raidDisks }, (_, slot) => new FakeLeg(slot));
    const { geometry, legs } = this;
    const unused = (): never => expect.fail("an update of one stripe does not ask for this");
    this.parts = {
      geometry,
      kernels,
      scratch,
      legs: {
        inSync: [],
        writable: [],
        inSyncAt: (slot) => (this.counts(slot) ? legs[slot]! : null),
        writableAt: (slot) => (this.states[slot] === "absent" ? null : legs[slot]!),
      },
      host: {
        clock: this.world.clock,
        isSuspect: () => this.parity.suspect,
        isDoubtful: () => this.parity.doubtful,
        exclusively: unused,
        readFailed: () => undefined,
        writeFailed: unused,
      },
      writes: { full: 0, reconstruct: 0, modify: 0 },
    };
  }

  get map() {
    return this.geometry.stripe(0);
  }

  randomBytes(): Buffer {
    return Buffer.from(Array.from({ length: WIDTH }, () => this.world.below(256)));
  }

  /** True if what the slot holds counts. */
  counts(slot: number): boolean {
    return this.states[slot] === "in sync" || this.states[slot] === "unreadable";
  }

  set(states: readonly SlotState[], parity: Parity): void {
    this.states = states;
    this.parity = parity;
    for (const leg of this.legs) {
      leg.bytes.set(this.randomBytes());
      leg.heals = false;
      leg.log.length = 0;
      leg.badBlocks.clear();
      if (states[leg.slot] === "unreadable") leg.badBlocks.add(0);
    }
    if (!parity.fits) return;
    const { p, q } = this.parityOf(this.map.data.map((slot) => this.on(slot)));
    this.legs[this.map.p]!.bytes.set(p);
    if (this.map.q >= 0) this.legs[this.map.q]!.bytes.set(q);
  }

  on(slot: number): Buffer {
    return Buffer.from(this.legs[slot]!.bytes.subarray(0, WIDTH));
  }

  all(): Buffer[] {
    return this.states.map((_, slot) => this.on(slot));
  }

  parityOf(data: readonly Uint8Array[]): { p: Buffer; q: Buffer } {
    const [p, q] = [Buffer.alloc(WIDTH), Buffer.alloc(WIDTH)];
    kernels.pq(p, q, data, this.map.exponents);
    return { p, q };
  }

  /**
   * The data as reads find it, and a rebuild after a repair: from the slots that count, those of
   * `silent` excepted. Null: too much is lost.
   */
  data(silent: readonly number[]): Buffer[] | null {
    const { data, exponents, p, q } = this.map;
    const speaks = (slot: number): boolean =>
      slot >= 0 && this.counts(slot) && !silent.includes(slot);
    const chunks = data.map((slot) => this.on(slot));
    const lost = [...data.keys()].filter((index) => !speaks(data[index]!));
    if (lost.length === 0) return chunks;
    const oldP = speaks(p) ? this.on(p) : null;
    const oldQ = speaks(q) ? this.on(q) : null;
    if ((oldP === null ? 0 : 1) + (oldQ === null ? 0 : 1) < lost.length) return null;
    kernels.recover(chunks, lost, oldP, oldQ, exponents);
    return chunks;
  }

  /** By data chunk: new bytes, or null. False: refused. */
  async update(fresh: readonly (Buffer | null)[]): Promise<boolean> {
    const pieces = fresh.flatMap((bytes, index) =>
      bytes === null ? [] : [{ index, start: 0, bytes }],
    );
    try {
      expect(await new StripeUpdate(this.parts, 0, pieces).run()).toEqual([]);
      return true;
    } catch (error) {
      if (error instanceof MemberError || error instanceof NbdRaidError) return false;
      throw error;
    }
  }
}

interface Case {
  readonly stripe: Stripe;
  readonly fresh: readonly (Buffer | null)[];
}

/** Stripes that the level bears, with every set of new chunks. */
function* cases(stripe: Stripe): Iterable<Case> {
  const { dataDisks, parityDisks, raidDisks } = stripe.geometry;
  for (const states of combinations(STATES, raidDisks)) {
    const lost = states.filter((state) => state === "rebuilding" || state === "absent").length;
    const unreadable = states.filter((state) => state === "unreadable").length;
    if (lost > parityDisks || unreadable > 2) continue;
    for (const isNew of combinations([false, true], dataDisks)) {
      if (!isNew.includes(true)) continue;
      for (const parity of PARITIES) {
        stripe.set(states, parity);
        yield { stripe, fresh: isNew.map((is) => (is ? stripe.randomBytes() : null)) };
      }
    }
  }
}

function describeCase({ stripe, fresh }: Case): string {
  const { data, p, q } = stripe.map;
  const of = (slot: number): string => stripe.states[slot]!;
  const chunks = data.map((slot, index) => `${of(slot)}${fresh[index] === null ? "" : " (new)"}`);
  const parities = q < 0 ? `P ${of(p)}` : `P ${of(p)}, Q ${of(q)}`;
  return `parity ${stripe.parity.name}; ${parities}; data ${chunks.join(", ")}`;
}

/** What became of the promises: empty if all were kept. */
async function broken(one: Case): Promise<string[]> {
  const { stripe, fresh } = one;
  const { states, parity } = stripe;
  const { data, p, q } = stripe.map;
  // What cannot be read now may be read again later, in any combination.
  const silences = subsets([...states.keys()].filter((slot) => states[slot] === "unreadable"));
  const before = silences.map((silent) => stripe.data(silent));
  const images = stripe.all();
  if (!(await stripe.update(fresh))) {
    const same = stripe.all().every((bytes, slot) => bytes.equals(images[slot]!));
    return [...(same ? [] : ["refused, but written"]), ...(isServable(one) ? ["refused"] : [])];
  }
  const faults = new Set<string>();
  const acknowledged = parity.fits || parity.suspect;
  for (const [at, silent] of silences.entries()) {
    const after = stripe.data(silent);
    for (const [index, chunk] of (after ?? []).entries()) {
      const bytes = fresh[index];
      if (bytes != null && !chunk.equals(bytes)) faults.add(`new chunk ${index} is lost`);
      const changed = bytes == null && !chunk.equals(before[at]![index]!);
      if (changed && acknowledged) faults.add(`chunk ${index} changed`);
    }
  }
  const whole = stripe.data([]);
  if (parity.suspect || whole === null) return [...faults];
  // Everything fits from now on, so any other slot may be lost; what is rebuilt needs nothing more.
  const expected = stripe.parityOf(whole);
  if (states[p] !== "absent" && !stripe.on(p).equals(expected.p)) faults.add("P does not fit");
  if (q >= 0 && states[q] !== "absent" && !stripe.on(q).equals(expected.q)) {
    faults.add("Q does not fit");
  }
  for (const [index, bytes] of fresh.entries()) {
    const slot = data[index]!;
    if (bytes === null || states[slot] === "absent") continue;
    if (!stripe.on(slot).equals(bytes)) faults.add(`new chunk ${index} is not on its slot`);
  }
  return [...faults];
}

/** No write is to be refused here. */
function isServable({ stripe, fresh }: Case): boolean {
  const { states, parity, geometry } = stripe;
  const { data } = stripe.map;
  const isInSync = (slot: number): boolean => states[slot] === "in sync";
  if (parity.suspect) {
    const isNew = (slot: number): boolean => fresh[data.indexOf(slot)] != null;
    const isRead = (slot: number): boolean => states[slot] !== "unreadable";
    return (
      data.every(isInSync) ||
      (data.filter(isNew).every(isInSync) && [...states.keys()].every(isRead))
    );
  }
  const lost = [...states.keys()].filter((slot) => !isInSync(slot)).length;
  return lost <= geometry.parityDisks;
}

describe.each(SHAPES)("$name", ({ level, raidDisks }) => {
  test("an update keeps what is written and what is not, or changes nothing", async () => {
    const found: string[] = [];
    let count = 0;
    for (const one of cases(new Stripe(level, raidDisks))) {
      count++;
      for (const fault of await broken(one)) found.push(`${fault}: ${describeCase(one)}`);
    }
    expect(found.slice(0, 20), `${found.length} faults in ${count} cases`).toEqual([]);
  }, 60_000);
});
