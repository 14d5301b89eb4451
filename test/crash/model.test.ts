import { describe, expect, test } from "vitest";
import { BLOCK_BYTES, encodeBlocks } from "./blocks.ts";
import { Model } from "./model.ts";

/** What the suites here rely on: which contents the model takes for possible after a power cut. */
const whole = (sequence: number): Buffer => encodeBlocks(0, 1, sequence);

/** The first half of one block, the second of another. */
function torn(one: Buffer, other: Buffer): Buffer {
  return Buffer.concat([one.subarray(0, BLOCK_BYTES / 2), other.subarray(BLOCK_BYTES / 2)]);
}

function written(model: Model, fua: boolean): Buffer {
  const change = model.begin(0, 1, false);
  model.answer(change, fua);
  return whole(change.began);
}

describe("after a power cut", () => {
  test("a block that was flushed is whole", () => {
    const model = new Model();
    const [old, last] = [written(model, true), written(model, true)];
    expect(() => model.settle(0, torn(old, last), "flushed")).toThrow(/torn/);
    expect(() => model.settle(0, old, "flushed")).toThrow("not one of");
    model.settle(0, last, "flushed");
  });

  test("one that was being written may be torn, but of what was written, and stays as it is", () => {
    const model = new Model();
    const old = written(model, true);
    const last = written(model, false);
    expect(() => model.settle(0, torn(old, whole(99)), "flushed")).toThrow(/torn/);
    model.settle(0, torn(last, old), "flushed");
    model.settle(0, torn(last, old), "answered");
    expect(() => model.settle(0, torn(old, last), "flushed")).toThrow(/torn/);
    expect(() => model.settle(0, last, "flushed")).toThrow("not one of");
  });

  test("zeroes that were not flushed count as well", () => {
    const model = new Model();
    const old = written(model, true);
    model.begin(0, 1, true);
    model.settle(0, torn(Buffer.alloc(BLOCK_BYTES), old), "flushed");
  });
});

test("after a kill no block is torn", () => {
  const model = new Model();
  const old = written(model, true);
  const last = written(model, false);
  expect(() => model.settle(0, torn(last, old), "answered")).toThrow(/torn/);
});
