/** Option haggling, one handler an option: from its data to the replies. Pure. */
import type { Export } from "./block-device.ts";
import {
  decodeInfoRequest,
  encodeBlockSize,
  encodeExport,
  encodeInfo,
  encodeListEntry,
} from "./codec.ts";
import { Info, Option, OptionReply } from "./constants.ts";
import { decodeText, findExport, unknownExport } from "./export-names.ts";
import { listMetaContext, setMetaContext } from "./meta-options.ts";
import type { Negotiated } from "./negotiated.ts";
import { ACK, refuse, type Answer, type Haggling } from "./option-answer.ts";

/** `data` is null if it was too long to be kept. */
export type OptionHandler = (data: Buffer | null, haggling: Haggling) => Answer;

export const OPTION_HANDLERS: ReadonlyMap<number, OptionHandler> = new Map<number, OptionHandler>([
  [Option.EXPORT_NAME, exportName],
  [Option.ABORT, () => ({ replies: [ACK], close: "aborted by the client" })],
  [Option.LIST, list],
  [Option.INFO, (data, haggling) => ({ replies: describe(data, haggling).replies })],
  [Option.GO, describe],
  [Option.STRUCTURED_REPLY, structuredReply],
  [Option.LIST_META_CONTEXT, listMetaContext],
  [Option.SET_META_CONTEXT, setMetaContext],
  [Option.EXTENDED_HEADERS, extendedHeaders],
]);

export const UNSUPPORTED: Answer = refuse(OptionReply.ERR_UNSUP, "option not supported");

/** The answer while the server ends: an error, where the option knows one. */
export function shuttingDown(option: number): Answer {
  if (option === Option.ABORT) return { replies: [ACK], close: "aborted by the client" };
  if (option === Option.EXPORT_NAME) return { replies: [], close: "shutting down" };
  return refuse(OptionReply.ERR_SHUTDOWN, "the server is shutting down");
}

/** No error can be answered to this option: what is wrong ends the connection. */
function exportName(data: Buffer | null, { exports, negotiated }: Haggling): Answer {
  if (negotiated.extended) return { replies: [], close: "EXPORT_NAME with extended headers" };
  const name = data === null ? null : decodeText(data);
  const chosen = name === null ? undefined : findExport(name, exports);
  return chosen === undefined ? { replies: [], close: "unknown export" } : { replies: [], chosen };
}

function list(data: Buffer | null, { exports }: Haggling): Answer {
  if (data === null || data.length > 0) return refuse(OptionReply.ERR_INVALID, "LIST has no data");
  const entries = exports.map(({ name, description }) => ({
    type: OptionReply.SERVER,
    data: encodeListEntry(name, description),
  }));
  return { replies: [...entries, ACK] };
}

/** INFO and GO: the export's properties, of which NBD_INFO_EXPORT always. */
function describe(data: Buffer | null, { exports, negotiated }: Haggling): Answer {
  const asked = data === null ? null : decodeInfoRequest(data);
  if (asked === null) return refuse(OptionReply.ERR_INVALID, "malformed option");
  const name = decodeText(asked.name);
  if (name === null) return refuse(OptionReply.ERR_INVALID, "malformed export name");
  const chosen = findExport(name, exports);
  if (chosen === undefined) return refuse(OptionReply.ERR_UNKNOWN, unknownExport(name));
  const types = [Info.EXPORT, ...new Set(asked.infos.filter((type) => type !== Info.EXPORT))];
  const infos = types.flatMap((type) => {
    const body = INFO_BODIES.get(type)?.(chosen, negotiated);
    return body === undefined ? [] : [{ type: OptionReply.INFO, data: encodeInfo(type, body) }];
  });
  return { replies: [...infos, ACK], chosen };
}

const INFO_BODIES: ReadonlyMap<number, (chosen: Export, negotiated: Negotiated) => Buffer> =
  new Map([
    [Info.EXPORT, (chosen: Export, negotiated: Negotiated) => encodeExport(chosen, negotiated)],
    [Info.NAME, (chosen: Export) => Buffer.from(chosen.name)],
    [Info.DESCRIPTION, (chosen: Export) => Buffer.from(chosen.description)],
    [Info.BLOCK_SIZE, encodeBlockSize],
  ]);

function structuredReply(data: Buffer | null, { negotiated }: Haggling): Answer {
  if (data === null || data.length > 0) {
    return refuse(OptionReply.ERR_INVALID, "STRUCTURED_REPLY has no data");
  }
  if (negotiated.extended) {
    return refuse(OptionReply.ERR_EXT_HEADER_REQD, "extended headers are on, and stay on");
  }
  if (negotiated.structured) {
    return refuse(OptionReply.ERR_INVALID, "structured replies are on already");
  }
  return { replies: [ACK], negotiated: { ...negotiated, structured: true } };
}

function extendedHeaders(data: Buffer | null, { negotiated }: Haggling): Answer {
  if (data === null || data.length > 0) {
    return refuse(OptionReply.ERR_INVALID, "EXTENDED_HEADERS has no data");
  }
  if (negotiated.extended) {
    return refuse(OptionReply.ERR_INVALID, "extended headers are on already");
  }
  return { replies: [ACK], negotiated: { ...negotiated, extended: true } };
}
