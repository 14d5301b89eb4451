/** A running server on a Unix socket in a folder of its own, closed and removed after the test. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import type { BlockDevice, Export } from "../../src/nbd/block-device.ts";
import { NbdServer, type NbdServerOptions } from "../../src/nbd/server.ts";
import { RawClient } from "./client.ts";

export const SILENT = pino({ level: "silent" });

export function exportOf(device: BlockDevice, name = "data", description = "a disk"): Export {
  return { name, description, device };
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "nbd-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface Serving {
  readonly server: NbdServer;
  readonly path: string;
  readonly uri: string;
  /** A connected client; with a name it has negotiated. */
  readonly client: (exportName?: string) => Promise<RawClient>;
}

export async function serve(
  exports: readonly Export[],
  options: Partial<NbdServerOptions> = {},
): Promise<Serving> {
  const socketPath = path.join(temporaryFolder(), "s");
  const server = new NbdServer({ exports, logger: SILENT, ...options });
  const uri = await server.listen(`nbd+unix:///?socket=${socketPath}`);
  const clients: RawClient[] = [];
  onTestFinished(async () => {
    for (const client of clients) client.destroy();
    await server.close();
  });
  const client = async (exportName?: string) => {
    const connected = await RawClient.connect(socketPath);
    clients.push(connected);
    if (exportName !== undefined) await connected.negotiate(exportName);
    return connected;
  };
  return { server, path: socketPath, uri, client };
}

/** Resolves when `condition` holds; the test's own time limit ends a wait that is in vain. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
