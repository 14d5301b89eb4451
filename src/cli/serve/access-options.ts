import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { Type, type Static, type TObject } from "typebox";
import { NbdRaidError } from "../../errors.ts";
import { pathOption } from "../context.ts";
import { parseDuration, parseSize, SECONDS_MAX } from "../sizes.ts";
import type { AccessOptions } from "./access.ts";
import { parseOwner } from "./owner.ts";

/**
 * Who may connect and what each may take, as the command line and the configuration file say it:
 * under the same names, and times in seconds.
 */
const Count = Type.Integer({ minimum: 1 });
const Seconds = Type.Number({ minimum: 0, maximum: SECONDS_MAX });
/** What TCP_KEEPIDLE takes, in whole seconds (tcp(7)); 0 turns it off. */
const KEEPALIVE_SECONDS_MAX = 32_767;
const Keepalive = Type.Union([
  Type.Number({ minimum: 1, maximum: KEEPALIVE_SECONDS_MAX }),
  Type.Literal(0),
]);
const Path = Type.String({ minLength: 1 });
const MODE = /^0?[0-7]{3}$/;

export const ACCESS_SCHEMA = {
  tlsCertificates: Type.Optional(Path),
  tlsPsk: Type.Optional(Path),
  tlsRequired: Type.Optional(Type.Boolean()),
  tlsVerifyPeer: Type.Optional(Type.Boolean()),
  allow: Type.Optional(Type.Array(Type.String())),
  socketMode: Type.Optional(Type.String({ pattern: MODE.source })),
  socketOwner: Type.Optional(Type.String({ minLength: 1 })),
  readOnlyExports: Type.Optional(Type.Array(Type.String())),
  maxConnections: Type.Optional(Count),
  maxConnectionsPerAddress: Type.Optional(Count),
  maxNegotiating: Type.Optional(Count),
  maxMemory: Type.Optional(Type.String({ pattern: "^[1-9]\\d*[KMGTPkmgtp]?$" })),
  handshakeTimeout: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: SECONDS_MAX })),
  idleTimeout: Type.Optional(Seconds),
  keepalive: Type.Optional(Keepalive),
};

/** What was given, on the command line or in the file; its paths there are relative to the file. */
export type AccessSettings = Static<TObject<typeof ACCESS_SCHEMA>>;

const ACCESS_GROUP = "Access (the project's docs/reference/security.md):";

export function addAccessOptions(command: Command): void {
  const options = [
    pathOption("--tls-certificates <dir>", "TLS by server-cert.pem and server-key.pem in there"),
    pathOption("--tls-psk <file>", "TLS by pre-shared keys: NAME:HEX a line"),
    new Option("--tls-required", "refuse clients without TLS"),
    new Option("--tls-verify-peer", "clients need a certificate signed by ca-cert.pem"),
    repeated("--allow <address>", "let in only this address or network; may be given again"),
    new Option("--socket-mode <mode>", "of Unix sockets; default: 0600").argParser(parseMode),
    new Option("--socket-owner <user[:group]>", "of Unix sockets; default: the server's"),
    repeated("--read-only-exports <name>", "clients may only read it; may be given again"),
    counted("--max-connections <n>", "default: 512"),
    counted("--max-connections-per-address <n>", "of one TCP address; default: 256"),
    counted("--max-negotiating <n>", "that have not chosen an export; default: 256"),
    new Option("--max-memory <size>", "for requests and replies; default: 1G"),
    timed("--handshake-timeout <time>", "from connection to choice of an export; default: 10", 1),
    timed("--idle-timeout <time>", "drop clients that are silent for so long; default: 0, never"),
    new Option(
      "--keepalive <time>",
      "probe silent TCP clients after so long; default: 60; 0: never",
    ).argParser(parseKeepalive),
  ];
  for (const option of options) command.addOption(option.helpGroup(ACCESS_GROUP));
}

function repeated(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string, before: string[] = []) => [
    ...before,
    value,
  ]);
}

