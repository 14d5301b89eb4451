/** Names as clients send them, and the exports they mean. */
import type { Export } from "./block-device.ts";
import { STRING_BYTES_MAX } from "./constants.ts";

/** Names in error texts are cut, so that texts stay far below the limit of strings. */
const SHOWN_NAME_LENGTH_MAX = 64;

/** A string as it must be on the wire ("Values"), or null. */
export function decodeText(data: Buffer): string | null {
  if (data.length > STRING_BYTES_MAX || data.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

/** The empty name is the default export, which a single one is. */
export function findExport(name: string, exports: readonly Export[]): Export | undefined {
  return exports.find((one) => one.name === name) ?? defaultExport(name, exports);
}

function defaultExport(name: string, exports: readonly Export[]): Export | undefined {
  return name === "" && exports.length === 1 ? exports[0] : undefined;
}

export function unknownExport(name: string): string {
  if (name === "") return "there is no default export: ask for one by name";
  return `there is no export named "${name.slice(0, SHOWN_NAME_LENGTH_MAX)}"`;
}
