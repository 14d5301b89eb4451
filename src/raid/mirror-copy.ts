import { type SyncControl, SyncRole } from "../sync/control.ts";
import type { CopyResult, SyncFailure, SyncSteps } from "../sync/engine.ts";
import { FALLBACK_BLOCK_BYTES } from "./level.ts";

/** Who gave the data of a range. */
interface Reading {
  /** The slot all of it came from, or null: blocks came from several. */
  readonly source: number | null;
  /** Slots that could not be read: reported, and to be written anew. */
  readonly unreadable: readonly number[];
}

/**
 * Level 1: reads the range from the first source (next ones where that one cannot be read) and
 * writes it to the members that are rebuilt; `everywhere`: to all the others too.
 */
export function* copyMirror(
  control: SyncControl,
  buffer: Uint8Array,
  offset: number,
  length: number,
  everywhere: boolean,
): SyncSteps<CopyResult> {
  const data = buffer.subarray(0, length);
  const reading = yield* readFirst(control, data, offset);
  if (reading === null) return "unreadable";
  const others = control.slots(SyncRole.InSync).filter((slot) => slot !== reading.source);
  const repairs = others.filter((slot) => everywhere || reading.unreadable.includes(slot));
  const targets = [...control.slots(SyncRole.Target), ...repairs];
  for (const slot of targets) {
    const failure = yield { op: "write", slot, offset, from: data };
    if (failure === null) {
      control.countWritten(length);
      continue;
    }
    yield { op: "report", slot, failure };
    if (failure.noSpace) return "no-space";
  }
  return hasTargets(control, everywhere) ? "copied" : "no-targets";
}

function hasTargets(control: SyncControl, everywhere: boolean): boolean {
  if (control.slots(SyncRole.Target).length > 0) return true;
  return everywhere && control.slots(SyncRole.InSync).length > 1;
}

/**
 * Fills `data` from the first source that can be read, by blocks if need be. Null if some block
 * can be read nowhere.
 */
function* readFirst(
  control: SyncControl,
  data: Uint8Array,
  offset: number,
): SyncSteps<Reading | null> {
  const [first] = control.slots(SyncRole.InSync);
  if (first === undefined) return null;
  const failure = yield { op: "read", slot: first, offset, into: data };
  if (failure === null) {
    control.countRead(data.length);
    return { source: first, unreadable: [] };
  }
  const failed = new Map<number, SyncFailure>([[first, failure]]);
  for (let at = 0; at < data.length;) {
    const stop = Math.min(
      data.length,
      at + FALLBACK_BLOCK_BYTES - ((offset + at) % FALLBACK_BLOCK_BYTES),
    );
    const block = data.subarray(at, stop);
    let found = false;
    for (const slot of control.slots(SyncRole.InSync)) {
      const reply = yield { op: "read", slot, offset: offset + at, into: block };
      if (reply === null) {
        control.countRead(block.length);
        found = true;
        break;
      }
      failed.set(slot, reply);
    }
    if (!found) return null;
    at = stop;
  }
  for (const [slot, reply] of failed) yield { op: "report", slot, failure: reply };
  return { source: null, unreadable: [...failed.keys()] };
}
