/** What a seeded run needs: numbers from a seed, and a scheduler that takes tasks in their order. */
import type { Random } from "../../src/member/simulated-disk.ts";
import type { Schedule } from "../../src/member/simulated.ts";

/** mulberry32: small, fast, good enough to pick an order. */
export function seededRandom(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Runs one waiting task a turn of the event loop, picked at random: between two tasks every
 * promise that can settle has settled, so the seed alone decides what happens.
 */
export function seededSchedule(random: Random): Schedule {
  const waiting: (() => void)[] = [];
  const runOne = (): void => {
    const [task] = waiting.splice(Math.floor(random() * waiting.length), 1);
    if (waiting.length > 0) setImmediate(runOne);
    task?.();
  };
  return (task) => {
    waiting.push(task);
    if (waiting.length === 1) setImmediate(runOne);
  };
}
