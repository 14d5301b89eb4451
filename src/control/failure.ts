import { NbdRaidError, type ErrorCode } from "../errors.ts";
import { MemberError } from "../member/member.ts";
import type { ErrorDocument } from "./api.ts";

/** Anything thrown, as an operating error; null if it is none but a bug in the program. */
export function operatingError(thrown: unknown): NbdRaidError | null {
  if (thrown instanceof NbdRaidError) return thrown;
  if (thrown instanceof MemberError || (thrown instanceof Error && "syscall" in thrown))
    return new NbdRaidError("io-error", thrown.message, { cause: thrown });
  return null;
}

export function errorDocument({ code, message, remedy }: NbdRaidError): ErrorDocument {
  return { code, message, remedy };
}

const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  usage: 400,
  "unknown-array": 404,
  "unknown-member": 404,
  internal: 500,
  "shutting-down": 503,
};

/** 409 for what the array's state forbids, which is most of the catalogue. */
export function httpStatus(code: ErrorCode): number {
  return HTTP_STATUS[code] ?? 409;
}
