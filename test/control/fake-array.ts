import type { ArrayControl, ArraySettings, ArrayStatus, SyncVerb } from "../../src/array/status.ts";

/** A healthy mirror of two; a test says what is different. */
export function arrayStatus(changes: Partial<ArrayStatus> = {}): ArrayStatus {
  const member = {
    state: "in_sync",
    writeMostly: false,
    readErrors: 0,
    writeErrors: 0,
    unlinked: false,
  } as const;
  return {
    name: "data",
    uuid: "00112233:44556677:8899aabb:ccddeeff",
    level: "1",
    layout: null,
    chunkSize: null,
    size: 1024 ** 3,
    raidDisks: 2,
    events: 17,
    state: "active",
    degraded: 0,
    mismatchCount: 0,
    knownZero: true,
    suspectBytes: 0,
    stripeWrites: null,
    members: [
      { slot: 0, path: "/images/a.img", ...member },
      { slot: 1, path: "/images/b.img", ...member },
    ],
    bitmap: {
      type: "lockless",
      regionSize: 65536,
      regions: 16384,
      unwritten: 16000,
      clean: 300,
      dirty: 80,
      needSync: 3,
      syncing: 1,
      blocksWritten: 12,
      infections: 2,
      daemonLastRun: 1_700_000_000,
      oldestDirtySeconds: 12,
    },
    sync: null,
    lastSync: null,
    ...changes,
  };
}

/** Notes every call as text; `fails` is thrown by the next ones. */
export class FakeArray implements ArrayControl {
  readonly name: string;
  readonly calls: string[] = [];
  current: ArrayStatus;
  fails: Error | null = null;
  waiting: Promise<void> = Promise.resolve();

  constructor(changes: Partial<ArrayStatus> = {}) {
    this.current = arrayStatus(changes);
    this.name = this.current.name;
  }

  status(): ArrayStatus {
    return this.current;
  }

  fail(member: string): Promise<void> {
    return this.#note(`fail ${member}`);
  }

  remove(member: string): Promise<void> {
    return this.#note(`remove ${member}`);
  }

  reAdd(path: string): Promise<void> {
    return this.#note(`re-add ${path}`);
  }

  add(path: string, { writeMostly }: { writeMostly: boolean }): Promise<void> {
    return this.#note(`add ${path} ${writeMostly}`);
  }

  set(settings: Partial<ArraySettings>): void {
    this.calls.push(`set ${JSON.stringify(settings)}`);
  }

  setWriteMostly(member: string, writeMostly: boolean): Promise<void> {
    return this.#note(`write-mostly ${member} ${writeMostly}`);
  }

  sync(verb: SyncVerb): Promise<void> {
    return this.#note(`sync ${verb}`);
  }

  async wait(): Promise<void> {
    await this.#note("wait");
    await this.waiting;
  }

  async #note(call: string): Promise<void> {
    this.calls.push(call);
    if (this.fails !== null) throw this.fails;
    return Promise.resolve();
  }
}
