/** Listening sockets: TCP, Unix, and those inherited by LISTEN_FDS. */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  readFileSync,
  readlinkSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
} from "node:fs";
import net from "node:net";
import { dirname } from "node:path";
import { NbdRaidError } from "../errors.ts";
import { formatUri, type Address } from "./uri.ts";

export interface Listener {
  /** Where it really listens: port 0 became a number. */
  readonly address: Address;
  /** Accepts no more. Connections that were accepted live on. */
  close(): void;
}

export interface ListenerEvents {
  /** A client has connected; its socket is paused and may be half-closed. */
  readonly onAccept: (accepted: net.Socket) => void;
  /** A client could not be accepted (no descriptors left, say); the next may be. */
  readonly onError: (error: Error) => void;
}

/** Who may connect to a Unix socket: those who may write to its file. */
export interface SocketAccess {
  /** Permission bits, 0o660 for example. */
  readonly mode: number;
  /** Numbers, or null: as the server's own. */
  readonly uid: number | null;
  readonly gid: number | null;
}

export const PRIVATE_SOCKET: SocketAccess = { mode: 0o600, uid: null, gid: null };

/** The first inherited descriptor (sd_listen_fds(3)). */
const LISTEN_FDS_START = 3;
/** Longer ones do not fit a sockaddr_un. */
const SOCKET_PATH_BYTES_MAX = 107;

/** The descriptors of sockets handed to this process by its starter: LISTEN_FDS, LISTEN_PID. */
export function inheritedDescriptors(env: NodeJS.ProcessEnv, pid: number): number[] {
  if (env["LISTEN_PID"] !== String(pid)) return [];
  const count = Number(env["LISTEN_FDS"]);
  if (!Number.isInteger(count) || count < 1) return [];
  return Array.from({ length: count }, (_, i) => LISTEN_FDS_START + i);
}

/** Throws "address-in-use" or "address-invalid". A socket file nobody listens on is replaced. */
export async function listenAt(
  address: Address,
  access: SocketAccess,
  events: ListenerEvents,
): Promise<Listener> {
  return address.kind === "tcp" ? listenTcp(address, events) : listenUnix(address, access, events);
}

/** Takes over a listening socket; it is closed with the listener. Throws "descriptor-invalid". */
export async function listenDescriptor(fd: number, events: ListenerEvents): Promise<Listener> {
  const server = await bind({ fd }, `descriptor ${fd}`, events).catch((cause: Error) => {
    throw new NbdRaidError("descriptor-invalid", cause.message, { cause });
  });
  const address = tcpAddress(server) ?? { kind: "unix", path: socketPathOf(fd) };
  return { address, close: () => void server.close() };
}

async function listenTcp(
  address: Address & { kind: "tcp" },
  events: ListenerEvents,
): Promise<Listener> {
  const { host, port } = address;
  const server = await bind({ host, port }, formatUri(address), events);
  return { address: tcpAddress(server) ?? address, close: () => void server.close() };
}

async function listenUnix(
  address: Address & { kind: "unix" },
  access: SocketAccess,
  events: ListenerEvents,
): Promise<Listener> {
  const { path } = address;
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new NbdRaidError("address-invalid", `socket path too long: ${path}`);
  }
  assertFolder(dirname(path));
  await removeStaleSocket(path);
  const server = await bindPrivately(path, formatUri(address), events);
  const made = lstatSync(path);
  try {
    if (access.uid !== null || access.gid !== null)
      chownSync(path, access.uid ?? made.uid, access.gid ?? made.gid);
    chmodSync(path, access.mode);
  } catch (error) {
    closeUnix(server, path, made);
    throw listenError(error as NodeJS.ErrnoException, formatUri(address));
  }
  return { address, close: () => closeUnix(server, path, made) };
}

/** libuv says "permission denied" where a folder is missing, as Windows does. */
function assertFolder(path: string): void {
  try {
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return;
  } catch {
    return; // there may be one: let bind say what is wrong
  }
  throw new NbdRaidError("address-invalid", `there is no folder ${path}`);
}

async function removeStaleSocket(path: string): Promise<void> {
  if (statOf(path)?.isSocket() !== true) return;
  if (!(await refusesConnections(path))) return;
  unlinkSync(path);
}

function refusesConnections(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path });
    probe.once("connect", () => resolve(false));
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
    probe.once("connect", () => probe.destroy());
  });
}

/** Closing unlinks the path whatever is there by now: a socket of others is held aside. */
function closeUnix(server: net.Server, path: string, made: Stats): void {
  const found = statOf(path);
  const foreign = found !== null && (found.ino !== made.ino || found.dev !== made.dev);
  const aside = `${path}.${process.pid}`;
  if (foreign) renameSync(path, aside);
  server.close();
  if (foreign) renameSync(aside, path);
}

function statOf(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null;
}

/**
 * Nobody else can connect until the file's owner and mode are set. The path is bound before
 * `listen` returns, so no other file is made under this umask.
 */
function bindPrivately(path: string, name: string, events: ListenerEvents): Promise<net.Server> {
  const umask = process.umask(0o777 & ~PRIVATE_SOCKET.mode);
  try {
    return bind({ path }, name, events);
  } finally {
    process.umask(umask);
  }
}

function bind(options: net.ListenOptions & { fd?: number }, name: string, events: ListenerEvents) {
  return new Promise<net.Server>((resolve, reject) => {
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, events.onAccept);
    const onError = (error: NodeJS.ErrnoException) => reject(listenError(error, name));
    server.once("error", onError);
    server.listen(options, () => {
      server.off("error", onError).on("error", events.onError);
      resolve(server);
    });
  });
}

function listenError(error: NodeJS.ErrnoException, name: string): NbdRaidError {
  const code = error.code === "EADDRINUSE" ? "address-in-use" : "address-invalid";
  return new NbdRaidError(code, `cannot listen on ${name}: ${error.message}`, { cause: error });
}

function tcpAddress(server: net.Server): Address | null {
  const bound = server.address();
  if (bound === null || typeof bound === "string") return null;
  return { kind: "tcp", host: bound.address, port: bound.port };
}

/**
 * Node does not tell the path of an inherited Unix socket; /proc does, where it exists. Empty: it
 * does not know it, as when the socket is of another network namespace. (/proc/net is absent where
 * a service sees processes only.)
 */
function socketPathOf(fd: number): string {
  const sockets = "/proc/self/net/unix";
  if (!existsSync(sockets)) return "";
  const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  const lines = readFileSync(sockets, "utf8").split("\n");
  const line = lines.find((line) => line.trimStart().split(/\s+/)[6] === inode);
  return /^(?:\S+\s+){7}(.+)$/.exec(line?.trimStart() ?? "")?.[1] ?? "";
}
