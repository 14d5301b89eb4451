import { NbdRaidError } from "../errors.ts";
import type { ArrayControl } from "../array/status.ts";
import type { Connection, ExportTotals, StatusDocument } from "./api.ts";

/** What a server tells of. */
export interface Reported {
  readonly arrays: readonly ArrayControl[];
  readonly exports: () => ExportTotals[];
  readonly connections: () => Connection[];
}

/** Of all arrays, or of the one so named and who is connected to it. */
export function statusDocument(
  { arrays, exports, connections }: Reported,
  name?: string,
): StatusDocument {
  const shown = name === undefined ? arrays : [findArray(arrays, name)];
  const isShown = (other: string): boolean => name === undefined || other === name;
  return {
    version: 1,
    arrays: shown.map((array) => array.status()),
    exports: exports().filter((totals) => isShown(totals.name)),
    connections: connections().filter((connection) => isShown(connection.export)),
  };
}

/** Throws "unknown-array". */
export function findArray(arrays: readonly ArrayControl[], name: string): ArrayControl {
  const array = arrays.find((candidate) => candidate.name === name);
  if (array === undefined) throw new NbdRaidError("unknown-array", `no array named "${name}"`);
  return array;
}
