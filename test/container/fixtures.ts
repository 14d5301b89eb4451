import { chmod, chown, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { inject, type TestAPI } from "vitest";
import type { ArrayStatus } from "../../src/array/status.ts";
import { testWith } from "../interop/fixtures.ts";
import { container, docker, IMAGE } from "./engine.ts";

/** The user that the image runs as. */
const UID = 1000;
/** A container starts in a second or two; this machine may be busy. */
const PATIENCE_MS = 60_000;

interface Fixtures {
  containers: undefined;
  /** A folder of the host that the image's user may write to, gone when the test ends. */
  folder: string;
  /** Starts a server in a container that is gone when the test ends; it accepts by then. */
  launch: (options: LaunchOptions) => Promise<Server>;
}

interface LaunchOptions {
  /** A folder or a volume's name: /data. */
  readonly data: string;
  /** Options of `docker run`. */
  readonly options?: readonly string[];
  /** Of the image; without: it serves what is in /data. */
  readonly args?: readonly string[];
}

/** A `test` for what shows only in a container. Without an engine it is skipped, but not in CI. */
export const test: TestAPI<Fixtures & object> = testWith("nbdcopy", "nbdsh").extend<Fixtures>({
  containers: [
    async ({ skip }, use) => {
      const missing = inject("noContainers");
      skip(missing !== null, `needs a container engine: ${missing}`);
      await use(undefined);
    },
    { auto: true },
  ],
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "nbd-raid-"));
    await handOver(folder);
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
  launch: async ({ onTestFailed }, use) => {
    const servers: Server[] = [];
    onTestFailed(() => {
      for (const server of servers) console.error(server.lastWords);
    });
    await use(async (options) => {
      const server = await Server.launch(options);
      servers.push(server);
      await server.listening();
      return server;
    });
    for (const server of servers) await server.dispose();
  },
});

/** Makes a folder and what is in it the image's user's; who is not root opens it to all. */
export async function handOver(folder: string): Promise<void> {
  const paths = [folder, ...(await readdir(folder)).map((name) => join(folder, name))];
  for (const path of paths) {
    if (process.getuid?.() === 0) await chown(path, UID, UID);
    else await chmod(path, 0o777);
  }
}

/** A container with a server in it. */
export class Server {
  readonly id: string;
  /** What it had logged when it was removed. */
  lastWords = "";
  #starts = 1;

  private constructor(id: string) {
    this.id = id;
  }

  static async launch(
    this: void,
    { data, options = [], args = [] }: LaunchOptions,
  ): Promise<Server> {
    const publish = ["-p", "127.0.0.1::10809", "-p", "127.0.0.1::10810"];
    const run = ["run", "-d", "-v", `${data}:/data`, ...publish, ...options, IMAGE, ...args];
    return new Server(await docker(...run));
  }

  /** Resolves when the server has said so, once for each time it was started. */
  async listening(): Promise<void> {
    const started = performance.now();
    for (;;) {
      const logs = await this.logs();
      if ((logs.match(/^listening on /gm) ?? []).length >= this.#starts) return;
      if ((await this.inspect("{{.State.Running}}")) !== "true") throw new Error(logs);
      if (performance.now() - started > PATIENCE_MS)
        throw new Error(`it does not listen:\n${logs}`);
      await sleep(100);
    }
  }

  /** Where the host reaches it; another one after each start. */
  async uri(): Promise<string> {
    return `nbd://${(await docker("port", this.id, "10809")).split("\n")[0]}`;
  }

  async metricsUrl(): Promise<string> {
    return `http://${(await docker("port", this.id, "10810")).split("\n")[0]}/metrics`;
  }

  async logs(): Promise<string> {
    const { stdout, stderr } = await container("docker", "logs", this.id);
    return stdout + stderr;
  }

  inspect(format: string): Promise<string> {
    return docker("inspect", "-f", format, this.id);
  }

  /** A command inside. */
  exec(...command: string[]): Promise<string> {
    return docker("exec", this.id, ...command);
  }

  async status(): Promise<ArrayStatus> {
    const text = await this.exec("nbd-raid", "status", "--json");
    const { arrays } = JSON.parse(text) as { arrays: ArrayStatus[] };
    return arrays[0]!;
  }

  /** SIGTERM, and SIGKILL after `graceSeconds`; returns the exit code. */
  async stop(graceSeconds = 30): Promise<number> {
    await docker("stop", "-t", String(graceSeconds), this.id);
    return Number(await this.inspect("{{.State.ExitCode}}"));
  }

  async kill9(): Promise<void> {
    await docker("kill", "--signal", "KILL", this.id);
    await docker("wait", this.id);
  }

  async start(): Promise<void> {
    await docker("start", this.id);
    this.#starts++;
    await this.listening();
  }

  /** Resolves to what the health check has found, once that is what is wanted, or to the last. */
  async health(wanted: string): Promise<string> {
    const started = performance.now();
    for (;;) {
      const health = await this.inspect("{{.State.Health.Status}}");
      if (health === wanted || performance.now() - started > PATIENCE_MS) return health;
      await sleep(250);
    }
  }

  async dispose(): Promise<void> {
    this.lastWords = await this.logs();
    await container("docker", "rm", "--force", "--volumes", this.id);
  }
}