function counted(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("It is not a number from 1.");
    return Number(text);
  });
}

function timed(flags: string, description: string, leastMs = 0): Option {
  return new Option(flags, description).argParser((text) => {
    const milliseconds = parseDuration(text);
    if (milliseconds < leastMs) throw new InvalidArgumentError("It must be longer.");
    return milliseconds / 1000;
  });
}

function parseKeepalive(text: string): number {
  const seconds = parseDuration(text) / 1000;
  if (seconds !== 0 && (seconds < 1 || seconds > KEEPALIVE_SECONDS_MAX))
    throw new InvalidArgumentError(`It must be 0 or 1 to ${KEEPALIVE_SECONDS_MAX} seconds.`);
  return seconds;
}

function parseMode(text: string): string {
  if (!MODE.test(text)) throw new InvalidArgumentError("It is not a mode such as 0660.");
  return text;
}

/** Of the file, absolute: its paths are relative to the folder it is in. */
export function absoluteSettings<S extends AccessSettings>(
  settings: S,
  absolute: (path: string) => string,
): S {
  const { tlsCertificates, tlsPsk } = settings;
  return {
    ...settings,
    ...(tlsCertificates === undefined ? {} : { tlsCertificates: absolute(tlsCertificates) }),
    ...(tlsPsk === undefined ? {} : { tlsPsk: absolute(tlsPsk) }),
  };
}

/**
 * Command line before file before defaults. Throws "usage" for what cannot be meant together, and
 * for owners that do not exist.
 */
export function accessOptions(flags: AccessSettings, file: AccessSettings): AccessOptions {
  const given = { ...file, ...flags };
  const { socketMode = "0600", socketOwner, maxMemory } = given;
  const milliseconds = (seconds: number | undefined) =>
    seconds === undefined ? undefined : Math.ceil(seconds * 1000);
  const limits = {
    connections: given.maxConnections,
    connectionsPerAddress: given.maxConnectionsPerAddress,
    negotiating: given.maxNegotiating,
    memoryBytes: maxMemory === undefined ? undefined : parseSize(maxMemory),
    handshakeMs: milliseconds(given.handshakeTimeout),
    idleMs: milliseconds(given.idleTimeout),
    keepAliveMs: milliseconds(given.keepalive),
  };
  return {
    ...tlsOptions(flags, file),
    allow: given.allow ?? null,
    socket: {
      mode: Number.parseInt(socketMode, 8),
      ...(socketOwner === undefined ? { uid: null, gid: null } : parseOwner(socketOwner)),
    },
    readOnlyExports: given.readOnlyExports ?? [],
    limits: Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)),
  };
}

/** Certificates on the command line stand in for keys in the file, and the other way round. */
function tlsOptions(
  flags: AccessSettings,
  file: AccessSettings,
): Pick<AccessOptions, "tls" | "tlsRequired"> {
  const inFlags = flags.tlsCertificates !== undefined || flags.tlsPsk !== undefined;
  const { tlsCertificates, tlsPsk } = inFlags ? flags : file;
  const tlsRequired = flags.tlsRequired ?? file.tlsRequired ?? false;
  const verifyPeer = flags.tlsVerifyPeer ?? file.tlsVerifyPeer ?? false;
  if (tlsCertificates !== undefined && tlsPsk !== undefined)
    throw new NbdRaidError("usage", "give either --tls-certificates or --tls-psk");
  if (verifyPeer && tlsCertificates === undefined)
    throw new NbdRaidError("usage", "--tls-verify-peer needs --tls-certificates");
  if (tlsCertificates !== undefined) {
    const folder = resolve(tlsCertificates);
    return { tls: { kind: "x509", folder, verifyPeer }, tlsRequired };
  }
  if (tlsPsk !== undefined) return { tls: { kind: "psk", path: resolve(tlsPsk) }, tlsRequired };
  if (tlsRequired)
    throw new NbdRaidError("usage", "--tls-required needs --tls-certificates or --tls-psk");
  return { tls: null, tlsRequired };
}
