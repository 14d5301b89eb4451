import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { NbdRaidError } from "../../errors.ts";
import { absoluteMember, type Context, ownControlPath, pathOption } from "../context.ts";
import { accessOptions, type AccessSettings, addAccessOptions } from "../serve/access-options.ts";
import type { Config } from "../serve/config.ts";
import type { DirectorySource } from "../serve/directory.ts";
import { LOG_LEVELS, type LogLevel } from "../serve/log-levels.ts";
import { parseMetricsAddress } from "../serve/metrics-address.ts";
import type { ServeOptions } from "../serve/serve.ts";

/** sd_listen_fds(3), sd_notify(3): for this process alone, none it starts may think they are its. */
const STARTER_VARIABLES = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];
const DEFAULT_LISTEN = "nbd://127.0.0.1:10809";

/** As given on the command line; what is absent may stand in the configuration file. */
export interface ServeFlags extends AccessSettings {
  config?: string;
  directory?: string;
  listen?: string[];
  control?: string;
  metrics?: string;
  readOnly?: true;
  run?: true;
  force?: true;
  logLevel?: LogLevel;
}

export function addServe(program: Command, context: Context): void {
  const command = program
    .command("serve")
    .description("serve the arrays that the members make up")
    .argument("[member...]")
    .addOption(pathOption("--config <file>", "read members and options from a YAML file"))
    .addOption(
      pathOption("--directory <dir>", "serve the members in there, or what its nbd-raid.yaml says"),
    )
    .addOption(
      new Option("--listen <uri>", `may be given again; default: ${DEFAULT_LISTEN}`).argParser(
        (uri: string, before: string[] = []) => [...before, uri],
      ),
    )
    .addOption(pathOption("--control <path>", `the control socket to make, or "none"`))
    .option("--metrics <host:port>", "tell Prometheus metrics at http://HOST:PORT/metrics")
    .option("--read-only", "write nothing to the members")
    .option("--run", "start although a member is missing")
    .option("--force", "start a parity array that is dirty and degraded")
    .addOption(new Option("--log-level <level>", "default: info").choices(LOG_LEVELS))
    .addOption(new Option("--json", "print an error as a JSON document too"))
    .addHelpText("after", HELP)
    .action(async (members: string[], flags: ServeFlags) => {
      context.mayLoseOutput = true;
      // Loaded here: the other commands start sooner without it.
      const { createLogger } = await import("../serve/logger.ts");
      const { inheritedDescriptors } = await import("../../nbd/listener.ts");
      const { actOnSignals, exitOnBugs } = await import("../serve/process.ts");

      const { stdout, env } = context.terminal;
      const directory = await lookIn(members, flags);
      const configPath = flags.config ?? directory?.config;
      const config = configPath === undefined ? null : await loadConfig(configPath);
      const descriptors = inheritedDescriptors(env, process.pid);
      const notifySocket = env["NOTIFY_SOCKET"];
      for (const name of STARTER_VARIABLES) delete env[name];
      const level = flags.logLevel ?? config?.logLevel ?? "info";
      const logger = await createLogger(level, context.terminal);
      exitOnBugs(logger);
      const readOnly = flags.readOnly ?? false;
      const found = await directory?.members?.({ terminal: context.terminal, readOnly, logger });
      const options = serveOptions(
        found ?? members,
        flags,
        config,
        descriptors,
        () => ownControlPath(context),
        env["NBD_RAID_LISTEN"] || DEFAULT_LISTEN,
      );
      const { serve } = await import("../serve/serve.ts");
      const { tellStarter } = await import("../serve/starter.ts");
      await serve(options, logger, {
        ...tellStarter(notifySocket, logger),
        listening: (uri) => stdout.write(`listening on ${uri}\n`),
        measured: (url) => stdout.write(`metrics at ${url}\n`),
        controllable: (actions) => actOnSignals(actions, logger),
      });
    });
  addAccessOptions(command);
}

const HELP = `
The arrays are exported under their names; a single one also under the empty name.
SIGHUP reads certificates and keys again. nbds:// listens for clients with TLS only.
--control none serves no control socket; so does a start with sockets passed in LISTEN_FDS.
--directory makes an array in an empty one first if $NBD_RAID_CREATE has the arguments of create.

Examples:
  nbd-raid serve a.img b.img
  nbd-raid serve a.img b.img --listen nbd+unix:///?socket=/run/data.sock
  nbd-raid serve --config /etc/nbd-raid.yaml
  nbd-raid serve --directory /srv/images --metrics 127.0.0.1:10810
`;

async function lookIn(
  members: readonly string[],
  { directory, config }: ServeFlags,
): Promise<DirectorySource | null> {
  if (directory === undefined) return null;
  if (members.length > 0 || config !== undefined) throw manySources();
  const { lookInDirectory } = await import("../serve/directory.ts");
  return lookInDirectory(resolve(directory));
}

function manySources(): NbdRaidError {
  return new NbdRaidError("usage", "give either members, --config or --directory");
}

async function loadConfig(path: string): Promise<Config> {
  const { readConfig } = await import("../serve/config.ts");
  return readConfig(path);
}

/** Command line before file before defaults. `defaultControl` is asked only if nobody says. */
export function serveOptions(
  members: readonly string[],
  flags: ServeFlags,
  config: Config | null,
  descriptors: readonly number[],
  defaultControl: () => string,
  defaultListen = DEFAULT_LISTEN,
): ServeOptions {
  if (members.length > 0 === (config !== null)) throw manySources();
  const listen = flags.listen ?? config?.listen ?? [];
  const control = flags.control ?? config?.control;
  const metrics = flags.metrics ?? config?.metrics;
  return {
    members: config?.members ?? members.map(absoluteMember),
    listen: listen.length > 0 || descriptors.length > 0 ? listen : [defaultListen],
    descriptors,
    control: chooseControl(control, descriptors.length > 0, defaultControl),
    metrics: metrics === undefined ? null : parseMetricsAddress(metrics),
    readOnly: flags.readOnly ?? config?.readOnly ?? false,
    run: flags.run ?? config?.run ?? false,
    force: flags.force ?? config?.force ?? false,
    access: accessOptions(flags, config ?? {}),
  };
}

function chooseControl(
  given: string | undefined,
  activated: boolean,
  defaultControl: () => string,
): string | null {
  if (given === "none" || (given === undefined && activated)) return null;
  return given ?? defaultControl();
}
