/** TLS from the client's side, by pre-shared keys: they need no other program to make them. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import tls from "node:tls";
import type { Logger } from "pino";
import { TlsEndpoint } from "../../src/nbd/tls.ts";
import { OPTION, RawClient, REPLY } from "./client.ts";
import { SILENT, temporaryFolder } from "./serving.ts";

export const ALICE = { identity: "alice", psk: Buffer.alloc(32, 0xa1) };
export const BOB = { identity: "bob", psk: Buffer.alloc(16, 0xb0) };

export function keyLine({ identity, psk }: typeof ALICE): string {
  return `${identity}:${psk.toString("hex")}\n`;
}

/** A server's side that knows Alice, and the file that says so. */
export function pskEndpoint(logger: Logger = SILENT): { tls: TlsEndpoint; file: string } {
  const file = path.join(temporaryFolder(), "keys.psk");
  writeFileSync(file, keyLine(ALICE), { mode: 0o600 });
  return { tls: new TlsEndpoint({ kind: "psk", path: file }, logger), file };
}

/** The TLS handshake on the client's connection; rejects if it fails. */
export function handshake(
  client: RawClient,
  key: typeof ALICE,
  options: tls.ConnectionOptions = {},
): Promise<RawClient> {
  return new Promise((resolve, reject) => {
    const secured = tls.connect({
      socket: client.socket,
      pskCallback: () => key,
      checkServerIdentity: () => undefined,
      allowHalfOpen: true,
      ...options,
    } as tls.ConnectionOptions);
    secured.once("secureConnect", () => resolve(RawClient.over(secured)));
    secured.once("error", reject);
    secured.once("close", () => reject(new Error("closed")));
  });
}

/** Greets, asks for TLS and gets it; returns the client behind it. */
export async function startTls(
  client: RawClient,
  key = ALICE,
  options: tls.ConnectionOptions = {},
): Promise<RawClient> {
  await client.greet();
  const replies = await client.option(OPTION.STARTTLS);
  if (replies[0]?.type !== REPLY.ACK) throw new Error("no TLS");
  return handshake(client, key, options);
}
