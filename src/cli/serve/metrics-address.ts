import type { MetricsAddress } from "../../control/metrics-server.ts";
import { NbdRaidError } from "../../errors.ts";

const HOST_PORT = /^(\[[\da-fA-F:.]+\]|[^[\]:/@\s]+):(\d{1,5})$/;

/** From HOST:PORT, an IPv6 address in brackets. Throws "usage". */
export function parseMetricsAddress(text: string): MetricsAddress {
  const [, host = "", port = ""] = HOST_PORT.exec(text) ?? [];
  if (host === "" || Number(port) > 65_535)
    throw new NbdRaidError("usage", `metrics are told at HOST:PORT, not at "${text}"`);
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) };
}
