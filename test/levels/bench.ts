import type { RaidArray } from "../../src/array/array.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import type { Shape } from "../sim/disks.ts";

/** What runs an array for a test: simulated disks, or files. */
export interface Bench {
  readonly shape: Shape;
  readonly random: Random;
  /** The array that runs. */
  readonly array: RaidArray;
  /** Where its members are that do not run with it, too; changes as spares replace them. */
  readonly paths: readonly string[];
  /** Lets things happen until the promise settles. */
  until<T>(promise: Promise<T>): Promise<T>;
  sleep(ms: number): Promise<void>;
  /** A new member, blank and large enough, in place of one that goes away for good. */
  replace(path: string): string;
  /** Makes one of the member's next reads or changes fail; not where that cannot be done. */
  breakMember?(path: string): void;
  start(paths?: readonly string[], readOnly?: boolean): Promise<RaidArray>;
  stop(): Promise<void>;
  /** The data area of a member of the array that is stopped. */
  image(path: string): Buffer;
}
