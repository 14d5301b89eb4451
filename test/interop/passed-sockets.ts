/** Sockets made for another process, as a service manager makes them, and that process. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { onTestFinished } from "vitest";
import { bind } from "../../src/platform/libc.ts";

const libc = {
  socket: bind("int socket(int domain, int type, int protocol)"),
  bind: bind("int bind(int fd, void *address, uint32_t length)"),
  listen: bind("int listen(int fd, int backlog)"),
  recv: bind("int64_t recv(int fd, void *bytes, size_t length, int flags)"),
};
export const AF = { UNIX: 1, INET: 2 } as const;
export const SOCK = { STREAM: 1, DGRAM: 2, SEQPACKET: 5 } as const;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;

const family = (number: number) => new Uint8Array(Uint16Array.of(number).buffer);

/** Not bound, and closed when the test has ended. */
export function newSocket(domain: number, type: number): number {
  const fd = libc.socket?.(domain, type | SOCK_CLOEXEC, 0) ?? -1;
  if (fd < 0) throw new Error("no socket can be made");
  onTestFinished(() => closeSync(fd));
  return fd;
}

/** At any free port of the loopback address. */
export function bindToPort(fd: number): number {
  return bindTo(
    fd,
    Buffer.concat([family(AF.INET), Buffer.from([0, 0, 127, 0, 0, 1]), Buffer.alloc(8)]),
  );
}

export function bindToPath(fd: number, path: string): number {
  return bindTo(fd, Buffer.concat([family(AF.UNIX), Buffer.from(path)]));
}

export function listen(fd: number): number {
  if (libc.listen?.(fd, 16) !== 0) throw new Error("the socket does not listen");
  return fd;
}

/** The next datagram, or null: none has come. */
export function datagram(fd: number): string | null {
  const bytes = Buffer.alloc(200);
  const count = libc.recv?.(fd, bytes, bytes.length, MSG_DONTWAIT) ?? -1;
  return count < 0 ? null : bytes.toString("utf8", 0, count);
}

function bindTo(fd: number, address: Buffer): number {
  if (libc.bind?.(fd, address, address.length) !== 0) throw new Error("the socket is not bound");
  return fd;
}

/** Runs a command with LISTEN_PID its own and `descriptors` as 3, 4 and so on. */
export function activate(
  command: readonly string[],
  descriptors: readonly number[],
  env: NodeJS.ProcessEnv = {},
) {
  const own = ["-c", `LISTEN_PID=\${LISTEN_PID:-$$} exec "$@"`, "sh"];
  const child = spawn("sh", [...own, ...command], {
    env: { ...process.env, LISTEN_FDS: String(descriptors.length), ...env },
    stdio: ["ignore", "pipe", "pipe", ...descriptors],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = createInterface(child.stdout!);
  const ended = Promise.all([once(child, "close"), text(child.stderr!)]).then(([, stderr]) => {
    return { code: child.exitCode, stderr };
  });
  return {
    /** The URIs of so many listeners; rejects if it ends before. */
    listening: async (count: number): Promise<string[]> => {
      const uris: string[] = [];
      for await (const line of lines) {
        uris.push(line.replace(/^listening on /, ""));
        if (uris.length === count) return uris;
      }
      throw new Error(`it ended before it listened: ${(await ended).stderr}`);
    },
    ended,
    pid: child.pid!,
    stop: () => {
      child.kill("SIGTERM");
      return ended;
    },
  };
}
