/** Seeded clients: several requests in flight, all checked against the model. */
import type { RaidArray } from "../../src/array/array.ts";
import { NbdRaidError } from "../../src/errors.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import type { Model } from "./model.ts";
import type { World } from "./world.ts";

const LENGTH_MAX = 256 * 1024;

export interface ClientOptions {
  /** Requests each client sends. */
  readonly requests: number;
  readonly clients: number;
  /** Virtual milliseconds between two requests of a client, at most. */
  readonly pauseMs: number;
  /** An error that the run expects; others fail it. */
  readonly expects?: (error: NbdRaidError) => boolean;
  /** False while a member may have lost what it took, and has not yet said so. */
  readonly trusts?: () => boolean;
  /** Called before each write, zero and flush; the result, when it is answered without an error. */
  readonly watch?: () => () => void;
}

/** Resolves when every client has sent its requests and got its answers. */
export async function runClients(
  world: World,
  array: RaidArray,
  model: Model,
  options: ClientOptions,
): Promise<void> {
  const hotSpots = Array.from({ length: 4 }, () => world.below(model.sizeBytes));
  const client = async (): Promise<void> => {
    for (let sent = 0; sent < options.requests; sent++) {
      const sleeps = world.chance(0.3);
      if (sleeps) await world.sleep(world.random() * options.pauseMs);
      const request = chooseRequest(world);
      const range = chooseRange(world, model.sizeBytes, hotSpots);
      const answered = QUIET.has(request) ? undefined : options.watch?.();
      try {
        await request({ random: world.random, array, model, trusts: options.trusts, ...range });
        answered?.();
      } catch (error) {
        const expected = error instanceof NbdRaidError && options.expects?.(error) === true;
        if (!expected) throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: options.clients }, client));
}

interface Target {
  readonly random: Random;
  readonly array: RaidArray;
  readonly model: Model;
  readonly offset: number;
  readonly length: number;
  readonly trusts?: (() => boolean) | undefined;
}

type Request = (target: Target) => Promise<void>;

const trimPlain: Request = (target) => trim(target, false);
const trimDurable: Request = (target) => trim(target, true);

/** Out of a hundred. */
const MIX: readonly (readonly [share: number, request: Request])[] = [
  [48, (target) => write(target, false)],
  [10, (target) => write(target, true)],
  [10, ({ array, model }) => flush(array, model)],
  [16, read],
  [6, trimPlain],
  [2, trimDurable],
  [2, (target) => zero(target, true, false)],
  [1, (target) => zero(target, true, true)],
  [4, (target) => zero(target, false, false)],
  [1, (target) => zero(target, false, true)],
];
/** They may change nothing: what is Unwritten needs no trim. */
const QUIET: ReadonlySet<Request> = new Set([read, trimPlain, trimDurable]);

function chooseRequest(world: World): Request {
  let left = world.below(100);
  for (const [share, request] of MIX) {
    if (left < share) return request;
    left -= share;
  }
  return read;
}

/** Half of the ranges are whole sectors; most are near one of few spots, so that they overlap. */
function chooseRange(
  world: World,
  sizeBytes: number,
  hotSpots: readonly number[],
): { offset: number; length: number } {
  const unit = world.pick([1, 512, 512, 4096, 65536]);
  const most = world.pick([1, 8, 64, Math.floor(LENGTH_MAX / unit)]);
  const length = Math.min(LENGTH_MAX, unit * (1 + world.below(Math.max(1, most))));
  const hot = hotSpots[world.below(hotSpots.length * 2)];
  const near = (hot ?? world.below(sizeBytes)) + (hot === undefined ? 0 : world.below(8) * 4096);
  const offset = Math.min(near - (near % unit), sizeBytes - length);
  return { offset, length };
}

/** Bytes that no other request has, at any offset. */
export function freshBytes(random: Random, length: number): Uint8Array {
  const bytes = Buffer.alloc(length + 4);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4));
  let state = Math.floor(random() * 2 ** 32);
  for (let index = 0; index < words.length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    words[index] = state;
  }
  return bytes.subarray(0, length);
}

export async function write(target: Target, fua: boolean): Promise<void> {
  const { random, array, model, offset, length } = target;
  const bytes = freshBytes(random, length);
  await change(model, offset, length, bytes, fua, async () => {
    if (!array.tryWrite(bytes, offset, fua)) await array.write(bytes, offset, fua);
  });
}

export async function read({ array, model, offset, length, trusts }: Target): Promise<void> {
  const into = Buffer.alloc(length);
  const trusted = trusts?.() ?? true;
  const done = model.beginRead(offset);
  try {
    if (!array.tryRead(into, offset)) await array.read(into, offset);
  } catch (error) {
    done(null);
    throw error;
  }
  done(trusted && (trusts?.() ?? true) ? into : null);
}

export async function flush(array: RaidArray, model: Model): Promise<void> {
  const done = model.beginFlush();
  await array.flush();
  done();
}

export async function trim(target: Target, fua: boolean): Promise<void> {
  const { array, model, offset, length } = target;
  await change(model, offset, length, null, fua, () => array.trim(offset, length, fua));
}

export async function zero(target: Target, allocate: boolean, fua: boolean): Promise<void> {
  const { array, model, offset, length } = target;
  const operation = (): Promise<void> => array.zero(offset, length, allocate, fua);
  await change(model, offset, length, null, fua, operation);
}

async function change(
  model: Model,
  offset: number,
  length: number,
  bytes: Uint8Array | null,
  fua: boolean,
  operation: () => Promise<void>,
): Promise<void> {
  const begun = model.begin(offset, length, bytes);
  try {
    await operation();
  } catch (error) {
    model.refused(begun);
    throw error;
  }
  model.answered(begun, fua);
}
