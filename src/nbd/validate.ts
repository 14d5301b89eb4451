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

const { FUA, NO_HOLE } = CommandFlag;
const { EINVAL, ENOSPC, EOVERFLOW } = Errno;
const ANY = 2 ** 32 - 1;
const PAYLOAD = BlockSize.PAYLOAD_MAX;

function rule(
  name: string,
  flags: number,
  writes: boolean,
  beyondEnd: Errno | null,
  lengthMax: number = ANY,
  tooLong: Errno = EINVAL,
): CommandRule {
  return { name, flags, writes, beyondEnd, lengthMax, tooLong };
}

/** By command number ("Request types" and "Error values" of the protocol). */
export const COMMAND_RULES: readonly (CommandRule | undefined)[] = Object.assign([], {
  [Command.READ]: rule("READ", FUA, false, EINVAL, PAYLOAD, EOVERFLOW),
  [Command.WRITE]: rule("WRITE", FUA, true, ENOSPC, PAYLOAD, EINVAL),
  [Command.DISC]: rule("DISC", ANY, false, null),
  [Command.FLUSH]: rule("FLUSH", FUA, false, null),
  [Command.TRIM]: rule("TRIM", FUA, true, EINVAL),
  [Command.CACHE]: rule("CACHE", FUA, false, EINVAL),
  [Command.WRITE_ZEROES]: rule("WRITE_ZEROES", FUA | NO_HOLE, true, ENOSPC),
});

/** The error the request gets, or OK: then the device may be asked. */
export function validateRequest(
  request: Request,
  device: Pick<BlockDevice, "sizeBytes" | "readOnly">,
): Errno {
  const allowed = COMMAND_RULES[request.command];
  if (allowed === undefined || (request.flags & ~allowed.flags) !== 0) return Errno.EINVAL;
  if (allowed.writes && device.readOnly) return Errno.EPERM;
  if (allowed.beyondEnd === null) return Errno.OK;
  // numbers do not wrap around: an offset near 2^64 stays beyond every end
  if (request.offset + request.length > device.sizeBytes) return allowed.beyondEnd;
  return request.length > allowed.lengthMax ? allowed.tooLong : Errno.OK;
}
