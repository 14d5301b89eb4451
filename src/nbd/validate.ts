/** Every transmission request is judged here, once, before anything is done for it. */
import { Errno } from "../errors.ts";
import type { BlockDevice } from "./block-device.ts";
import type { Request } from "./codec.ts";
import { BlockSize, Command, CommandFlag } from "./constants.ts";

export interface CommandRule {
  readonly name: string;
  /** The flags a client may set. FUA is legal on all, since SEND_FUA is advertised. */
  readonly flags: number;
  readonly writes: boolean;
  /** The error for a range that is not inside the export; null: offset and length mean nothing. */
  readonly beyondEnd: Errno | null;
  readonly lengthMax: number;
  readonly tooLong: Errno;
}

/** What the answers of one session depend on. */
export interface SessionRules {
  /** As the client was told: an export that grows does so for those who come later. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly extended: boolean;
  /** How many metadata contexts are selected. */
  readonly contexts: number;
  /** By command number; absent: not offered. */
  readonly commands: readonly (CommandRule | undefined)[];
}

/** Why a request is not served. The text is for people. */
export interface Refusal {
  readonly errno: Errno;
  readonly text: string;
}

const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN } = CommandFlag;
const { EINVAL, ENOSPC, EOVERFLOW } = Errno;
const ANY_FLAGS = 0xffff;
const PAYLOAD = BlockSize.PAYLOAD_MAX;
/** The payload of BLOCK_STATUS: the length it asks about, and a number for each context. */
export const STATUS_PAYLOAD_BYTES = 8;
export const CONTEXT_ID_BYTES = 4;

function rule(
  name: string,
  flags: number,
  writes: boolean,
  beyondEnd: Errno | null,
  lengthMax = Infinity,
  tooLong: Errno = EINVAL,
): CommandRule {
  return { name, flags, writes, beyondEnd, lengthMax, tooLong };
}

/** The rules for a client of this device ("Request types" and "Error values" of the protocol). */
export function sessionRules(
  { sizeBytes, readOnly }: Pick<BlockDevice, "sizeBytes" | "readOnly">,
  negotiated: { readonly structured: boolean; readonly extended: boolean },
  contexts: number,
): SessionRules {
  const { structured, extended } = negotiated;
  const df = structured || extended ? DF : 0;
  const payload = extended ? PAYLOAD_LEN : 0;
  const status = rule("BLOCK_STATUS", FUA | REQ_ONE | payload, false, EINVAL);
  const commands: (CommandRule | undefined)[] = [];
  commands[Command.READ] = rule("READ", FUA | df, false, EINVAL, PAYLOAD, EOVERFLOW);
  commands[Command.WRITE] = rule("WRITE", FUA | payload, true, ENOSPC, PAYLOAD, EINVAL);
  commands[Command.DISC] = rule("DISC", ANY_FLAGS, false, null);
  commands[Command.FLUSH] = rule("FLUSH", FUA, false, null);
  commands[Command.TRIM] = rule("TRIM", FUA, true, EINVAL);
  commands[Command.CACHE] = rule("CACHE", FUA, false, EINVAL);
  commands[Command.WRITE_ZEROES] = rule("WRITE_ZEROES", FUA | NO_HOLE | FAST_ZERO, true, ENOSPC);
  commands[Command.BLOCK_STATUS] = contexts > 0 ? status : undefined;
  return { sizeBytes, readOnly, extended, contexts, commands };
}

/** Null: the device may be asked. */
export function refusalOf(request: Request, rules: SessionRules): Refusal | null {
  const { command, flags, length } = request;
  const allowed = rules.commands[command];
  if (allowed === undefined) return refusal(EINVAL, unknown(command));
  const strange = flags & ~allowed.flags;
  if (strange !== 0) {
    return refusal(EINVAL, `${allowed.name} with flags 0x${strange.toString(16)} is not offered`);
  }
  if (allowed.writes && rules.readOnly) return refusal(Errno.EPERM, "the export is read-only");
  if (allowed.beyondEnd === null) return null;
  if (rules.extended && (command === Command.WRITE || (flags & PAYLOAD_LEN) !== 0)) {
    const misfit = payloadRefusal(request, rules);
    if (misfit !== null || command === Command.BLOCK_STATUS) return misfit;
  }
  if (command === Command.BLOCK_STATUS) return statusRefusal(request.offset, length, rules);
  // numbers do not wrap around: an offset near 2^64 stays beyond every end
  if (request.offset + length > rules.sizeBytes) {
    return beyond(allowed, request.offset, length, rules);
  }
  if (length <= allowed.lengthMax) return null;
  return refusal(allowed.tooLong, `${allowed.name} takes ${allowed.lengthMax} bytes at most`);
}

/** The same for the range of a BLOCK_STATUS: it may have come as payload. */
export function statusRefusal(offset: number, length: number, rules: SessionRules): Refusal | null {
  const allowed = rules.commands[Command.BLOCK_STATUS];
  if (allowed === undefined) return refusal(EINVAL, unknown(Command.BLOCK_STATUS));
  if (length === 0) return refusal(EINVAL, "BLOCK_STATUS of no bytes");
  if (offset + length > rules.sizeBytes) return beyond(allowed, offset, length, rules);
  return null;
}

/** With extended headers a WRITE has a payload by its flag; that of BLOCK_STATUS names contexts. */
function payloadRefusal({ command, flags, length }: Request, rules: SessionRules): Refusal | null {
  if ((flags & PAYLOAD_LEN) === 0) {
    return refusal(EINVAL, "WRITE without PAYLOAD_LEN, which extended headers ask for");
  }
  if (command !== Command.BLOCK_STATUS) return null;
  const contexts = (length - STATUS_PAYLOAD_BYTES) / CONTEXT_ID_BYTES;
  if (Number.isInteger(contexts) && contexts >= 1 && contexts <= rules.contexts) return null;
  return refusal(EINVAL, `a BLOCK_STATUS payload of ${length} bytes names no contexts`);
}

function unknown(command: number): string {
  return command === Command.BLOCK_STATUS
    ? "BLOCK_STATUS without a metadata context selected for this export"
    : `command ${command} is not offered`;
}

function beyond(
  { name, beyondEnd }: CommandRule,
  offset: number,
  length: number,
  { sizeBytes }: SessionRules,
): Refusal {
  const text = `${name} of ${length} bytes at ${offset} goes beyond the end at ${sizeBytes}`;
  return refusal(beyondEnd ?? EINVAL, text);
}

function refusal(errno: Errno, text: string): Refusal {
  return { errno, text };
}
