/** Time, handed in: the engine runs against the real clock and inside a seeded simulation. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Unix time in milliseconds, with a fraction: what superblocks record. */
  wallTime(): number;
  /** Calls `run` once after `delayMs`; returns a function that cancels it. Keeps no process alive. */
  after(delayMs: number, run: () => void): () => void;
  /** Calls `run` once, when what has arrived by now is dealt with. */
  soon(run: () => void): void;
}

/** The longest delay that a timer takes, some 24 days: one that is longer runs out at once. */
export const DELAY_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  wallTime: () => performance.timeOrigin + performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
  soon: (run) => void setImmediate(run),
};
