import { assert } from "../errors.ts";
import { MemberError } from "./member.ts";
import type { Member } from "./member.ts";
import { sectorsOf } from "./simulated-disk.ts";
import type { DiskWrite, Random, SimulatedDisk } from "./simulated-disk.ts";
import { gathered, totalLength } from "./vectors.ts";

/** Runs the task some time later, in whatever order it likes: the simulation's only clock. */
export type Schedule = (task: () => void) => void;

export type OperationKind = "read" | "write" | "writeDurable" | "sync" | "punch" | "zero";

/** An operation to fail: the `nth` from now (1: the next), counting all kinds or one. */
export interface Fault {
  readonly nth: number;
  readonly kind?: OperationKind;
  /** The ones after it fail, too. */
  readonly persistent?: boolean;
  readonly code?: "EIO" | "ENOSPC";
}

export interface SimulatedMemberOptions {
  readonly path: string;
  readonly random: Random;
  readonly schedule: Schedule;
  /** Whether `tryRead` and `tryWrite` work at once, or never. */
  readonly inline?: boolean;
  readonly readOnly?: boolean;
}

/**
 * A member over a {@link SimulatedDisk}. Each operation takes effect and completes when the handed-in
 * scheduler says so, so that a seed decides every interleaving. Once the disk has been used up by
 * a cut nothing completes any more.
 */
export class SimulatedMember implements Member {
  readonly path: string;
  readonly identity: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly descriptor = null;
  readonly syncsInline = false;
  readonly punchesFast = true;

  readonly #disk: SimulatedDisk;
  readonly #random: Random;
  readonly #schedule: Schedule;
  readonly #inline: boolean;
  #faults: { fault: Fault; left: number }[] = [];
  #inFlight = 0;
  #closing: Promise<void> | null = null;
  #onIdle: (() => void) | null = null;

  constructor(disk: SimulatedDisk, options: SimulatedMemberOptions) {
    this.path = options.path;
    this.identity = `simulated:${options.path}`;
    this.sizeBytes = disk.sizeBytes;
    this.readOnly = options.readOnly ?? false;
    this.#disk = disk;
    this.#random = options.random;
    this.#schedule = options.schedule;
    this.#inline = options.inline ?? false;
  }

  /** Makes an operation to come fail. */
  failOperation(fault: Fault): void {
    this.#faults.push({ fault, left: fault.nth });
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    return this.#readNow([into], offset);
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.#readLater([into], offset);
  }

  tryReadv(into: readonly Uint8Array[], offset: number): boolean {
    return this.#readNow(into, offset);
  }

  readv(into: readonly Uint8Array[], offset: number): Promise<void> {
    return this.#readLater(into, offset);
  }

  writesInline(_length: number): boolean {
    return this.#inline && !this.readOnly && this.#closing === null;
  }

  tryWrite(from: Uint8Array, offset: number): boolean {
    return this.#writeNow([from], offset);
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#change("write", [from], offset);
  }

  tryWritev(from: readonly Uint8Array[], offset: number): boolean {
    return this.#writeNow(from, offset);
  }

  writev(from: readonly Uint8Array[], offset: number): Promise<void> {
    return this.#change("write", from, offset);
  }

