import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isTimestamp, timestampAt } from "../../src/metadata/timestamp.ts";
import { holds } from "./properties.ts";

describe("timestampAt", () => {
  it("splits the clock's milliseconds", () => {
    expect(timestampAt(1_700_000_100_250)).toEqual({
      seconds: 1_700_000_100,
      microseconds: 250_000,
    });
  });

  it("never has 0 microseconds", () => {
    expect(timestampAt(1_700_000_100_000).microseconds).toBe(1);
    holds(
      fc.property(fc.double({ min: 0, max: 2 ** 45, noNaN: true }), (milliseconds) => {
        const time = timestampAt(milliseconds);
        expect(time.microseconds).toBeGreaterThan(0);
        expect(time.microseconds).toBeLessThan(1_000_000);
        expect(isTimestamp(time)).toBe(true);
      }),
    );
  });
});
