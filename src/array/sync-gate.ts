/**
 * Shares syncs of the members between FLUSH and FUA requests. A request is covered only by a
 * sync that began after it came; all that come while one runs share the next.
 */
export class SyncGate {
  private readonly sync: () => Promise<void>;
  private running: Promise<void> | null = null;
  private next: Promise<void> | null = null;

  /** `sync` resolves when every member that still counts is synced. */
  constructor(sync: () => Promise<void>) {
    this.sync = sync;
  }

  request(): Promise<void> {
    if (this.next !== null) return this.next;
    // A microtask later, so that the requests of one burst share the sync.
    const begins = this.running === null ? Promise.resolve() : this.running.catch(() => undefined);
    this.next = begins.then(() => {
      this.next = null;
      const run = this.sync().finally(() => {
        if (this.running === run) this.running = null;
      });
      this.running = run;
      return run;
    });
    return this.next;
  }
}
