import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatBytes,
  formatDuration,
  parseDuration,
  parseSize,
  parseSpeed,
} from "../../src/cli/sizes.ts";

const usage = expect.objectContaining({ code: "usage" }) as Error;

describe("a size", () => {
  test.each([
    ["512", 512],
    ["64K", 65_536],
    ["64k", 65_536],
    ["10M", 10 * 1024 ** 2],
    ["1G", 1024 ** 3],
    ["2T", 2 * 1024 ** 4],
    ["7P", 7 * 1024 ** 5],
  ])("%s is %d bytes", (text, bytes) => expect(parseSize(text)).toBe(bytes));

  test.each(["", "0", "0K", "-1", "1.5G", "1KB", "KiB", "K", "1 G", "0x10", "1e3", "8P"])(
    "is not %j",
    (text) => expect(() => parseSize(text)).toThrowError(usage),
  );

  test("that is a speed may be 0: no limit", () => expect(parseSpeed("0")).toBe(0));

  test("of whole units is shown as it was written", () => {
    const amount = fc.integer({ min: 1, max: 1023 });
    fc.assert(
      fc.property(amount, fc.constantFrom("K", "M", "G", "T"), (count, unit) => {
        expect(formatBytes(parseSize(`${count}${unit}`))).toBe(`${count} ${unit}iB`);
      }),
    );
  });

  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.5 KiB"],
    [1024 ** 2 - 1, "1023.9 KiB"],
    [Number.MAX_SAFE_INTEGER, "7.9 PiB"],
  ])("of %d bytes is shown as %s, never more than there is", (bytes, text) =>
    expect(formatBytes(bytes)).toBe(text),
  );
});

describe("a time", () => {
  test.each([
    ["30", 30_000],
    ["0.5", 500],
    ["30s", 30_000],
    ["500ms", 500],
    ["0", 0],
    ["2147483", 2_147_483_000],
  ])("%s is %d ms", (text, milliseconds) => expect(parseDuration(text)).toBe(milliseconds));

  test.each(["", "-1", "5m", ".5", "1e3", "s", "5 s", "99999999999999999"])("is not %j", (text) =>
    expect(() => parseDuration(text)).toThrowError(usage),
  );

  test.each(["2147484", "3000000", "2147483.5s", "2147483648ms", "9999999999"])(
    "of %s is more than a timer takes, and refused",
    (text) => {
      const message = expect.stringContaining("at most 2147483 seconds") as string;
      const refusal = expect.objectContaining({ code: "usage", message }) as Error;
      expect(() => parseDuration(text)).toThrowError(refusal);
    },
  );

  test.each([
    [0, "0s"],
    [45, "45s"],
    [192, "3m 12s"],
    [3600, "1h"],
    [3605, "1h"],
    [7500, "2h 5m"],
    [273_600, "3d 4h"],
  ])("of %d seconds is shown as %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));
});
