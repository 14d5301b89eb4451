/**
 * What a server needs for TLS, read from files as nbdkit, qemu and GnuTLS name and write them: a
 * folder with `server-cert.pem`, `server-key.pem`, `ca-cert.pem` and `ca-crl.pem`, or a file of
 * pre-shared keys (`keys.psk`), a line `NAME:HEX` each.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { NbdRaidError } from "../errors.ts";

/** Where the files are: paths are absolute. */
export type TlsSource =
  | {
      readonly kind: "x509";
      readonly folder: string;
      /** Clients must show a certificate that ca-cert.pem has signed. */
      readonly verifyPeer: boolean;
    }
  | {
      readonly kind: "psk";
      /** The file, or the folder that has it as `keys.psk`. */
      readonly path: string;
    };

export interface TlsFiles {
  /** For node:tls; without any certificate in the case of keys. */
  readonly context: SecureContextOptions;
  /** The keys by the clients' names; empty in the case of certificates. */
  readonly keys: ReadonlyMap<string, Buffer>;
  /** Until when the server's certificate is valid. */
  readonly validTo: Date | null;
  /** What should be otherwise, a sentence each. */
  readonly warnings: readonly string[];
}

/** OpenSSL takes no longer ones (PSK_MAX_PSK_LEN), and shorter ones can be guessed. */
const KEY_BYTES_MIN = 16;
const KEY_BYTES_MAX = 256;
/** PSK_MAX_IDENTITY_LEN of old versions. */
const NAME_BYTES_MAX = 128;
/**
 * Forward secrecy first, then what also the least of clients have; those of TLS 1.3 are named for
 * node:tls, which would offer none. OpenSSL means suites without encryption by kPSK too.
 */
const PSK_CIPHERS = [
  ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"],
  ["kECDHEPSK+CHACHA20", "kDHEPSK+AESGCM", "kDHEPSK+CHACHA20", "kECDHEPSK+SHA256"],
  ["kPSK+AESGCM", "kPSK+CHACHA20", "!eNULL"],
]
  .flat()
  .join(":");

/** Reads all of it anew. Throws "tls-invalid", naming the file. */
export function readTlsFiles(source: TlsSource): TlsFiles {
  return source.kind === "x509" ? readCertificates(source) : readKeys(source.path);
}

function readCertificates({ folder, verifyPeer }: TlsSource & { kind: "x509" }): TlsFiles {
  const file = (name: string) => path.join(folder, name);
  const cert = read(file("server-cert.pem"));
  const key = read(file("server-key.pem"));
  const ca = verifyPeer ? read(file("ca-cert.pem")) : readIfThere(file("ca-cert.pem"));
  const crl = readIfThere(file("ca-crl.pem"));
  const context = { cert, key, ...(ca === null ? {} : { ca }), ...(crl === null ? {} : { crl }) };
  const validTo = checked(folder, () => {
    createSecureContext(context); // the key must be the certificate's
    return new Date(new X509Certificate(cert).validTo);
  });
  const warnings = readableByOthers(file("server-key.pem"));
  return { context, keys: new Map(), validTo, warnings };
}

function readKeys(given: string): TlsFiles {
  const isFolder = statSync(given, { throwIfNoEntry: false })?.isDirectory() === true;
  const file = isFolder ? path.join(given, "keys.psk") : given;
  const keys = parseKeys(read(file).toString("utf8"), file);
  const context: SecureContextOptions = { ciphers: PSK_CIPHERS, dhparam: "auto" };
  return { context, keys, validTo: null, warnings: readableByOthers(file) };
}

const KEY_LINE = /^(?:([^:#][^:]*)|#((?:[0-9a-f]{2})+)):((?:[0-9a-f]{2})+)\r?$/i;

/** As psktool writes them: `NAME:HEX`, and `#HEX:HEX` for a name that is not plain text. */
export function parseKeys(text: string, file: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const refuse = (reason: string) => invalid(`${file}:${index + 1}: ${reason}`);
    const [, plain, encoded, hex] = KEY_LINE.exec(line) ?? [];
    if (hex === undefined) throw refuse("not NAME:HEX");
    const name = plain ?? Buffer.from(encoded ?? "", "hex").toString("utf8");
    const bytes = hex.length / 2;
    if (Buffer.byteLength(name) > NAME_BYTES_MAX) throw refuse("the name is too long");
    if (bytes < KEY_BYTES_MIN || bytes > KEY_BYTES_MAX)
      throw refuse(`a key has ${KEY_BYTES_MIN} to ${KEY_BYTES_MAX} bytes, not ${bytes}`);
    if (keys.has(name)) throw refuse(`"${name}" has a key already`);
    keys.set(name, Buffer.from(hex, "hex"));
  }
  if (keys.size === 0) throw invalid(`${file}: no keys`);
  return keys;
}

/** Whoever can read a key can be the server, or a client. */
function readableByOthers(file: string): string[] {
  const { mode } = statSync(file);
  return (mode & 0o007) === 0 ? [] : [`${file} can be read by every user of this machine`];
}

function read(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw invalid(`TLS needs ${file}: ${(error as Error).message}`, error);
  }
}

function readIfThere(file: string): Buffer | null {
  return statSync(file, { throwIfNoEntry: false }) === undefined ? null : read(file);
}

function checked<T>(folder: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw invalid(
      `the certificates in ${folder} cannot be used: ${(error as Error).message}`,
      error,
    );
  }
}

function invalid(message: string, cause?: unknown): NbdRaidError {
  return new NbdRaidError("tls-invalid", message, { cause });
}
