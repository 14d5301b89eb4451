import type { Logger } from "pino";
import type { Regions } from "../bitmap/regions.ts";
import type { Mirror, UnreadBlock } from "../raid/mirror.ts";
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
  readonly mirror: Mirror<Device>;
  readonly writes: WritePath;
  readonly logger: Logger;
}

/** Reads: from one member, from the pinned one where members may differ; errors are repaired. */
export class ReadPath {
  /** Reads taken so far. */
  requests = 0;
  private readonly parts: ReadPathParts;
  private readonly repairs = new Set<Promise<void>>();

  constructor(parts: ReadPathParts) {
    this.parts = parts;
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    const { regions, metadata, mirror, writes } = this.parts;
    if (writes.isStopping) return false;
    this.requests++;
    const first = regions.at(offset);
    const last = regions.at(offset + into.length - 1);
    if (metadata.knownZero && regions.everyUnwritten(first, last)) {
      into.fill(0);
      return true;
    }
    return mirror.tryRead(into, offset, regions.anyPinned(first, last));
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    const { regions, mirror, writes } = this.parts;
    writes.refuseIfStopping();
    const last = regions.at(offset + into.length - 1);
    const pinned = regions.anyPinned(regions.at(offset), last);
    let unread: readonly UnreadBlock<Device>[];
    try {
      unread = await mirror.read(into, offset, pinned);
    } catch (error) {
      throw clientError(error);
    }
    if (unread.length > 0) this.repairLater(unread);
  }

  async prefetch(offset: number, length: number): Promise<void> {
    const { mirror, writes } = this.parts;
    if (!writes.isStopping) await mirror.prefetch(offset, length);
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
    const { writes, mirror } = this.parts;
    for (const { leg, offset, length } of unread) {
      await writes.change(offset, length, false, () => mirror.repair(leg, offset, length));
    }
  }
}
