import type { Logger } from "pino";
import type { Regions } from "../bitmap/regions.ts";
import type { AnyGeometry } from "../raid/geometry/geometry.ts";
import type { Level, UnreadBlock } from "../raid/level.ts";
import { clientError } from "./client-error.ts";
import type { Device } from "./devices.ts";
import type { Failures } from "./failures.ts";
import type { MetadataWriter } from "./metadata-writer.ts";
import type { WritePath } from "./write-path.ts";

export interface ReadPathParts {
  /** The array's. */
  readonly name: string;
  readonly readOnly: boolean;
  readonly regions: Regions;
  readonly metadata: MetadataWriter;
  readonly failures: Failures;
  readonly geometry: AnyGeometry;
  readonly level: Level<Device>;
  readonly writes: WritePath;
  readonly logger: Logger;
}

/** Reads: from members in sync, from the pinned ones where they may differ; errors are repaired. */
export class ReadPath {
  /** Reads taken so far. */
  requests = 0;
  private readonly parts: ReadPathParts;
  private readonly repairs = new Set<Promise<void>>();

  constructor(parts: ReadPathParts) {
    this.parts = parts;
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    const { regions, geometry, metadata, level, writes } = this.parts;
    if (writes.isStopping) return false;
    this.requests++;
    const first = regions.at(geometry.trackedStart(offset, into.length));
    const last = regions.at(geometry.trackedEnd(offset, into.length) - 1);
    if (metadata.knownZero && regions.everyUnwritten(first, last)) {
      into.fill(0);
      return true;
    }
    return level.tryRead(into, offset, regions.anyPinned(first, last));
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    const { regions, geometry, level, writes } = this.parts;
    writes.refuseIfStopping();
    const first = regions.at(geometry.trackedStart(offset, into.length));
    const last = regions.at(geometry.trackedEnd(offset, into.length) - 1);
    const pinned = regions.anyPinned(first, last);
    let unread: readonly UnreadBlock<Device>[];
    try {
      unread = await level.read(into, offset, pinned);
    } catch (error) {
      throw clientError(error);
    }
    if (unread.length > 0) this.repairLater(unread);
  }

  async prefetch(offset: number, length: number): Promise<void> {
    const { level, writes } = this.parts;
    if (!writes.isStopping) await level.prefetch(offset, length);
  }

  /** Resolves when the repairs under way have ended. */
  async stop(): Promise<void> {
    await Promise.all(this.repairs);
  }

  private repairLater(unread: readonly UnreadBlock<Device>[]): void {
    const { failures, readOnly, logger, name } = this.parts;
    for (const { leg, error } of unread) failures.readFailed(leg, error.message);
    if (readOnly) return;
    const repair = this.repair(unread)
      .catch((error: unknown) => {
        logger.warn({ array: name, err: error }, "read repair failed");
      })
      .finally(() => this.repairs.delete(repair));
    this.repairs.add(repair);
  }

  /**
   * Rewrites what a member could not read. Each block is entered like a write, so that no other
   * write and no sync touches it; the good copy is read again under that, and what was written
   * is read back. A member that fails here fails.
   */
  private async repair(unread: readonly UnreadBlock<Device>[]): Promise<void> {
    const { writes, geometry, level } = this.parts;
    for (const { leg, offset, length } of unread) {
      const held = sharedRange(geometry, offset, length);
      await writes.change(held.offset, held.length, false, () => level.repair(leg, offset, length));
    }
  }
}

/** What must not change while a range is made from what else there is: its stripes. */
function sharedRange(geometry: AnyGeometry, offset: number, length: number) {
  if (geometry.kind !== "parity") return { offset, length };
  const { stripeBytes } = geometry;
  const start = Math.floor(offset / stripeBytes) * stripeBytes;
  const end = Math.ceil((offset + length) / stripeBytes) * stripeBytes;
  return { offset: start, length: end - start };
}
