/**
 * What was said in the log a short while ago. A failing device fails every request, and clients try
 * again: once a kind is enough, but what comes back after it was repaired is news.
 */

/** How long a kind that was reported is not reported again, in milliseconds. */
export const FORGET_MS = 10 * 60_000;

export class Reported {
  readonly #now: () => number;
  /** Kinds are few: exports, commands and codes. */
  readonly #at = new Map<string, number>();

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** True: report it, and take it for reported. */
  isNews(kind: string): boolean {
    const now = this.#now();
    const before = this.#at.get(kind);
    if (before !== undefined && now - before < FORGET_MS) return false;
    this.#at.set(kind, now);
    return true;
  }
}
