/** Where clients reach an array: over TCP and a Unix socket, plain, by certificates and by keys. */
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeAuthority } from "../certificates.ts";
import { run } from "../run.ts";
import { Server } from "../server.ts";

/** By "TLS x509" clients must show a certificate as well. */
export const SECURITIES = ["plain", "TLS x509", "TLS PSK", "TLS x509 of the server alone"] as const;
export const TRANSPORTS = ["TCP", "Unix"] as const;
export type Security = (typeof SECURITIES)[number];
export type Transport = (typeof TRANSPORTS)[number];

/** Of every array here, in bytes: more than the largest request that is allowed. */
export const SIZE = 40 * 1024 * 1024;
const USER = "alice";

export interface Kind {
  readonly title: string;
  readonly security: Security;
  readonly transport: Transport;
}

export const ALL_KINDS: readonly Kind[] = SECURITIES.flatMap((security) =>
  TRANSPORTS.map((transport) => ({ title: `${transport}, ${security}`, security, transport })),
);

/** Who can show a certificate is tried where it must. */
export const KINDS = ALL_KINDS.filter(
  ({ security }) => security !== "TLS x509 of the server alone",
);

/** One way to the export `data`, in the words of each program, and a new folder to work in. */
export interface Place extends Kind {
  readonly server: Server;
  readonly folder: string;
  /** libnbd's URI; it names the files of certificates or keys. */
  readonly uri: string;
  /** The same without those files: for programs that may not open what a URI names. */
  readonly bareUri: string;
  /** Holds certificates as libnbd, nbdkit and qemu look for them, and keys.psk. */
  readonly secrets: string;
  readonly qemu: QemuWords;
  /** Parameters of nbdkit's nbd plugin. */
  readonly nbdkit: readonly string[];
  /** Runs a program that must succeed, in `folder`. */
  readonly run: (program: string, ...args: string[]) => Promise<string>;
}

export interface QemuWords {
  /** `--object` and the credentials. */
  readonly object: readonly string[];
  /** For --image-opts. */
  readonly image: string;
  /** Of `qemu-nbd --list`. */
  readonly list: readonly string[];
}

/** One server for each security, on a socket of either transport; started when first asked for. */
export class Servers {
  readonly #started = new Map<Security, Promise<Server>>();

  async placeOf({ title, security, transport }: Kind): Promise<Place> {
    const server = await this.serverOf(security);
    const folder = await mkdtemp(join(server.folder, "client-"));
    const secrets = server.folder;
    const to = addressOf(server, security, transport);
    return {
      ...{ title, security, transport, server, folder, secrets },
      ...{ uri: to.uri + to.files, bareUri: to.uri },
      qemu: qemuWords(server, security, transport),
      nbdkit: [`uri=${to.uri}`, ...nbdkitTls(secrets)[security]],
      run: (program, ...args) => run(program, args, { cwd: folder }),
    };
  }

  serverOf(security: Security): Promise<Server> {
    const started = this.#started.get(security) ?? startServer(security);
    this.#started.set(security, started);
    return started;
  }

  async dispose(): Promise<void> {
    const all = await Promise.allSettled(this.#started.values());
    for (const one of all) if (one.status === "fulfilled") await one.value.dispose();
  }
}

async function startServer(security: Security): Promise<Server> {
  const server = await Server.create({ size: String(SIZE), listen: "nbd://127.0.0.1:0" });
  try {
    const alsoUnix = ["--listen", `nbd+unix:///?socket=${server.socket}`];
    await server.start(server.images, [...alsoUnix, ...(await TLS_ARGUMENTS[security](server))]);
  } catch (error) {
    await server.dispose();
    throw error;
  }
  return server;
}

async function certified({ folder }: Server): Promise<string[]> {
  // Laid out as libnbd's own folder in a home, for programs that name no other.
  await makeAuthority(join(folder, ".pki"), "libnbd");
  return ["--tls-certificates", certificatesIn(folder), "--tls-required"];
}

/** They make the files too. */
const TLS_ARGUMENTS: Record<Security, (server: Server) => Promise<string[]>> = {
  plain: () => Promise.resolve([]),
  "TLS x509": async (server) => [...(await certified(server)), "--tls-verify-peer"],
  "TLS x509 of the server alone": certified,
  "TLS PSK": async ({ folder }) => {
    const keys = keysIn(folder);
    await writeFile(keys, `${USER}:0123456789abcdef0123456789abcdef\n`, { mode: 0o600 });
    return ["--tls-psk", keys, "--tls-required"];
  },
};

export const certificatesIn = (folder: string) => join(folder, ".pki", "libnbd");
const keysIn = (folder: string) => join(folder, "keys.psk");
export const portOf = (server: Server) => new URL(server.uri).port;

function addressOf(server: Server, security: Security, transport: Transport) {
  const scheme = security === "plain" ? "nbd" : "nbds";
  const user = security === "TLS PSK" ? `${USER}@` : "";
  const certificates = `tls-certificates=${certificatesIn(server.folder)}`;
  const parameter = {
    plain: "",
    "TLS x509": certificates,
    "TLS x509 of the server alone": certificates,
    "TLS PSK": `tls-psk-file=${keysIn(server.folder)}`,
  }[security];
  const [uri, sign] = {
    TCP: [`${scheme}://${user}localhost:${portOf(server)}/data`, "?"] as const,
    Unix: [`${scheme}+unix://${user}/data?socket=${server.socket}`, "&"] as const,
  }[transport];
  return { uri, files: parameter === "" ? "" : sign + parameter };
}

/** qemu's block layer has no nbds URI: credentials are an object beside the address. */
function qemuWords(server: Server, security: Security, transport: Transport): QemuWords {
  const certificates = `endpoint=client,dir=${certificatesIn(server.folder)}`;
  const x509 = ["--object", `tls-creds-x509,id=tls0,${certificates}`];
  const object = {
    plain: [],
    "TLS x509": x509,
    "TLS x509 of the server alone": x509,
    "TLS PSK": [
      "--object",
      `tls-creds-psk,id=tls0,endpoint=client,dir=${server.folder},username=${USER}`,
    ],
  }[security];
  const address = {
    TCP: `host=localhost,port=${portOf(server)}`,
    Unix: `path=${server.socket}`,
  }[transport];
  const listed = {
    TCP: ["-b", "localhost", "-p", portOf(server)],
    Unix: ["-k", server.socket],
  }[transport];
  // A path has no host name that the certificate could be compared to.
  const tls = security === "plain" ? "" : ",tls-creds=tls0,tls-hostname=localhost";
  const listTls = ["--tls-creds", "tls0", "--tls-hostname", "localhost"];
  return {
    object,
    image: `driver=nbd,${address},export=data${tls}`,
    list: [...listed, ...object, ...(security === "plain" ? [] : listTls)],
  };
}

function nbdkitTls(folder: string): Record<Security, readonly string[]> {
  const x509 = ["tls=require", `tls-certificates=${certificatesIn(folder)}`];
  return {
    plain: [],
    "TLS x509": x509,
    "TLS x509 of the server alone": x509,
    "TLS PSK": ["tls=require", `tls-psk=${keysIn(folder)}`, `tls-username=${USER}`],
  };
}
