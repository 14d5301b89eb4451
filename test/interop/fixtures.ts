import { spawnSync } from "node:child_process";
import { test as base, type TestAPI, type TestContext } from "vitest";
import { Server, type ServerOptions } from "./server.ts";

interface Fixtures {
  installed: undefined;
  /** Starts a server that is gone when the test ends, passed or failed. */
  serve: (options?: ServerOptions) => Promise<Server>;
  /** Only makes the array. */
  create: (options?: ServerOptions) => Promise<Server>;
}

/**
 * A `test` for behaviour that shows only with these programs. One that is missing skips the
 * test on a developer's machine and fails it in CI.
 */
export function testWith(...programs: string[]): TestAPI<Fixtures> {
  const missing = programs.filter((program) => !isInstalled(program));
  return base.extend<Fixtures>({
    installed: [
      async ({ skip }, use) => {
        skip(missing.length > 0 && process.env["CI"] !== "true", `needs ${missing.join(", ")}`);
        await use(undefined);
      },
      { auto: true },
    ],
    serve: ({ onTestFailed }, use) => withServers(Server.start, onTestFailed, use),
    create: ({ onTestFailed }, use) => withServers(Server.create, onTestFailed, use),
  });
}

type Make = (options?: ServerOptions) => Promise<Server>;

async function withServers(
  make: Make,
  onTestFailed: TestContext["onTestFailed"],
  use: (make: Make) => Promise<void>,
): Promise<void> {
  const servers: Server[] = [];
  onTestFailed(() => {
    for (const server of servers) console.error(server.stderr);
  });
  await use(async (options) => {
    const server = await make(options);
    servers.push(server);
    return server;
  });
  await Promise.all(servers.map((server) => server.dispose()));
}

function isInstalled(program: string): boolean {
  const path = `/usr/bin:/usr/sbin:${process.env["PATH"] ?? ""}`;
  return spawnSync("which", [program], { env: { PATH: path } }).status === 0;
}
