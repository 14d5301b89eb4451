import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import type { Connection, ExportTotals } from "../../src/control/api.ts";
import { type ControlServer, startControl } from "../../src/control/server.ts";
import type { FakeArray } from "./fake-array.ts";

/** A folder that is gone after the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "nbd-raid-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

interface Options {
  path?: string;
  arrays?: FakeArray[];
  exports?: ExportTotals[];
  connections?: Connection[];
  stop?: () => Promise<void>;
}

/** A control server over fake arrays, closed after the test. */
export async function runControl(options: Options): Promise<{
  path: string;
  control: ControlServer;
}> {
  const path = options.path ?? join(await temporaryFolder(), "control.sock");
  const control = await startControl({
    path,
    arrays: options.arrays ?? [],
    exports: () => options.exports ?? [],
    connections: () => options.connections ?? [],
    stop: options.stop ?? (() => Promise.resolve()),
    logger: pino({ level: "silent" }),
  });
  onTestFinished(() => control.close());
  return { path, control };
}
