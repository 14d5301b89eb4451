import { describe, expect, test } from "vitest";
import { SyncGate } from "../../src/array/sync-gate.ts";
import { deferred, isSettled, turn } from "../bitmap/fake-clock.ts";

/** A gate whose syncs end when the test says so. */
class Bench {
  readonly syncs: ReturnType<typeof deferred>[] = [];
  readonly gate = new SyncGate(() => {
    const sync = deferred();
    this.syncs.push(sync);
    return sync.promise;
  });
}

describe("FLUSH and FUA", () => {
  test("a request alone is one sync, and resolves with it", async () => {
    const { gate, syncs } = new Bench();
    const request = gate.request();
    expect(await isSettled(request)).toBe(false);
    expect(syncs).toHaveLength(1);
    syncs[0]!.resolve();
    await request;
  });

  test("requests of one burst share a sync", async () => {
    const { gate, syncs } = new Bench();
    const requests = Array.from({ length: 20 }, () => gate.request());
    await turn();
    expect(syncs).toHaveLength(1);
    syncs[0]!.resolve();
    await Promise.all(requests);
  });

  test("a request is covered only by a sync that began after it came", async () => {
    const { gate, syncs } = new Bench();
    const early = gate.request();
    await turn();
    const late = gate.request();
    syncs[0]!.resolve();
    await early;
    expect(await isSettled(late)).toBe(false);
    expect(syncs).toHaveLength(2);
    syncs[1]!.resolve();
    await late;
  });

  test("all that come while one runs share the next", async () => {
    const { gate, syncs } = new Bench();
    const early = gate.request();
    await turn();
    const late: Promise<void>[] = [];
    for (let index = 0; index < 10; index++) {
      late.push(gate.request());
      await turn();
    }
    syncs[0]!.resolve();
    await early;
    await turn();
    expect(syncs).toHaveLength(2);
    syncs[1]!.resolve();
    await Promise.all(late);
    expect(syncs).toHaveLength(2);
  });

  test("of two syncs one after the other at most one runs", async () => {
    const { gate, syncs } = new Bench();
    void gate.request();
    await turn();
    void gate.request();
    await turn();
    expect(syncs).toHaveLength(1);
  });
});

describe("a sync that fails", () => {
  test("fails every request that shares it", async () => {
    const { gate, syncs } = new Bench();
    const requests = [gate.request(), gate.request()];
    await turn();
    syncs[0]!.reject(new Error("gone"));
    for (const request of requests) await expect(request).rejects.toThrow("gone");
  });

  test("does not fail a request that came later, and does not hold it up", async () => {
    const { gate, syncs } = new Bench();
    const early = gate.request();
    await turn();
    const late = gate.request();
    syncs[0]!.reject(new Error("gone"));
    await expect(early).rejects.toThrow("gone");
    await turn();
    syncs[1]!.resolve();
    await late;
  });
});
