/**
 * Virtual time and one queue of events: storage steps and timers happen in an order that the seed
 * alone decides, and thirty seconds pass in none.
 */
import type { Clock } from "../../src/clock.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import type { Schedule } from "../../src/member/simulated.ts";
import { seededRandom } from "../member/seeded.ts";

interface Event {
  /** Virtual milliseconds. */
  readonly at: number;
  readonly task: () => void;
}

const EPOCH_MS = Date.UTC(2025, 0, 1);
/** More than any run needs: one that goes on for ever fails. */
const EVENTS_MAX = 300_000;
const SLOW_STEP_MS = 40;

export class World {
  readonly random: Random;
  readonly clock: Clock;
  /** A step of storage: most are quick, some are slow. */
  readonly schedule: Schedule;
  now = 0;
  events = 0;
  private queue: Event[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.clock = {
      now: () => this.now,
      wallTime: () => EPOCH_MS + this.now,
      after: (delayMs, task) => this.after(delayMs, task),
      soon: (task) => void this.after(0, task),
    };
    this.schedule = (task) => {
      const slow = this.random() < 0.02;
      this.after(this.random() * (slow ? SLOW_STEP_MS : 1), task);
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** The next event happens, and every promise that can settle then settles. False: there is none. */
  async step(): Promise<boolean> {
    const event = this.queue.shift();
    if (event === undefined) return false;
    if (++this.events > EVENTS_MAX) throw new Error("the simulation does not end");
    this.now = event.at;
    event.task();
    await promisesSettle();
    return true;
  }

  /** Goes on until `promise` settles, and gives what it gives. Nothing left to happen: a deadlock. */
  async until<T>(promise: Promise<T>): Promise<T> {
    if (await this.steps(promise, Infinity)) return promise;
    throw new Error("deadlock: a promise is open and nothing is left to happen");
  }

  /** At most `count` events; true if `promise` has settled by then. */
  async steps(promise: Promise<unknown>, count: number): Promise<boolean> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    promise.then(settle, settle);
    await promisesSettle();
    for (let step = 0; step < count && !settled; step++) if (!(await this.step())) break;
    return settled;
  }

  /** All that was to happen does not: the machine is off. */
  halt(): void {
    this.queue = [];
  }

  /** An integer of [0, end). */
  below(end: number): number {
    return Math.floor(this.random() * end);
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[this.below(choices.length)] ?? choices[0];
  }

  private after(delayMs: number, task: () => void): () => void {
    const event = { at: this.now + delayMs, task };
    const later = this.queue.findIndex((other) => other.at > event.at);
    this.queue.splice(later < 0 ? this.queue.length : later, 0, event);
    return () => {
      const index = this.queue.indexOf(event);
      if (index >= 0) this.queue.splice(index, 1);
    };
  }
}

function promisesSettle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
