/**
 * What TLS has to say about an option before the option's own handler is asked (NBD protocol,
 * "TLS support"). Pure.
 */
import { Option, OptionReply } from "./constants.ts";
import { ACK, refuse, type Answer } from "./option-answer.ts";

/**
 * `off`: no client gets TLS (NOTLS). `optional`: a client that wants it gets it. `required`: one
 * that does not ask for it gets nothing (FORCEDTLS).
 */
export type TlsMode = "off" | "optional" | "required";

export interface TlsState {
  readonly mode: TlsMode;
  /** This client is behind TLS. */
  readonly secured: boolean;
}

const START: Answer = { replies: [ACK], startTls: true };
const NOT_OFFERED = refuse(OptionReply.ERR_POLICY, "this server offers no TLS");
const TWICE = refuse(OptionReply.ERR_INVALID, "TLS is on already");
const HAS_DATA = refuse(OptionReply.ERR_INVALID, "STARTTLS has no data");
const REQUIRED = refuse(OptionReply.ERR_TLS_REQD, "this server requires TLS: send STARTTLS first");
/** EXPORT_NAME knows no error. */
const REQUIRED_SILENTLY: Answer = { replies: [], close: "TLS is required" };

/** The answer to an option that TLS decides, or null: the option's handler is asked. */
export function tlsAnswer(option: number, dataBytes: number, state: TlsState): Answer | null {
  if (option === Option.STARTTLS) return startTls(dataBytes, state);
  if (state.secured || state.mode !== "required" || option === Option.ABORT) return null;
  return option === Option.EXPORT_NAME ? REQUIRED_SILENTLY : REQUIRED;
}

function startTls(dataBytes: number, { mode, secured }: TlsState): Answer {
  if (secured) return TWICE;
  if (mode === "off") return NOT_OFFERED;
  return dataBytes === 0 ? START : HAS_DATA;
}
