import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { executable } from "../../scripts/project-root.ts";
import type { ArrayStatus } from "../../src/array/status.ts";
import { attempt, run, type CommandResult } from "./run.ts";

export interface ServerOptions {
  /** Where the folder of images and sockets is made; the system's temporary one by default. */
  readonly baseDir?: string;
  readonly members?: number;
  /** A mirror by default. */
  readonly level?: string;
  /** Usable bytes, as the CLI takes them. */
  readonly size?: string;
  /** Images that are there before, of these lengths in bytes, by slot. */
  readonly imageBytes?: readonly number[];
  /** A Unix socket in the server's folder by default. */
  readonly listen?: string;
  readonly createArgs?: readonly string[];
  readonly serveArgs?: readonly string[];
  /** A file that takes the server's stderr, which is collected by default. */
  readonly log?: string;
}

/**
 * An array named `data` in a folder of its own, and the real program that serves it on a Unix
 * socket, with its own control socket. `dispose` ends and removes all of it, whatever happened.
 */
export class Server {
  readonly folder: string;
  readonly images: readonly string[];
  readonly #options: ServerOptions;
  #uri: string | null = null;
  #process: { child: ChildProcess; closed: Promise<number | null> } | null = null;
  #stderr = "";

  private constructor(folder: string, options: ServerOptions, images?: readonly string[]) {
    this.folder = folder;
    this.images =
      images ??
      Array.from({ length: options.members ?? 2 }, (_, slot) => join(folder, `member-${slot}.img`));
    this.#options = options;
  }

  /** For members that others made, and that outlive the server; nothing serves them yet. */
  static async over(
    this: void,
    images: readonly string[],
    options: Pick<ServerOptions, "listen" | "serveArgs"> = {},
  ): Promise<Server> {
    return new Server(await mkdtemp(join(tmpdir(), "nbd-raid-")), options, images);
  }

  /** Makes the array, by the CLI; nothing serves it yet. */
  static async create(this: void, options: ServerOptions = {}): Promise<Server> {
    const server = new Server(
      await mkdtemp(join(options.baseDir ?? tmpdir(), "nbd-raid-")),
      options,
    );
    for (const [slot, bytes] of (options.imageBytes ?? []).entries()) {
      await writeFile(server.images[slot]!, "");
      await truncate(server.images[slot]!, bytes);
    }
    const size = options.imageBytes === undefined ? ["--size", options.size ?? "64M"] : [];
    const level = ["--level", options.level ?? "1"];
    const create = ["create", "data", ...level, ...size, ...(options.createArgs ?? [])];
    const { code, stderr } = await server.cli(...create, ...server.images);
    if (code === 0) return server;
    await server.dispose();
    throw new Error(`nbd-raid create: exit code ${code}\n${stderr}`);
  }

  static async start(this: void, options: ServerOptions = {}): Promise<Server> {
    const server = await Server.create(options);
    try {
      await server.start();
    } catch (error) {
      await server.dispose();
      throw error;
    }
    return server;
  }

  get socket(): string {
    return join(this.folder, "nbd.sock");
  }

  get control(): string {
    return join(this.folder, "control.sock");
  }

  /** Where a client reaches it, as the server itself said. */
  get uri(): string {
    if (this.#uri === null) throw new Error("the server was never started");
    return this.#uri;
  }

  get pid(): number {
    const pid = this.#process?.child.pid;
    if (pid === undefined) throw new Error("the server is not running");
    return pid;
  }

  /** All that the server has written to stderr, over all its runs. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Serves the given members, or all; returns once the first listener accepts. */
  async start(
    members: readonly string[] = this.images,
    args: readonly string[] = [],
  ): Promise<void> {
    const listen = this.#options.listen ?? `nbd+unix:///?socket=${this.socket}`;
    const where = ["--listen", listen, "--control", this.control];
    const serve = [executable, "serve", ...where, ...(this.#options.serveArgs ?? []), ...args];
    const log = this.#options.log === undefined ? null : openSync(this.#options.log, "a");
    const child = spawn(process.execPath, [...serve, ...members], {
      stdio: ["ignore", "pipe", log ?? "pipe"],
    });
    if (log !== null) closeSync(log);
    this.#process = { child, closed: once(child, "close").then(() => child.exitCode) };
    child.stderr?.setEncoding("utf8").on("data", (piece: string) => (this.#stderr += piece));
    const lines = createInterface(child.stdout!);
    const firstLine = once(lines, "line").then(([line]) => line as string);
    const line = await Promise.race([firstLine, once(lines, "close").then(() => "")]);
    this.#uri = /^listening on (.*)$/.exec(line)?.[1] ?? null;
    if (this.#uri !== null) return;
    await this.#process.closed;
    this.#process = null;
    throw new Error(`nbd-raid serve ended before it listened:\n${this.#stderr}`);
  }

  /** Any command of the CLI, pointed at this server. */
  cli(...args: string[]): Promise<CommandResult> {
    const env = { NBD_RAID_CONTROL: this.control, NO_COLOR: "1" };
    return attempt(process.execPath, [executable, ...args], { env });
  }

  /** A command of the CLI that must succeed; returns its stdout. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.cli(...args);
    if (code === 0) return stdout;
    throw new Error(`nbd-raid ${args.join(" ")}: exit code ${code}\n${stderr}`);
  }

  /** Runs a program that must succeed; relative paths are in the server's folder. */
  run(command: string, ...args: string[]): Promise<string> {
    return run(command, args, { cwd: this.folder });
  }

  async status(): Promise<ArrayStatus> {
    const { stdout, stderr } = await this.cli("status", "--json");
    if (stdout === "") throw new Error(`nbd-raid status: ${stderr}`);
    const { arrays } = JSON.parse(stdout) as { arrays: ArrayStatus[] };
    const [array] = arrays;
    if (array === undefined) throw new Error("the server has no array");
    return array;
  }

  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** A clean stop; anything but exit code 0 is an error. */
  async stop(): Promise<void> {
    const code = await this.#end("SIGTERM");
    if (code !== 0) throw new Error(`nbd-raid serve: exit code ${code}\n${this.#stderr}`);
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async dispose(): Promise<void> {
    await this.#end("SIGKILL");
    await rm(this.folder, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.#process === null) return null;
    const { child, closed } = this.#process;
    child.kill(signal);
    const code = await closed;
    this.#process = null;
    return code;
  }
}
