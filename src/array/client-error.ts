import { NbdRaidError } from "../errors.ts";
import { MemberError } from "../member/member.ts";

/** What a client is told of a member's error; any other error is itself. */
export function clientError(error: unknown): unknown {
  if (!(error instanceof MemberError)) return error;
  const code = error.noSpace ? "no-space" : "io-error";
  return new NbdRaidError(code, error.message, { cause: error });
}
