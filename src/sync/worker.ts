import { parentPort, workerData } from "node:worker_threads";
import { Regions } from "../bitmap/regions.ts";
import { assert } from "../errors.ts";
import { prefetchNow, readvFully, writevFully } from "../member/blocking.ts";
import { MemberError } from "../member/member.ts";
import { totalLength } from "../member/vectors.ts";
import { copierOf } from "../raid/copiers.ts";
import { SyncControl } from "./control.ts";
import {
  type MemberIo,
  type SyncCommand,
  type SyncFailure,
  type SyncReply,
  syncRun,
  WINDOW_BYTES_MAX,
} from "./engine.ts";
import type { WorkerMember, WorkerMessage, WorkerOrder } from "./worker-driver.ts";

/**
 * The sync thread: runs one sync with plain synchronous calls over the members' descriptors, and
 * ends. The array's thread owns the descriptors and closes them only after this thread is gone.
 */
const order = workerData as WorkerOrder;
const port = parentPort;
assert(port !== null, "the sync worker runs as a worker thread");
const control = new SyncControl(order.control);
const regions = Regions.attach(order.regions);
const say = (message: WorkerMessage): void => port.postMessage(message);

function perform(command: SyncCommand): SyncReply {
  switch (command.op) {
    case "admit":
      regions.admitBlocking();
      return [];
    case "drain":
      regions.drainBlocking(command.first, command.end);
      return [];
    case "io":
      if (command.ahead) command.all.forEach(readAhead);
      return command.all.map(transfer);
    case "report": {
      const before = control.answers;
      say({ type: "failure", slot: command.slot, failure: command.failure });
      control.awaitAnswerBlocking(before);
      return [];
    }
    case "pause":
      control.sleepBlocking(command.ms);
      return [];
  }
}

/** While one member is read the others have time to fetch what is needed next. */
function readAhead({ kind, slot, offset, buffers }: MemberIo): void {
  if (kind !== "read") return;
  const { descriptor, dataOffset } = memberOf(slot);
  const length = totalLength(buffers);
  prefetchNow(descriptor, dataOffset + offset + length, length);
}

function transfer({ kind, slot, offset, buffers }: MemberIo): SyncFailure | null {
  const { descriptor, path, dataOffset } = memberOf(slot);
  try {
    const act = kind === "read" ? readvFully : writevFully;
    act(descriptor, path, buffers, dataOffset + offset);
    return null;
  } catch (error) {
    if (!(error instanceof MemberError)) throw error;
    return { kind, noSpace: error.noSpace, message: error.message };
  }
}

function memberOf(slot: number): WorkerMember {
  const member = order.members[slot];
  assert(member != null, "a slot with a sync role has a member");
  return member;
}

const steps = syncRun({
  ...order.job,
  regions,
  control,
  copy: copierOf(order.shape, WINDOW_BYTES_MAX),
  now: () => performance.now(),
});
let step = steps.next();
while (step.done !== true) step = steps.next(perform(step.value));
say({ type: "end", outcome: step.value });
