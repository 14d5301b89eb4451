import type { StripeWrites } from "../src/raid/level.ts";
import type { Measurement } from "./scenario.ts";

/** What an array of ours is asked for beside its data. */
export interface BenchArray {
  /** Makes the members of the first `count` slots fail. */
  fail(count: number): Promise<void>;
  /** How its stripes were written since it was started. Throws on levels that have none. */
  stripeWrites(): Promise<StripeWrites>;
  /** Replaces a member by a blank one; member bytes read and written a second, in MiB/s. */
  rebuild(): Promise<Measurement>;
}

export interface RunningTarget {
  readonly uri: string;
  readonly socket: string;
  /** Whose CPU time is counted. Null: what is measured is done by another process. */
  readonly pid: number | null;
  readonly images: readonly string[];
  /** Null: somebody else's server. */
  readonly array: BenchArray | null;
  stop(): Promise<void>;
}

/** Something that is measured. */
export interface Target {
  /** As a table's heading. */
  readonly title: string;
  /** Serves `sizeMiB` of new, empty images in a new folder under `folder`. */
  readonly start: (folder: string, sizeMiB: number) => Promise<RunningTarget>;
  /** What becomes of it once it was written all over. */
  readonly whenFull?: (target: RunningTarget) => Promise<void>;
}
