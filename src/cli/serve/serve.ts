import type { Logger } from "pino";
import type { RaidArray } from "../../array/array.ts";
import { nameClash } from "../../array/assemble.ts";
import { openArrays } from "../../array/open.ts";
import type { MetricsAddress, MetricsServer } from "../../control/metrics-server.ts";
import { startControl } from "../../control/server.ts";
import { assertSocketFree } from "../../control/socket.ts";
import type { Reported } from "../../control/status.ts";
import { NbdRaidError } from "../../errors.ts";
import { NbdServer } from "../../nbd/server.ts";
import { isListening, setSendBuffer } from "../../platform/socket.ts";
import { type AccessOptions, reloadTls, serverAccess, warnIfOpen } from "./access.ts";

export interface ServeOptions {
  /** Absolute paths. */
  readonly members: string[];
  readonly listen: readonly string[];
  /** Listening sockets that were passed to the process. */
  readonly descriptors: readonly number[];
  /** The control socket's path, or null for none. */
  readonly control: string | null;
  /** Where metrics are told, or null for nowhere. */
  readonly metrics: MetricsAddress | null;
  readonly readOnly: boolean;
  readonly run: boolean;
  readonly force: boolean;
  readonly access: AccessOptions;
}

/** What the server tells whom started it. */
export interface ServeEvents {
  /** A listener accepts, at this URI. */
  listening(uri: string): void;
  /** Metrics are told at this URL. */
  measured(url: string): void;
  /** Hands over what may be asked of it from now on. */
  controllable(actions: ServeActions): void;
  /** Every listener accepts, and whatever syncs are needed are registered. */
  ready(): void;
  /** It was told to stop. */
  stopping(): void;
}

export interface ServeActions {
  readonly stop: () => void;
  /** Reads keys and certificates again, for connections to come. */
  readonly reload: () => void;
}

/** Lets many replies leave in one system call. */
const SEND_BUFFER_BYTES = 2 * 1024 * 1024;

/**
 * Serves until told to stop, then stops cleanly. Rejects if it cannot start, or if an array could
 * not be marked clean. Nothing is written before the arrays start, last but for the listeners:
 * a sync that the arrays' state calls for is registered when those accept.
 */
export async function serve(
  options: ServeOptions,
  logger: Logger,
  events: ServeEvents,
): Promise<void> {
  let tell: () => void = () => undefined;
  const told = new Promise<void>((resolve) => (tell = resolve));
  const access = serverAccess(options.access, logger);
  events.controllable({ stop: tell, reload: () => reloadTls(access.tls, logger) });
  if (options.control !== null) await assertSocketFree(options.control);

  const arrays = await openArrays(options.members, { ...options, logger });
  const server = createServer(arrays, options.access, access, logger);
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    tell();
    return (stopping ??= stopServing(server, arrays));
  };

  const sideServers: { close(): Promise<void> }[] = [];
  try {
    const clash = nameClash(arrays.map(({ name }) => name));
    if (clash !== null) throw clash;
    assertServed(options.access.readOnlyExports, arrays);
    const reported = {
      arrays,
      exports: () => server.traffic(),
      connections: () => server.connections(),
    };
    if (options.control !== null)
      sideServers.push(await startControl({ ...reported, path: options.control, stop, logger }));
    const metrics = await startMetrics(options.metrics, reported, logger);
    if (metrics !== null) sideServers.push(metrics);
    const admit = server.hold();
    const uris: string[] = [];
    for (const fd of options.descriptors) {
      assertListening(fd);
      uris.push(await server.listenFd(fd));
    }
    for (const uri of options.listen) uris.push(await server.listen(uri));
    warnIfOpen(uris, options.access, logger);
    // Nothing can be refused any more: now the arrays may write.
    for (const array of arrays) await array.start();
    admit();
    for (const uri of uris) events.listening(uri);
    if (metrics !== null) events.measured(metrics.url);
    events.ready();
    await told;
    events.stopping();
  } finally {
    await stop().finally(() => Promise.all(sideServers.map((one) => one.close())));
  }
}

/** Loaded only where it is asked for: most servers tell no metrics. */
async function startMetrics(
  address: MetricsAddress | null,
  reported: Reported,
  logger: Logger,
): Promise<MetricsServer | null> {
  if (address === null) return null;
  const { startMetrics: start } = await import("../../control/metrics-server.ts");
  return start({ ...reported, address, logger });
}

function createServer(
  arrays: readonly RaidArray[],
  { readOnlyExports }: AccessOptions,
  access: ReturnType<typeof serverAccess>,
  logger: Logger,
): NbdServer {
  const exports = arrays.map((device) => ({
    name: device.name,
    description: device.description,
    readOnly: device.readOnly || readOnlyExports.includes(device.name),
    device,
  }));
  const tuneSocket = (fd: number): void => setSendBuffer(fd, SEND_BUFFER_BYTES);
  return new NbdServer({ exports, logger, tuneSocket, ...access });
}

/** One that is not bound would become a listener anywhere. */
function assertListening(fd: number): void {
  if (isListening(fd) !== false) return;
  const what = `descriptor ${fd}, passed in LISTEN_FDS, is not a socket that listens`;
  throw new NbdRaidError("descriptor-invalid", what);
}

/** Requests under way are finished first. Every array is stopped, whatever befalls another. */
async function stopServing(server: NbdServer, arrays: readonly RaidArray[]): Promise<void> {
  const results = [
    ...(await Promise.allSettled([server.close()])),
    ...(await Promise.allSettled(arrays.map((array) => array.stop()))),
  ];
  const failure = results.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}

/** A name that is misspelt would leave an array open to be written. */
function assertServed(names: readonly string[], arrays: readonly RaidArray[]): void {
  const stray = names.find((name) => !arrays.some((array) => array.name === name));
  if (stray !== undefined)
    throw new NbdRaidError("unknown-array", `no array named "${stray}" to be exported read-only`);
}
