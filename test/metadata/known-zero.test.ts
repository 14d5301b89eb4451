import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type KnownZeroRecord,
  knownZeroRecordValid,
  NO_UPDATE,
  readKnownZeroRecord,
  type UpdateStamp,
  writeKnownZeroRecord,
} from "../../src/metadata/known-zero.ts";
import { holds } from "./properties.ts";
import { knownZeroRecord } from "./samples.ts";

const OLDER: UpdateStamp = { events: 41, utime: { seconds: 0x11121314, microseconds: 0x21 } };
const NEWEST: UpdateStamp = { events: 42, utime: { seconds: 0x31323334, microseconds: 0x41 } };
const RECORD: KnownZeroRecord = { newest: NEWEST, older: OLDER };

function written(record: KnownZeroRecord): Uint8Array {
  const bytes = new Uint8Array(1024);
  writeKnownZeroRecord(bytes, record);
  return bytes;
}

describe("known-zero record: bytes", () => {
  it("lie at 192: magic, the newest pair, the one before it, crc", () => {
    const expected = Buffer.alloc(1024);
    expected.write("nbdraid1", 192);
    expected.write("2a000000000000003433323100410000", 200, "hex");
    expected.write("29000000000000001413121100210000", 216, "hex");
    expected.writeUInt32LE(crcBitByBit(expected.subarray(192, 232)), 232);
    expect(Buffer.from(written(RECORD)).toString("hex")).toBe(expected.toString("hex"));
  });

  it("read back as what was written", () => {
    holds(
      fc.property(knownZeroRecord, (record) => {
        expect(readKnownZeroRecord(written(record))).toEqual(record);
      }),
    );
  });

  it("are no record when they are zeroes", () => {
    expect(readKnownZeroRecord(new Uint8Array(256))).toBeNull();
  });

  it("are no record when any single bit has turned", () => {
    const bytes = written(RECORD);
    for (let bit = 192 * 8; bit < 236 * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(readKnownZeroRecord(bytes), `bit ${bit}`).toBeNull();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(readKnownZeroRecord(bytes)).toEqual(RECORD);
  });

  it("are no record when the crc is right and a number is not exact", () => {
    const bytes = Buffer.from(written(RECORD));
    bytes.fill(0xff, 200, 208);
    bytes.writeUInt32LE(crcBitByBit(bytes.subarray(192, 232)), 232);
    expect(readKnownZeroRecord(bytes)).toBeNull();
  });
});

describe("known-zero record: when it holds", () => {
  const valid = (record: KnownZeroRecord, { events, utime }: UpdateStamp) =>
    knownZeroRecordValid(record, events, utime);

  it("holds for superblocks of its own update", () => {
    expect(valid(RECORD, NEWEST)).toBe(true);
  });

  it("holds for superblocks one update behind, that of the older pair", () => {
    expect(valid(RECORD, OLDER)).toBe(true);
    expect(valid({ newest: { ...NEWEST, events: 43 }, older: OLDER }, OLDER)).toBe(true);
  });

  it("is void when the older pair is not older", () => {
    expect(
      valid({ newest: NEWEST, older: { ...OLDER, events: 42 } }, { ...OLDER, events: 42 }),
    ).toBe(false);
  });

  it.each<[string, UpdateStamp]>([
    ["superblocks ahead of it", { ...NEWEST, events: 43 }],
    ["superblocks two updates behind", { ...OLDER, events: 40 }],
    ["its events with the older time", { ...NEWEST, utime: OLDER.utime }],
    ["the older events with its time", { ...OLDER, utime: NEWEST.utime }],
    ["its events, seconds alone equal", { ...NEWEST, utime: { ...NEWEST.utime, microseconds: 1 } }],
    ["its events, microseconds alone equal", { ...NEWEST, utime: { ...NEWEST.utime, seconds: 1 } }],
  ])("is void for %s", (_, superblocks) => {
    expect(valid(RECORD, superblocks)).toBe(false);
  });

  it("is void for a time in whole seconds: md wrote it", () => {
    const whole = { events: 42, utime: { seconds: 0x31323334, microseconds: 0 } };
    expect(valid({ newest: whole, older: OLDER }, whole)).toBe(false);
  });

  it("is void for a new array of md's, at events 0, beside a first record", () => {
    expect(valid({ newest: NEWEST, older: NO_UPDATE }, NO_UPDATE)).toBe(false);
  });
});

/** CRC-32 (IEEE 802.3) by its definition. */
function crcBitByBit(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
