import { readSync, writeSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { assert } from "../errors.ts";
import { cachedRead, cachedReadv, UNSUPPORTED } from "../platform/cached-read.ts";
import { willNeed } from "../platform/prefetch.ts";
import { seekData, seekHole } from "../platform/seek.ts";
import { readvFully, writeFully, writevFully } from "./blocking.ts";
import { InlineWrites } from "./inline-writes.ts";
import { MemberError } from "./member.ts";
import type { Member } from "./member.ts";
import { absoluteFile, openFile } from "./open-file.ts";
import type { OpenFile } from "./open-file.ts";
import {
  closeDescriptor,
  readInPool,
  readvInPool,
  syncData,
  writeInPool,
  writevInPool,
} from "./pooled.ts";
import { totalLength } from "./vectors.ts";
import { makeHole, makeZero } from "./zeroes.ts";

/** Longer copies go to the pool even from and to memory: this one takes about 0.15 ms. */
const MEMORY_INLINE_MAX = 1024 * 1024;
/** A hint is not worth more cache than this. */
const PREFETCH_MAX = 64 * 1024 * 1024;
/**
 * The kernel reads no more ahead for one hint than its window for sequential reads or one request
 * to the device, whichever is larger, and drops the rest: this much fits the default of either.
 */
const PREFETCH_PIECE = 128 * 1024;

/**
 * A member that is an image file or a block device. It is locked while open (exclusively, or
 * against writers only if it is read-only), unless it is only looked at.
 */
export class FileMember implements Member {
  readonly path: string;
  readonly identity: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly descriptor: number;
  readonly syncsInline: boolean;
  readonly punchesFast: boolean;

  readonly #file: OpenFile;
  readonly #inlineWrites = new InlineWrites(() => performance.now());
  /** Turns false where the file system has no RWF_NOWAIT. */
  #readsInline = true;
  /** One at a time: they leave the pool to those who wait for their data. */
  #prefetches: Promise<void> = Promise.resolve();
  #inFlight = 0;
  #closing: Promise<void> | null = null;
  #onIdle: (() => void) | null = null;

  private constructor(path: string, readOnly: boolean, file: OpenFile) {
    this.path = path;
    this.readOnly = readOnly;
    this.identity = file.identity;
    this.sizeBytes = file.sizeBytes;
    this.descriptor = file.descriptor;
    this.syncsInline = file.inMemory;
    this.punchesFast = file.punches;
    this.#file = file;
  }

  /** Throws an NbdRaidError: member-unreadable, member-not-file, member-in-use. */
  static async open(path: string, options: { readOnly: boolean }): Promise<FileMember> {
    const absolute = absoluteFile(path);
    const file = await openFile(absolute, options.readOnly);
    return new FileMember(absolute, options.readOnly, file);
  }

  /**
   * Opens it to be looked at, also while another program has it locked: what is read may change
   * from one read to the next. Throws an NbdRaidError: member-unreadable, member-not-file.
   */
  static async openUnlocked(path: string): Promise<FileMember> {
    const absolute = absoluteFile(path);
    return new FileMember(absolute, true, await openFile(absolute, true, true));
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    if (!this.#mayReadNow(into.length)) return false;
    if (this.#file.inMemory) {
      try {
        return readSync(this.descriptor, into, 0, into.length, offset) === into.length;
      } catch {
        return false; // `read` says what is wrong
      }
    }
    const count = cachedRead(this.descriptor, into, offset);
    if (count === UNSUPPORTED) this.#readsInline = false;
    return count === into.length;
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.#run("read", () => readInPool(this.descriptor, into, offset));
  }

  tryReadv(into: readonly Uint8Array[], offset: number): boolean {
    const [first] = into;
    if (into.length === 1 && first !== undefined) return this.tryRead(first, offset);
    const length = totalLength(into);
    if (!this.#mayReadNow(length)) return false;
    if (this.#file.inMemory) {
      return succeeds(() => readvFully(this.descriptor, this.path, into, offset));
    }
    const count = cachedReadv(this.descriptor, into, offset);
    if (count === UNSUPPORTED) this.#readsInline = false;
    return count === length;
  }

  readv(into: readonly Uint8Array[], offset: number): Promise<void> {
    const [first] = into;
    if (into.length === 1 && first !== undefined) return this.read(first, offset);
    return this.#run("read", () => readvInPool(this.descriptor, into, offset));
  }

  #mayReadNow(length: number): boolean {
    return this.#readsInline && this.#closing === null && length <= MEMORY_INLINE_MAX;
  }

  writesInline(length: number): boolean {
    if (this.#closing !== null || this.readOnly) return false;
    return this.#file.inMemory ? length <= MEMORY_INLINE_MAX : this.#inlineWrites.allows(length);
  }

  tryWrite(from: Uint8Array, offset: number): boolean {
    if (this.#closing !== null) return false;
    this.#checkChange(offset, from.length);
    if (this.#file.inMemory) return this.#writeNow(from, offset);
    const startMs = performance.now();
    const written = this.#writeNow(from, offset);
    this.#inlineWrites.tookInline(performance.now() - startMs);
    return written;
  }

  tryWritev(from: readonly Uint8Array[], offset: number): boolean {
    const [first] = from;
    if (from.length === 1 && first !== undefined) return this.tryWrite(first, offset);
    if (this.#closing !== null) return false;
    this.#checkChange(offset, totalLength(from));
    const startMs = performance.now();
    const written = succeeds(() => writevFully(this.descriptor, this.path, from, offset));
    if (!this.#file.inMemory) this.#inlineWrites.tookInline(performance.now() - startMs);
    return written;
  }

  #writeNow(from: Uint8Array, offset: number): boolean {
    try {
      return writeSync(this.descriptor, from, 0, from.length, offset) === from.length;
    } catch {
      return false; // `write` says what is wrong
    }
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    this.#checkChange(offset, from.length);
    return this.#writeLater(() => writeInPool(this.descriptor, from, offset));
  }

  writev(from: readonly Uint8Array[], offset: number): Promise<void> {
    const [first] = from;
    if (from.length === 1 && first !== undefined) return this.write(first, offset);
    this.#checkChange(offset, totalLength(from));
    return this.#writeLater(() => writevInPool(this.descriptor, from, offset));
  }

  #writeLater(work: () => Promise<void>): Promise<void> {
    return this.#run("write", async () => {
      const startMs = performance.now();
      await work();
      this.#inlineWrites.tookInPool(performance.now() - startMs);
    });
  }

  writeDurable(from: Uint8Array, offset: number): Promise<void> {
    this.#checkChange(offset, from.length);
    const fd = this.#file.durableDescriptor;
    assert(fd !== null, "a read-only member is not written");
    return this.#run("durable write", async () => {
      if (this.#file.inMemory) writeFully(fd, this.path, from, offset);
      else await writeInPool(fd, from, offset);
    });
  }

  sync(): Promise<void> {
    return this.#run("sync", async () => {
      if (!this.#file.inMemory) await syncData(this.descriptor);
    });
  }

  punch(offset: number, length: number): Promise<void> {
    this.#checkChange(offset, length);
    return this.#run("punch", () => makeHole(this.descriptor, offset, length));
  }

  zero(offset: number, length: number): Promise<void> {
    this.#checkChange(offset, length);
    return this.#run("zero", () => makeZero(this.descriptor, offset, length));
  }

  prefetch(offset: number, length: number): Promise<void> {
    const end = offset + Math.min(length, PREFETCH_MAX);
    return this.#run("prefetch", () => {
      this.#prefetches = this.#prefetches.then(() => this.#readAhead(offset, end));
      return this.#prefetches;
    });
  }

  /** A close does not wait for the rest of it. */
  async #readAhead(from: number, end: number): Promise<void> {
    if (this.#file.inMemory) return;
    for (let at = from; at < end && this.#closing === null;) {
      const next = Math.min(end, (Math.floor(at / PREFETCH_PIECE) + 1) * PREFETCH_PIECE);
      await willNeed(this.descriptor, at, next - at);
      at = next;
    }
  }

  nextData(from: number, end: number): Promise<number | null> {
    return this.#run("seek", async () => {
      if (from >= end) return null;
      const data = await seekData(this.descriptor, from);
      return data !== null && data < end ? data : null;
    });
  }

  nextHole(from: number, end: number): Promise<number> {
    return this.#run("seek", async () => {
      const hole = await seekHole(this.descriptor, from);
      return hole === null ? end : Math.min(hole, end);
    });
  }

  /** Nobody else may use `descriptor` any more. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    const { descriptor, durableDescriptor, unlock } = this.#file;
    unlock();
    try {
      if (durableDescriptor !== null) await closeDescriptor(durableDescriptor);
    } finally {
      await closeDescriptor(descriptor);
    }
  }

  /** Runs one operation while the descriptors are sure to be ours; names it if it fails. */
  async #run<T>(operation: string, work: () => Promise<T>): Promise<T> {
    if (this.#closing !== null) throw new MemberError(this.path, operation, "it is closed");
    this.#inFlight++;
    try {
      return await work();
    } catch (error) {
      throw error instanceof MemberError ? error : new MemberError(this.path, operation, error);
    } finally {
      this.#inFlight--;
      if (this.#inFlight === 0) this.#onIdle?.();
    }
  }

  /** A write past the end would make the image grow: only a bug asks for it. */
  #checkChange(offset: number, length: number): void {
    assert(!this.readOnly, "a read-only member is not written");
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a write lies inside the member");
  }
}

/** For what the promise form does again, and says what is wrong. */
function succeeds(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
