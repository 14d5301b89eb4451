import type { Logger } from "pino";
import { AllowList } from "../../nbd/access.ts";
import type { Limits } from "../../nbd/limits.ts";
import type { SocketAccess } from "../../nbd/listener.ts";
import type { NbdServerOptions } from "../../nbd/server.ts";
import { TlsEndpoint } from "../../nbd/tls.ts";
import type { TlsSource } from "../../nbd/tls-files.ts";
import { parseUri } from "../../nbd/uri.ts";

/** Who may connect, and what each may take. */
export interface AccessOptions {
  /** Null: no TLS. */
  readonly tls: TlsSource | null;
  readonly tlsRequired: boolean;
  /** Addresses and networks; null: every address. */
  readonly allow: readonly string[] | null;
  readonly socket: SocketAccess;
  /** Names of exports that clients may only read. */
  readonly readOnlyExports: readonly string[];
  /** Where they differ from the defaults. */
  readonly limits: Partial<Limits>;
}

/** Reads keys and certificates. Throws "tls-invalid", or "usage" for an address. */
export function serverAccess(
  { tls, tlsRequired, allow, socket, limits }: AccessOptions,
  logger: Logger,
): Pick<NbdServerOptions, "tls" | "tlsRequired" | "allow" | "socketAccess" | "limits"> {
  return {
    tlsRequired,
    limits,
    socketAccess: socket,
    ...(tls === null ? {} : { tls: new TlsEndpoint(tls, logger) }),
    ...(allow === null ? {} : { allow: new AllowList(allow) }),
  };
}

/** Keys and certificates are read again; those that are no good change nothing. */
export function reloadTls(tls: TlsEndpoint | undefined, logger: Logger): void {
  if (tls === undefined) return logger.info("nothing to read again: there is no TLS");
  try {
    tls.reload();
  } catch (error) {
    logger.error({ err: error }, "TLS: what was read before stays in force");
  }
}

/** Says so if everyone who reaches a listener may write to the arrays. */
export function warnIfOpen(
  uris: readonly string[],
  { allow, tls, tlsRequired }: AccessOptions,
  logger: Logger,
): void {
  const proven = tlsRequired && (tls?.kind === "psk" || tls?.verifyPeer === true);
  if (allow !== null || proven) return;
  for (const uri of uris) {
    if (/^nbds?\+unix:/.test(uri)) continue; // the path of one that was passed may be unknown
    const { address } = parseUri(uri);
    if (address.kind === "tcp" && isLoopback(address.host)) continue;
    logger.warn({ uri }, "whoever reaches this address is let in: see --allow and --tls-psk");
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || new AllowList(["127.0.0.0/8", "::1"]).allows(host);
}
