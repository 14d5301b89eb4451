import { beforeEach, describe, expect, it } from "vitest";
import { InlineWrites } from "../../src/member/inline-writes.ts";

const FAST = 0.05;
const SLOW = 5;

describe("inline writes", () => {
  let nowMs: number;
  let writes: InlineWrites;

  beforeEach(() => {
    nowMs = 1000;
    writes = new InlineWrites(() => nowMs);
  });

  /** How long the policy keeps writes away from the event loop from now on. */
  const suspensionMs = (): number => {
    const startMs = nowMs;
    while (!writes.allows(512)) nowMs += 10;
    return nowMs - startMs;
  };

  it("are allowed up to 256 KiB", () => {
    expect(writes.allows(1)).toBe(true);
    expect(writes.allows(256 * 1024)).toBe(true);
    expect(writes.allows(256 * 1024 + 1)).toBe(false);
  });

  it("stay allowed while they are fast", () => {
    for (let i = 0; i < 1000; i++) writes.tookInline(FAST);
    expect(writes.allows(512)).toBe(true);
  });

  it("stop after a slow one, until 64 pool writes in a row were fast", () => {
    writes.tookInline(SLOW);
    expect(writes.allows(512)).toBe(false);
    for (let i = 0; i < 63; i++) writes.tookInPool(FAST);
    writes.tookInPool(SLOW);
    for (let i = 0; i < 63; i++) writes.tookInPool(FAST);
    expect(writes.allows(512)).toBe(false);
    writes.tookInPool(FAST);
    expect(writes.allows(512)).toBe(true);
  });

  it("come back by themselves after a time that doubles up to 16 s", () => {
    const times = Array.from({ length: 9 }, () => {
      writes.tookInline(SLOW);
      return suspensionMs();
    });
    expect(times).toEqual([250, 500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]);
  });

  it("start with the short time again once the file has proved itself", () => {
    for (let i = 0; i < 5; i++) {
      writes.tookInline(SLOW);
      suspensionMs();
    }
    for (let i = 0; i < 64; i++) writes.tookInPool(FAST);
    writes.tookInline(SLOW);
    expect(suspensionMs()).toBe(250);
  });
});
