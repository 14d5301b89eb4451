/** Each row of the protocol's rules for requests, judged by the one validator. */
import { describe, expect, it } from "vitest";
import { Errno } from "../../src/errors.ts";
import { emptyRequest } from "../../src/nbd/codec.ts";
import { NOTHING_NEGOTIATED } from "../../src/nbd/negotiated.ts";
import { refusalOf, sessionRules } from "../../src/nbd/validate.ts";
import { COMMAND, FAST_ZERO, FUA, NO_HOLE } from "./client.ts";

const MIB = 2 ** 20;
const SIZE = 100 * MIB;
const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES } = COMMAND;
const { OK, EINVAL, ENOSPC, EPERM, EOVERFLOW } = Errno;

function judge(
  command: number,
  { flags = 0, offset = 0, length = 4096, readOnly = false } = {},
): Errno {
  const request = { ...emptyRequest(), command, flags, offset, length };
  const rules = sessionRules({ sizeBytes: SIZE, readOnly }, NOTHING_NEGOTIATED, 0);
  return refusalOf(request, rules)?.errno ?? OK;
}

const NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, n]) => [n, name]));
const name = (command: number) => NAMES.get(command) ?? `command ${command}`;

describe("the request validator", () => {
  const flagBits = Array.from({ length: 16 }, (_, bit) => 1 << bit);
  const allowed = new Map<number, number>([
    [READ, FUA],
    [WRITE, FUA],
    [FLUSH, FUA],
    [TRIM, FUA],
    [CACHE, FUA],
    [WRITE_ZEROES, FUA | NO_HOLE | FAST_ZERO],
  ]);
  for (const [command, flags] of allowed) {
    it.each(flagBits)(`${name(command)} with flag bit value %i`, (flag) => {
      expect(judge(command, { flags: flag })).toBe((flags & flag) !== 0 ? OK : EINVAL);
    });
  }

  it.each([7, 8, 9, 0x77, 0xffff])("command %i is unknown: EINVAL", (command) => {
    expect(judge(command, { length: 0 })).toBe(EINVAL);
  });

  const beyond: [command: number, error: Errno][] = [
    [READ, EINVAL],
    [WRITE, ENOSPC],
    [TRIM, EINVAL],
    [CACHE, EINVAL],
    [WRITE_ZEROES, ENOSPC],
    [FLUSH, OK],
    [DISC, OK],
  ];
  for (const [command, error] of beyond) {
    it.each([
      [SIZE, 1],
      [SIZE - 1, 2],
      [0, SIZE + 1],
      [SIZE + 1, 0],
      [2 ** 53, 4096],
      [2 ** 63, 2 ** 32 - 1],
      [2 ** 64 - 1, 1],
      [2 ** 64 - 4096, 4096],
    ])(`${name(command)} at %i of %i bytes, beyond the end, gets ${error}`, (offset, length) => {
      expect(judge(command, { offset, length })).toBe(error);
    });
    it.each([
      [0, 0],
      [SIZE, 0],
      [SIZE - 1, 1],
      [1, 3],
    ])(`${name(command)} at %i of %i bytes is inside`, (offset, length) => {
      expect(judge(command, { offset, length })).toBe(OK);
    });
  }

  it.each([
    [READ, EOVERFLOW],
    [WRITE, EINVAL],
    [TRIM, OK],
    [CACHE, OK],
    [WRITE_ZEROES, OK],
  ])("command %i longer than 32 MiB gets %i, and exactly 32 MiB is served", (command, error) => {
    expect(judge(command, { length: 32 * MIB + 1 })).toBe(error);
    expect(judge(command, { length: 32 * MIB })).toBe(OK);
  });

  it.each([
    [READ, OK],
    [CACHE, OK],
    [FLUSH, OK],
    [WRITE, EPERM],
    [TRIM, EPERM],
    [WRITE_ZEROES, EPERM],
  ])("command %i on a read-only export gets %i", (command, error) => {
    expect(judge(command, { readOnly: true })).toBe(error);
  });
});
