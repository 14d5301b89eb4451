import type { BitmapStore } from "../bitmap/marks.ts";
import type { StateFormat } from "../bitmap/on-disk.ts";
import { REGIONS_PER_BLOCK } from "../bitmap/regions.ts";
import { MemberError } from "../member/member.ts";
import type { LegFailure } from "../raid/level.ts";
import { clientError } from "./client-error.ts";
import type { Device, Devices } from "./devices.ts";
import type { Failures } from "./failures.ts";

/** The bitmap on the members: a block counts as durable when every active member holds it. */
export class MemberBitmapStore implements BitmapStore {
  private readonly devices: Devices;
  private readonly failures: Failures;
  private readonly format: StateFormat;
  /** Byte offset of the first region's state on every member. */
  private readonly statesOffset: number;

  constructor(devices: Devices, failures: Failures, format: StateFormat, statesOffset: number) {
    this.devices = devices;
    this.failures = failures;
    this.format = format;
    this.statesOffset = statesOffset;
  }

  /**
   * The first bits of an internal bitmap share a sector with its superblock. Each is written by
   * itself: the page cache, which every member has, puts them together.
   */
  async writeBlocks(first: number, states: Uint8Array): Promise<void> {
    const { regionsPerByte } = this.format;
    const offset = this.statesOffset + (first * REGIONS_PER_BLOCK) / regionsPerByte;
    const bytes = this.format.pack(states);
    const legs = this.devices.writable;
    const results = await Promise.allSettled(
      legs.map((leg) => leg.member.writeDurable(bytes, offset)),
    );
    const failures: LegFailure<Device>[] = [];
    for (const [index, result] of results.entries()) {
      if (result.status === "fulfilled") continue;
      const error: unknown = result.reason;
      if (!(error instanceof MemberError)) throw error;
      if (legs[index]!.state !== "faulty") failures.push({ leg: legs[index]!, error });
    }
    this.failures.syncsFailed(failures.filter(({ error }) => !error.noSpace));
    if (this.failures.failed !== null) throw this.failures.failed;
    const full = failures.find(({ error }) => error.noSpace);
    if (full !== undefined) throw clientError(full.error);
  }
}
