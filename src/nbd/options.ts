/** Option haggling, one handler an option: from its data to the replies. Pure. */
import type { Export } from "./block-device.ts";
import {
  decodeInfoRequest,
  encodeBlockSize,
  encodeExport,
  encodeInfo,
  encodeListEntry,
} from "./codec.ts";
import { Info, Option, OptionReply, STRING_BYTES_MAX } from "./constants.ts";

export interface OptionReplyMessage {
  readonly type: number;
  readonly data: Uint8Array;
}

/** What an option leads to. Without `chosen` or `close`, the client may send another. */
export interface Answer {
  readonly replies: readonly OptionReplyMessage[];
  /** Transmission of this export begins. */
  readonly chosen?: Export;
  /** TLS begins once the replies have left, and what was negotiated before it is forgotten. */
  readonly startTls?: true;
  /** The connection ends, for the reason given. */
  readonly close?: string;
}

/** `data` is null if it was too long to be kept. */
export type OptionHandler = (data: Buffer | null, exports: readonly Export[]) => Answer;

const NOTHING = new Uint8Array(0);
export const ACK: OptionReplyMessage = { type: OptionReply.ACK, data: NOTHING };
/** Names in error texts are cut, so that texts stay far below the limit of strings. */
const SHOWN_NAME_LENGTH_MAX = 64;

export const OPTION_HANDLERS: ReadonlyMap<number, OptionHandler> = new Map<number, OptionHandler>([
  [Option.EXPORT_NAME, exportName],
  [Option.ABORT, () => ({ replies: [ACK], close: "aborted by the client" })],
  [Option.LIST, list],
  [Option.INFO, (data, exports) => ({ replies: describe(data, exports).replies })],
  [Option.GO, describe],
]);

export const UNSUPPORTED: Answer = refuse(OptionReply.ERR_UNSUP, "option not supported");

/** No error can be answered to this option: what is wrong ends the connection. */
function exportName(data: Buffer | null, exports: readonly Export[]): Answer {
  const name = decodeName(data);
  const chosen = name === null ? undefined : findExport(name, exports);
  return chosen === undefined ? { replies: [], close: "unknown export" } : { replies: [], chosen };
}

function list(data: Buffer | null, exports: readonly Export[]): Answer {
  if (data === null || data.length > 0) return refuse(OptionReply.ERR_INVALID, "LIST has no data");
  const entries = exports.map(({ name, description }) => ({
    type: OptionReply.SERVER,
    data: encodeListEntry(name, description),
  }));
  return { replies: [...entries, ACK] };
}

/** INFO and GO: the export's properties, of which NBD_INFO_EXPORT always. */
function describe(data: Buffer | null, exports: readonly Export[]): Answer {
  const asked = data === null ? null : decodeInfoRequest(data);
  if (asked === null) return refuse(OptionReply.ERR_INVALID, "malformed option");
  const name = decodeName(asked.name);
  if (name === null) return refuse(OptionReply.ERR_INVALID, "malformed export name");
  const chosen = findExport(name, exports);
  if (chosen === undefined) return refuse(OptionReply.ERR_UNKNOWN, unknownExport(name));
  const types = [Info.EXPORT, ...new Set(asked.infos.filter((type) => type !== Info.EXPORT))];
  const infos = types.flatMap((type) => {
    const body = INFO_BODIES.get(type)?.(chosen);
    return body === undefined ? [] : [{ type: OptionReply.INFO, data: encodeInfo(type, body) }];
  });
  return { replies: [...infos, ACK], chosen };
}

const INFO_BODIES: ReadonlyMap<number, (chosen: Export) => Buffer> = new Map([
  [Info.EXPORT, (chosen: Export) => encodeExport(chosen.device)],
  [Info.NAME, (chosen: Export) => Buffer.from(chosen.name)],
  [Info.DESCRIPTION, (chosen: Export) => Buffer.from(chosen.description)],
  [Info.BLOCK_SIZE, encodeBlockSize],
]);

/** A name as strings must be on the wire ("Values"), or null. */
function decodeName(data: Buffer | null): string | null {
  if (data === null || data.length > STRING_BYTES_MAX || data.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

/** The empty name is the default export, which a single one is. */
function findExport(name: string, exports: readonly Export[]): Export | undefined {
  return exports.find((one) => one.name === name) ?? defaultExport(name, exports);
}

function defaultExport(name: string, exports: readonly Export[]): Export | undefined {
  return name === "" && exports.length === 1 ? exports[0] : undefined;
}

function unknownExport(name: string): string {
  if (name === "") return "there is no default export: ask for one by name";
  return `there is no export named "${name.slice(0, SHOWN_NAME_LENGTH_MAX)}"`;
}

export function refuse(type: number, text: string): Answer {
  return { replies: [{ type, data: Buffer.from(text) }] };
}
