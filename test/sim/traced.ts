import {
  type OperationKind,
  SimulatedMember,
  type SimulatedMemberOptions,
} from "../../src/member/simulated.ts";
import type { SimulatedDisk } from "../../src/member/simulated-disk.ts";
import { totalLength } from "../../src/member/vectors.ts";

/** One operation as a member saw it. Offsets and lengths are bytes of the member. */
export interface Operation {
  readonly path: string;
  readonly kind: OperationKind;
  readonly offset: number;
  readonly length: number;
  /** What a durable write wrote. */
  readonly bytes: Uint8Array | null;
  /** In the order of all operations of the trace: when it was issued, when it ended. */
  readonly issued: number;
  ended: number;
  failed: boolean;
}

/** Everything that members of one machine were asked, in order. */
export class Trace {
  operations: Operation[] = [];
  private time = 0;

  clear(): void {
    this.operations = [];
  }

  begin(
    path: string,
    kind: OperationKind,
    offset: number,
    length: number,
    bytes: Uint8Array | null = null,
  ): Operation {
    const range = { offset, length, bytes: bytes === null ? null : Uint8Array.from(bytes) };
    const issued = ++this.time;
    const operation = { path, kind, ...range, issued, ended: Infinity, failed: false };
    this.operations.push(operation);
    return operation;
  }

  end(operation: Operation, failed: boolean): void {
    operation.ended = ++this.time;
    operation.failed = failed;
  }
}

/** A simulated member that writes down what it is asked. */
export class TracedMember extends SimulatedMember {
  private readonly trace: Trace;

  constructor(disk: SimulatedDisk, options: SimulatedMemberOptions, trace: Trace) {
    super(disk, options);
    this.trace = trace;
  }

  override tryRead(into: Uint8Array, offset: number): boolean {
    return this.now("read", offset, into.length, super.tryRead(into, offset));
  }

  override read(into: Uint8Array, offset: number): Promise<void> {
    return this.later("read", offset, into.length, () => super.read(into, offset));
  }

  override tryReadv(into: readonly Uint8Array[], offset: number): boolean {
    return this.now("read", offset, totalLength(into), super.tryReadv(into, offset));
  }

  override readv(into: readonly Uint8Array[], offset: number): Promise<void> {
    return this.later("read", offset, totalLength(into), () => super.readv(into, offset));
  }

  override tryWrite(from: Uint8Array, offset: number): boolean {
    return this.now("write", offset, from.length, super.tryWrite(from, offset));
  }

  override write(from: Uint8Array, offset: number): Promise<void> {
    return this.later("write", offset, from.length, () => super.write(from, offset));
  }

  override tryWritev(from: readonly Uint8Array[], offset: number): boolean {
    return this.now("write", offset, totalLength(from), super.tryWritev(from, offset));
  }

  override writev(from: readonly Uint8Array[], offset: number): Promise<void> {
    return this.later("write", offset, totalLength(from), () => super.writev(from, offset));
  }

  override writeDurable(from: Uint8Array, offset: number): Promise<void> {
    const work = (): Promise<void> => super.writeDurable(from, offset);
    return this.later("writeDurable", offset, from.length, work, from);
  }

  override sync(): Promise<void> {
    return this.later("sync", 0, 0, () => super.sync());
  }

  override punch(offset: number, length: number): Promise<void> {
    return this.later("punch", offset, length, () => super.punch(offset, length));
  }

  override zero(offset: number, length: number): Promise<void> {
    return this.later("zero", offset, length, () => super.zero(offset, length));
  }

  private now(kind: OperationKind, offset: number, length: number, done: boolean): boolean {
    if (done) this.trace.end(this.trace.begin(this.path, kind, offset, length), false);
    return done;
  }

  private async later(
    kind: OperationKind,
    offset: number,
    length: number,
    work: () => Promise<void>,
    bytes: Uint8Array | null = null,
  ): Promise<void> {
    const operation = this.trace.begin(this.path, kind, offset, length, bytes);
    try {
      await work();
      this.trace.end(operation, false);
    } catch (error) {
      this.trace.end(operation, true);
      throw error;
    }
  }
}
