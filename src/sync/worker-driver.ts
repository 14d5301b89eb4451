import { Worker } from "node:worker_threads";
import type { SharedRegions } from "../bitmap/regions.ts";
import { assert } from "../errors.ts";
import type { ArrayShape } from "../raid/geometry/geometry.ts";
import type { SyncControl } from "./control.ts";
import type { SyncFailure, SyncJob, SyncOutcome } from "./engine.ts";

/** What the sync thread is started with. */
export interface WorkerOrder {
  readonly job: SyncJob;
  readonly shape: ArrayShape;
  readonly regions: SharedRegions;
  readonly control: SharedArrayBuffer;
  /** By slot; null: no member there that a sync may use. */
  readonly members: readonly (WorkerMember | null)[];
}

export interface WorkerMember {
  readonly path: string;
  readonly descriptor: number;
  /** Bytes from the start of the member to its data area. */
  readonly dataOffset: number;
}

export type WorkerMessage =
  | { readonly type: "failure"; readonly slot: number; readonly failure: SyncFailure }
  | { readonly type: "end"; readonly outcome: SyncOutcome };

/** Compiled: a worker thread is not transformed when the sources run as they are (tests). */
const WORKER = new URL(
  import.meta.url
    .replace(/\/src\/sync\/[^/]*$/, "/dist/sync/worker.js")
    .replace(/[^/]*$/, "worker.js"),
);

/**
 * Runs a sync in a thread of its own. Resolves when the thread is gone. A thread that dies of
 * anything but the end of its run is a broken invariant: the promise rejects, and the array
 * must not go on (its window may be open for ever).
 */
export async function runInWorker(
  order: WorkerOrder,
  control: SyncControl,
  failed: (slot: number, failure: SyncFailure) => Promise<void>,
): Promise<SyncOutcome> {
  const worker = new Worker(WORKER, { workerData: order, name: "sync" });
  let outcome: SyncOutcome | null = null;
  await new Promise<void>((resolve, reject) => {
    worker.on("message", (message: WorkerMessage) => {
      if (message.type === "end") {
        outcome = message.outcome;
        return;
      }
      failed(message.slot, message.failure).then(() => control.answer(), reject);
    });
    worker.once("error", reject);
    worker.once("exit", () => resolve());
  });
  assert(outcome !== null, "the sync thread ends with its run");
  return outcome;
}
