import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packBits, STATE_FORMATS, unpackBits } from "../../src/bitmap/on-disk.ts";
import { State, STATE_COUNT } from "../../src/bitmap/transitions.ts";
import { holds } from "../metadata/properties.ts";

const states = fc.uint8Array({ max: STATE_COUNT - 1, maxLength: 1100 });
const { Unwritten, Clean, Dirty, NeedSync, Syncing } = State;

describe("states as bits", () => {
  it("are set from Dirty on, the least significant first, and zero behind the last region", () => {
    const packed = packBits(
      Uint8Array.of(Dirty, Clean, NeedSync, Unwritten, Clean, Clean, Clean, Syncing, Clean, Dirty),
    );
    expect([...packed]).toEqual([0b1000_0101, 0b10]);
  });

  it("come back as Dirty and Clean, as many as there are regions", () => {
    expect([...unpackBits(Uint8Array.of(0b101, 0xff), 9)]).toEqual([
      ...[Dirty, Clean, Dirty, Clean, Clean, Clean, Clean, Clean],
      ...[Dirty],
    ]);
  });

  it("keep, of any states, which regions may differ", () => {
    holds(
      fc.property(states, (given) => {
        const packed = packBits(given);
        expect(packed).toHaveLength(Math.ceil(given.length / 8));
        const back = unpackBits(packed, given.length);
        expect([...back]).toEqual([...given].map((state) => (state >= Dirty ? Dirty : Clean)));
        expect([...packBits(back)]).toEqual([...packed]);
      }),
    );
  });

  it("of consecutive blocks are the bytes of the blocks, one behind the other", () => {
    const three = fc.uint8Array({ max: STATE_COUNT - 1, minLength: 1536, maxLength: 1536 });
    holds(
      fc.property(three, (whole) => {
        const blocks = [0, 512, 1024].map((first) => packBits(whole.subarray(first, first + 512)));
        expect([...packBits(whole)]).toEqual(blocks.flatMap((bytes) => [...bytes]));
      }),
    );
  });
});

describe("states as bytes", () => {
  it("are on disk what they are in memory", () => {
    holds(
      fc.property(states, (given) => {
        const { pack, unpack } = STATE_FORMATS.lockless;
        expect([...unpack(pack(given), given.length)]).toEqual([...given]);
      }),
    );
  });
});
