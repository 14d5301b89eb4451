import { type Command, Option } from "commander";
import { NbdRaidError } from "../../errors.ts";
import { absoluteMember, type Context, ownControlPath } from "../context.ts";
import { accessOptions, type AccessSettings, addAccessOptions } from "../serve/access-options.ts";
import type { Config } from "../serve/config.ts";
import { LOG_LEVELS, type LogLevel } from "../serve/log-levels.ts";
import type { ServeOptions } from "../serve/serve.ts";

/** Meant for this process alone (sd_listen_fds(3)): none it starts may think they are its own. */
const ACTIVATION_VARIABLES = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
const DEFAULT_LISTEN = "nbd://127.0.0.1:10809";

/** As given on the command line; what is absent may stand in the configuration file. */
export interface ServeFlags extends AccessSettings {
  config?: string;
  listen?: string[];
  control?: string;
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
    .option("--config <file>", "read members and options from a YAML file")
    .addOption(
      new Option("--listen <uri>", `may be given again; default: ${DEFAULT_LISTEN}`).argParser(
        (uri: string, before: string[] = []) => [...before, uri],
      ),
    )
    .option("--control <path>", `the control socket to make, or "none"`)
    .option("--read-only", "write nothing to the members")
    .option("--run", "start although a member is missing")
    .option("--force", "start a parity array that is dirty and degraded")
    .addOption(new Option("--log-level <level>", "default: info").choices(LOG_LEVELS))
    .addOption(new Option("--json", "print an error as a JSON document too"))
    .addHelpText("after", HELP)
    .action(async (members: string[], flags: ServeFlags) => {
      // Loaded here: the other commands start sooner without it.
      const { createLogger } = await import("../serve/logger.ts");
      const { inheritedDescriptors } = await import("../../nbd/listener.ts");
      const { actOnSignals, exitOnBugs } = await import("../serve/process.ts");

      const { stdout, env } = context.terminal;
      const config = flags.config === undefined ? null : await loadConfig(flags.config);
      const descriptors = inheritedDescriptors(env, process.pid);
      for (const name of ACTIVATION_VARIABLES) delete env[name];
      const options = serveOptions(members, flags, config, descriptors, () =>
        ownControlPath(context),
      );
      const level = flags.logLevel ?? config?.logLevel ?? "info";
      const logger = await createLogger(level, context.terminal);
      exitOnBugs(logger);
      const { serve } = await import("../serve/serve.ts");
      await serve(options, logger, {
        listening: (uri) => stdout.write(`listening on ${uri}\n`),
        controllable: (actions) => actOnSignals(actions, logger),
      });
    });
  addAccessOptions(command);
}

const HELP = `
The arrays are exported under their names; a single one also under the empty name.
SIGHUP reads certificates and keys again. nbds:// listens for clients with TLS only.
--control none serves no control socket; so does a start with sockets passed in LISTEN_FDS.

Examples:
  nbd-raid serve a.img b.img
  nbd-raid serve a.img b.img --listen nbd+unix:///?socket=/run/data.sock
  nbd-raid serve --config /etc/nbd-raid.yaml
`;

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
): ServeOptions {
  if (members.length > 0 === (config !== null))
    throw new NbdRaidError("usage", "give either members or --config");
  const listen = flags.listen ?? config?.listen ?? [];
  const control = flags.control ?? config?.control;
  return {
    members: config?.members ?? members.map(absoluteMember),
    listen: listen.length > 0 || descriptors.length > 0 ? listen : [DEFAULT_LISTEN],
    descriptors,
    control: chooseControl(control, descriptors.length > 0, defaultControl),
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