  writeDurable(from: Uint8Array, offset: number): Promise<void> {
    return this.#change("writeDurable", [from], offset, (write, failed) => {
      if (failed) this.#disk.loseVersions(this.#disk.now, this.#random, sectorsOf(write));
      else this.#disk.makeDurable(this.#disk.now, sectorsOf(write));
    });
  }

  sync(): Promise<void> {
    const time = this.#disk.now;
    return this.#perform("sync", {
      takeEffect: () => this.#disk.makeDurable(time),
      fail: () => this.#disk.loseVersions(time, this.#random),
    });
  }

  punch(offset: number, length: number): Promise<void> {
    return this.#change("punch", [new Uint8Array(length)], offset);
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#change("zero", [new Uint8Array(length)], offset);
  }

  prefetch(_offset: number, _length: number): Promise<void> {
    return Promise.resolve();
  }

  nextData(from: number, end: number): Promise<number | null> {
    let found: number | null = null;
    const takeEffect = (): void => {
      found = this.#disk.nextData(from, end);
    };
    return this.#perform("read", { takeEffect }).then(() => found);
  }

  nextHole(from: number, end: number): Promise<number> {
    let found = end;
    const takeEffect = (): void => {
      found = this.#disk.nextHole(from, end);
    };
    return this.#perform("read", { takeEffect }).then(() => found);
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      if (this.#inFlight === 0) resolve();
      else this.#onIdle = resolve;
    });
    return this.#closing;
  }

  #readNow(into: readonly Uint8Array[], offset: number): boolean {
    const pastEnd = offset + totalLength(into) > this.sizeBytes;
    if (!this.#actsInline("read") || pastEnd) return false;
    this.#fill(into, offset);
    return true;
  }

  #readLater(into: readonly Uint8Array[], offset: number): Promise<void> {
    const takeEffect = (): void => this.#fill(into, offset);
    const pastEnd = offset + totalLength(into) > this.sizeBytes;
    return this.#perform("read", { takeEffect }, pastEnd ? new Error("the disk ends here") : null);
  }

  #fill(into: readonly Uint8Array[], offset: number): void {
    let at = offset;
    for (const buffer of into) {
      this.#disk.read(buffer, at);
      at += buffer.length;
    }
  }

  #writeNow(from: readonly Uint8Array[], offset: number): boolean {
    if (!this.#actsInline("write")) return false;
    this.#checkChange(offset, totalLength(from));
    const write = this.#disk.begin(gathered(from), offset);
    this.#disk.takeEffect(write);
    this.#disk.complete(write);
    return true;
  }

  /** A write of any kind. One that fails takes effect on some of its sectors. */
  #change(
    kind: OperationKind,
    from: readonly Uint8Array[],
    offset: number,
    onComplete?: (write: DiskWrite, failed: boolean) => void,
  ): Promise<void> {
    this.#checkChange(offset, totalLength(from));
    if (this.#closing !== null) return this.#refuse(kind);
    const write = this.#disk.begin(gathered(from), offset);
    return this.#perform(kind, {
      takeEffect: () => {
        const unchanged = Buffer.compare(gathered(from), write.bytes) === 0;
        assert(unchanged, "a buffer stays as it is while it is written");
        this.#disk.takeEffect(write);
      },
      fail: () => this.#disk.takeEffect(write, () => this.#random() < 0.5),
      complete: (failed) => {
        this.#disk.complete(write);
        onComplete?.(write, failed);
      },
    });
  }

  #perform(kind: OperationKind, steps: Steps, refusal: Error | null = null): Promise<void> {
    if (this.#closing !== null) return this.#refuse(kind);
    const error = this.#nextFault(kind) ?? refusal;
    this.#inFlight++;
    return new Promise((resolve, reject) => {
      this.#later(() => {
        if (error === null) steps.takeEffect();
        else steps.fail?.();
        this.#later(() => {
          steps.complete?.(error !== null);
          if (error === null) resolve();
          else reject(new MemberError(this.path, kind, error));
          this.#inFlight--;
          if (this.#inFlight === 0) this.#onIdle?.();
        });
      });
    });
  }

  #later(step: () => void): void {
    this.#schedule(() => {
      if (!this.#disk.usedUp) step();
    });
  }

  #refuse(kind: OperationKind): Promise<never> {
    return Promise.reject(new MemberError(this.path, kind, "it is closed"));
  }

  /** A fault that is due is left for the promise form, which reports it. */
  #actsInline(kind: OperationKind): boolean {
    if (!this.#inline || this.#closing !== null || this.#disk.usedUp) return false;
    const due = this.#faults.some(({ fault, left }) => left === 1 && concerns(fault, kind));
    if (!due) this.#nextFault(kind);
    return !due;
  }

  /** Counts one operation; the error it shall fail with, or null. */
  #nextFault(kind: OperationKind): Error | null {
    let error: Error | null = null;
    for (const entry of this.#faults) {
      if (!concerns(entry.fault, kind)) continue;
      entry.left--;
      if (entry.left > 0) continue;
      const code = entry.fault.code ?? "EIO";
      error = Object.assign(new Error(`${code}: simulated`), { code });
      if (entry.fault.persistent === true) entry.left = 1;
    }
    this.#faults = this.#faults.filter(({ left }) => left > 0);
    return error;
  }

  #checkChange(offset: number, length: number): void {
    assert(!this.readOnly, "a read-only member is not written");
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a write lies inside the member");
  }
}

/** What an operation does when the scheduler lets it, and when it is answered. */
interface Steps {
  readonly takeEffect: () => void;
  /** In place of `takeEffect`, if it fails. */
  readonly fail?: () => void;
  readonly complete?: (failed: boolean) => void;
}

function concerns(fault: Fault, kind: OperationKind): boolean {
  return fault.kind === undefined || fault.kind === kind;
}
