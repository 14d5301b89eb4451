/**
 * Messages of random lengths arrive in random portions while random slabs stay referenced: every
 * message is seen whole, in one place, unchanged, and stays so while it is referenced.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ReceiveBuffer } from "../../src/nbd/receive-buffer.ts";
import { SlabAccount, SlabPool, type Slab } from "../../src/nbd/slab.ts";

const KIB = 1024;

function messageOf(index: number, length: number): Buffer {
  return Buffer.alloc(length, (index % 255) + 1);
}

interface Held {
  slab: Slab;
  start: number;
  message: Buffer;
}

describe("the receive buffer", () => {
  it("hands out whole messages in place, however they arrive and whatever is still in use", () => {
    const length = fc.oneof(
      fc.integer({ min: 1, max: 200 }),
      fc.nat(300 * KIB).map((n) => n + 1),
    );
    const messages = fc.array(fc.record({ length, hold: fc.boolean() }), { maxLength: 40 });
    const portions = fc.array(fc.integer({ min: 1, max: 150 * KIB }), { minLength: 1 });
    fc.assert(
      fc.property(messages, portions, (messages, portions) => {
        const account = new SlabAccount(new SlabPool());
        const input = new ReceiveBuffer(account, 64 * KIB);
        const stream = Buffer.concat(messages.map((m, i) => messageOf(i, m.length)));
        const held: Held[] = [];
        let sent = 0;
        let reads = 0;
        let seen = 0;
        while (seen < messages.length) {
          const { length, hold } = messages[seen]!;
          if (input.availableBytes >= length) {
            const message = messageOf(seen++, length);
            const start = input.head;
            expect(input.slab.bytes.compare(message, 0, length, start, start + length)).toBe(0);
            if (hold) {
              input.slab.references++;
              held.push({ slab: input.slab, start, message });
            }
            input.skip(length);
            continue;
          }
          input.want(length);
          const landing = input.landing();
          const portion = stream.subarray(sent, sent + portions[reads++ % portions.length]!);
          const landed = Math.min(portion.length, landing.length);
          expect(landed).toBeGreaterThan(0);
          landing.set(portion.subarray(0, landed));
          input.received(landed);
          sent += landed;
        }
        for (const { slab, start, message } of held) {
          const end = start + message.length;
          expect(slab.bytes.compare(message, 0, message.length, start, end)).toBe(0);
          account.release(slab);
        }
        input.release();
        expect(account.heldBytes).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it("starts again at the front when all was consumed and nothing is in use", () => {
    const input = new ReceiveBuffer(new SlabAccount(new SlabPool()), 64 * KIB);
    const first = input.landing();
    input.received(1000);
    input.skip(1000);
    const second = input.landing();
    expect(second.byteOffset).toBe(first.byteOffset);
    expect(second.buffer).toBe(first.buffer);
  });

  it("ends the read of a large message with the message", () => {
    const input = new ReceiveBuffer(new SlabAccount(new SlabPool()), 64 * KIB);
    input.landing();
    input.received(100);
    input.want(2 ** 20);
    expect(input.landing().length).toBe(2 ** 20 - 100);
  });

  it("drops what is skipped without keeping it, also what is still to come", () => {
    const account = new SlabAccount(new SlabPool());
    const input = new ReceiveBuffer(account, 64 * KIB);
    input.landing();
    input.received(10);
    input.skip(5 * 2 ** 20);
    let rest = 5 * 2 ** 20 - 10;
    while (rest > 0) {
      const bytes = Math.min(rest, input.landing().length);
      input.received(bytes);
      rest -= bytes;
    }
    expect(input.availableBytes).toBe(0);
    expect(account.heldBytes).toBeLessThan(100 * KIB);
    const landing = input.landing();
    landing.set([42]);
    input.received(1);
    expect(input.slab.bytes[input.head]).toBe(42);
  });
});
