import { lstat, mkdir, rename, unlink } from "node:fs/promises";
import { type Server, connect } from "node:net";
import { dirname } from "node:path";
import { NbdRaidError } from "../errors.ts";

/** sun_path holds 108 bytes with its final NUL; the name it is bound under is a little longer. */
const PATH_BYTES_MAX = 107;

/**
 * Throws "control-in-use" unless nothing is at `path`, or a socket that nobody answers any more.
 * Asked again by {@link listenPrivately}; a caller asks first when it wants to know early.
 */
export async function assertSocketFree(path: string): Promise<void> {
  const found = await lstat(path).catch(ignoreMissing);
  if (found === undefined) return;
  if (!found.isSocket()) throw new NbdRaidError("control-in-use", `${path} is not a socket`);
  if (await answers(path)) throw new NbdRaidError("control-in-use", `${path} has a server`);
}

/**
 * Listens at `path` with mode 0600, in a folder of mode 0700 if one has to be made. Returns what
 * takes the name away again, if it is still ours.
 *
 * The socket is bound under another name and then renamed: nobody can reach it before its mode
 * is set, a stale one is replaced at once, and closing the server (which unlinks the name it
 * bound) cannot take away the socket of a server that came after.
 */
export async function listenPrivately(server: Server, path: string): Promise<() => Promise<void>> {
  await assertSocketFree(path);
  await makeFolder(dirname(path));
  const boundName = `${path}.${process.pid.toString(36)}`;
  if (Buffer.byteLength(boundName) > PATH_BYTES_MAX)
    throw new NbdRaidError("usage", `the path of the control socket is too long: ${path}`);
  await unlink(boundName).catch(ignoreMissing);
  await bindWithMode(server, boundName, 0o600);
  const { dev, ino } = await lstat(boundName);
  await rename(boundName, path);
  return async () => {
    const now = await lstat(path).catch(ignoreMissing);
    if (now?.dev === dev && now.ino === ino) await unlink(path).catch(ignoreMissing);
  };
}

/**
 * One that exists stays as it is. More than one is never made: a path that is mistyped would leave
 * folders behind (and Node's recursive mkdir does not return where the kernel makes none, in /proc).
 */
async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "EEXIST") return;
    const code = MISSING.includes(cause.code ?? "") ? "usage" : "control-denied";
    const message = `cannot make the folder of the control socket: ${cause.message}`;
    throw new NbdRaidError(code, message, { cause });
  });
}

const MISSING = ["ENOENT", "ENOTDIR", "ENAMETOOLONG"];

/** `listen` binds before it returns, so no other file is made under this umask. */
function bindWithMode(server: Server, path: string, mode: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const umask = process.umask(0o777 & ~mode);
    try {
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      else reject(new NbdRaidError("control-in-use", error.message, { cause: error }));
    });
  });
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
