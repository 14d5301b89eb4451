import { type Member, MemberError } from "../../src/member/member.ts";
import { FALLBACK_BLOCK_BYTES, type Leg } from "../../src/raid/level.ts";

export const BLOCK = FALLBACK_BLOCK_BYTES;
const DATA_OFFSET = 1024 * 1024;
const DATA_BYTES = 64 * BLOCK;

/** A member in memory that logs what it is asked; slot n holds bytes of value n. */
export class FakeLeg implements Leg {
  readonly dataOffset = DATA_OFFSET;
  readonly slot: number;
  writeMostly = false;
  cached = false;
  inline = true;
  syncsInline = false;
  broken = false;
  /** A bad block that is written can be read again. */
  heals = true;
  /** Blocks of the data area that cannot be read. */
  readonly badBlocks = new Set<number>();
  readonly log: string[] = [];
  readonly bytes: Uint8Array;
  /** Awaited by every read. */
  delay: Promise<void> = Promise.resolve();
  readonly member: Member;

  constructor(slot: number) {
    this.slot = slot;
    this.bytes = new Uint8Array(DATA_BYTES).fill(slot);
    const change = (operation: string, at: number, length: number): Promise<void> => {
      this.log.push(`${operation} ${at - DATA_OFFSET}+${length}`);
      if (this.broken) return Promise.reject(this.error(operation));
      return Promise.resolve();
    };
    this.member = {
      path: `member-${slot}`,
      identity: `member-${slot}`,
      sizeBytes: DATA_OFFSET + DATA_BYTES,
      readOnly: false,
      descriptor: null,
      syncsInline: false,
      punchesFast: true,
      tryRead: (into, at) => {
        this.log.push(`tryRead ${at - DATA_OFFSET}`);
        if (this.cached) this.fill(into, at);
        return this.cached;
      },
      read: async (into, at) => {
        this.log.push(`read ${at - DATA_OFFSET}`);
        await this.delay;
        const first = Math.floor((at - DATA_OFFSET) / BLOCK);
        const last = Math.floor((at - DATA_OFFSET + into.length - 1) / BLOCK);
        for (let block = first; block <= last; block++) {
          if (this.badBlocks.has(block)) throw this.error("read");
        }
        this.fill(into, at);
      },
      tryReadv: (into, at) =>
        scattered(into, at, (buffer, from) => this.member.tryRead(buffer, from)).every(Boolean),
      readv: async (into, at) => {
        await Promise.all(scattered(into, at, (buffer, from) => this.member.read(buffer, from)));
      },
      writesInline: () => this.inline,
      tryWrite: (from, at) => {
        this.log.push(`tryWrite ${at - DATA_OFFSET}`);
        if (!this.broken) this.bytes.set(from, at - DATA_OFFSET);
        return !this.broken;
      },
      write: async (from, at) => {
        await change("write", at, from.length);
        this.bytes.set(from, at - DATA_OFFSET);
        if (this.heals) this.badBlocks.delete(Math.floor((at - DATA_OFFSET) / BLOCK));
      },
      tryWritev: (from, at) =>
        scattered(from, at, (buffer, to) => this.member.tryWrite(buffer, to)).every(Boolean),
      writev: async (from, at) => {
        await Promise.all(scattered(from, at, (buffer, to) => this.member.write(buffer, to)));
      },
      writeDurable: (from, at) => change("writeDurable", at, from.length),
      sync: () => change("sync", DATA_OFFSET, 0),
      punch: (at, length) => change("punch", at, length),
      zero: (at, length) => change("zero", at, length),
      prefetch: (at, length) => change("prefetch", at, length),
      nextData: () => Promise.resolve(null),
      nextHole: (from) => Promise.resolve(from),
      close: () => Promise.resolve(),
    };
  }

  private fill(into: Uint8Array, at: number): void {
    into.set(this.bytes.subarray(at - DATA_OFFSET, at - DATA_OFFSET + into.length));
  }

  private error(operation: string): MemberError {
    return new MemberError(this.member.path, operation, new Error("broken"));
  }
}

/** A vector as calls of its buffers. */
function scattered<T>(
  buffers: readonly Uint8Array[],
  at: number,
  call: (buffer: Uint8Array, at: number) => T,
): T[] {
  let next = at;
  return buffers.map((buffer) => {
    const result = call(buffer, next);
    next += buffer.length;
    return result;
  });
}
