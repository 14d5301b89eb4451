import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { once } from "node:events";
import { DEBIAN, type Kernel } from "./kernels.ts";
import { run } from "../interop/run.ts";

export interface GuestOptions {
  /** Debian's by default. */
  readonly kernel?: Kernel;
  /** Raw images, which the guest sees as /dev/vda, /dev/vdb and so on; at most 24. */
  readonly disks?: readonly string[];
  /** Variables of the script. */
  readonly env?: Readonly<Record<string, string | number>>;
  /** Files of the host that the guest finds in /host. */
  readonly files?: readonly string[];
  readonly timeoutSeconds?: number;
  readonly memoryMib?: number;
  /** What the script may ask for with `host NAME ARGUMENTS...`, and the answers. */
  readonly host?: Readonly<Record<string, HostCall>>;
}

/** Runs on the host while the guest waits; what it returns is what `host` prints there. */
export type HostCall = (...args: string[]) => Promise<string | void>;

export interface GuestResult {
  /** The script's exit status; 124: it took too long; 125: the guest ended without one. */
  readonly status: number;
  /** All that the script wrote, with what the kernel said last where it ended badly. */
  readonly output: string;
}

const GUEST_SH = fileURLToPath(new URL("../../scripts/guest.sh", import.meta.url));
const PRELUDE = readFileSync(new URL("prelude.sh", import.meta.url), "utf8");
const TIMEOUT_SECONDS = 600;

const built = new Map<string, Promise<unknown>>();

/** Makes the kernel and its user land unless they are in the cache. */
export function build(kernel: Kernel): Promise<unknown> {
  const building = built.get(kernel.name) ?? run(GUEST_SH, ["build"], { env: kernel.env });
  built.set(kernel.name, building);
  return building;
}

/** A booted Linux kernel that runs one script (bash, behind prelude.sh) as root. */
export class Guest {
  /** Settles when the guest has ended and nothing of it is left. */
  readonly ended: Promise<GuestResult>;
  readonly #folder: string;

  private constructor(folder: string, ended: Promise<GuestResult>) {
    this.#folder = folder;
    this.ended = ended;
  }

  static async boot(script: string, options: GuestOptions = {}): Promise<Guest> {
    const { kernel = DEBIAN } = options;
    await build(kernel);
    const folder = await mkdtemp(join(tmpdir(), "nbd-raid-guest-"));
    const calls = await HostCalls.listen(options.host ?? {});
    const path = join(folder, "script");
    await writeFile(path, `${PRELUDE}\n${script}`);
    const child = spawn(
      GUEST_SH,
      ["run", ...argumentsOf(options, calls.port), "--pidfile", join(folder, "pid"), path],
      { env: { ...process.env, ...kernel.env }, stdio: ["ignore", "pipe", "pipe"] },
    );
    const ended = resultOf(child).then(async (result) => {
      await calls.close();
      await rm(folder, { recursive: true, force: true });
      if (calls.failure !== null) throw calls.failure;
      return result;
    });
    return new Guest(folder, ended);
  }

  /** The power goes, now: nothing that the guest has not written yet is ever written. */
  async cutPower(): Promise<void> {
    process.kill(Number(await readFile(join(this.#folder, "pid"), "utf8")), "SIGKILL");
    await this.ended;
  }
}

/** Runs a script in a guest of its own; it must exit with 0. Returns what it wrote. */
export async function inGuest(script: string, options: GuestOptions = {}): Promise<string> {
  const { status, output } = await (await Guest.boot(script, options)).ended;
  if (status === 0) return output;
  throw new Error(`the guest's script exited with ${status}:\n${output}`);
}

function argumentsOf(options: GuestOptions, hostPort: number): string[] {
  const { disks = [], env = {}, files = [], memoryMib = 512 } = options;
  const timeout = options.timeoutSeconds ?? TIMEOUT_SECONDS;
  return [
    ...disks.flatMap((disk) => ["--disk", disk]),
    ...files.flatMap((file) => ["--file", file]),
    ...Object.entries({ ...env, HOST_PORT: hostPort }).flatMap(([name, value]) => [
      "--env",
      `${name}=${value}`,
    ]),
    ...["--timeout", String(timeout), "--mem", String(memoryMib)],
  ];
}

async function resultOf(child: ChildProcess): Promise<GuestResult> {
  let output = "";
  const collect = (piece: string): void => void (output += piece);
  child.stdout!.setEncoding("utf8").on("data", collect);
  child.stderr!.setEncoding("utf8").on("data", collect);
  await once(child, "close");
  return { status: child.exitCode ?? 128, output };
}

/** Answers what the scripts ask the host: a line each connection. */
class HostCalls {
  failure: Error | null = null;
  readonly #server: Server;
  readonly #calls: Readonly<Record<string, HostCall>>;
  readonly #sockets = new Set<Socket>();

  private constructor(calls: Readonly<Record<string, HostCall>>) {
    this.#calls = calls;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  static async listen(calls: Readonly<Record<string, HostCall>>): Promise<HostCalls> {
    const host = new HostCalls(calls);
    host.#server.listen(0, "127.0.0.1");
    await once(host.#server, "listening");
    return host;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    let asked = "";
    socket
      .setEncoding("utf8")
      .on("error", () => socket.destroy())
      .on("close", () => this.#sockets.delete(socket))
      .on("data", (piece: string) => {
        asked += piece;
        if (!asked.endsWith("\n")) return;
        const words = asked.trim().split(" ");
        asked = "";
        void this.#answer(words).then((answer) => socket.end(answer));
      });
  }

  async #answer([name = "", ...args]: readonly string[]): Promise<string> {
    try {
      const call = this.#calls[name];
      if (call === undefined) throw new Error(`nothing here answers to "${name}"`);
      return `ok\n${(await call(...args)) ?? ""}`;
    } catch (error) {
      this.failure ??= error as Error;
      return `failed: ${(error as Error).message}\n`;
    }
  }
}
