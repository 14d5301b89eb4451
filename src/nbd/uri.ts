/**
 * NBD URIs (the NBD project's doc/uri.md): nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH,
 * and the same with nbds for TLS.
 */
import path from "node:path";
import { NbdRaidError } from "../errors.ts";
import { DEFAULT_PORT } from "./constants.ts";

export type Address =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

export interface NbdUri {
  readonly address: Address;
  /** Empty: the default export. */
  readonly exportName: string;
  /** The scheme says that TLS is required. */
  readonly tls: boolean;
}

/** Throws "address-invalid". A relative socket path is taken from the working directory. */
export function parseUri(text: string): NbdUri {
  const url = URL.canParse(text) ? new URL(text) : null;
  const scheme = SCHEMES.get(url?.protocol ?? "");
  const address = url === null ? null : (scheme?.parse(url) ?? null);
  const exportName = url === null ? null : decode(url.pathname.replace(/^\//, ""));
  if (scheme === undefined || address === null || exportName === null) {
    throw new NbdRaidError("address-invalid", `not an address: ${text}`);
  }
  return { address, exportName, tls: scheme.tls };
}

export function formatUri(address: Address, exportName = "", tls = false): string {
  const name = encodeURIComponent(exportName);
  const scheme = tls ? "nbds" : "nbd";
  if (address.kind === "unix") {
    return `${scheme}+unix:///${name}?socket=${address.path.split("/").map(encodeURIComponent).join("/")}`;
  }
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${scheme}://${host}:${address.port}${name === "" ? "" : `/${name}`}`;
}

interface Scheme {
  readonly parse: (url: URL) => Address | null;
  readonly tls: boolean;
}

const SCHEMES: ReadonlyMap<string, Scheme> = new Map([
  ["nbd:", { parse: parseTcp, tls: false }],
  ["nbds:", { parse: parseTcp, tls: true }],
  ["nbd+unix:", { parse: parseUnix, tls: false }],
  ["nbds+unix:", { parse: parseUnix, tls: true }],
]);

function parseTcp({ hostname, port, search }: URL): Address | null {
  if (hostname === "" || search !== "") return null;
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return { kind: "tcp", host, port: port === "" ? DEFAULT_PORT : Number(port) };
}

/** The query is taken apart by hand: in a form's encoding "+" would mean a space. */
function parseUnix({ host, search }: URL): Address | null {
  const value = /^\?socket=([^&]+)$/.exec(search)?.[1];
  const decoded = value === undefined ? null : decode(value);
  if (host !== "" || decoded === null || decoded.includes("\0")) return null;
  return { kind: "unix", path: path.resolve(decoded) };
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
