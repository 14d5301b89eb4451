import type { Command } from "commander";
import type { ArraySettings } from "../../array/status.ts";
import type { ControlClient } from "../../control/client.ts";
import { NbdRaidError } from "../../errors.ts";
import {
  connectControl,
  type Context,
  controlOption,
  jsonOption,
  runningMember,
} from "../context.ts";
import { parseDuration, parseSpeed } from "../sizes.ts";
import { printJson } from "../terminal.ts";

type Apply = (client: ControlClient, array: string, value: string) => Promise<unknown>;

const setting =
  (key: keyof ArraySettings, parse: (text: string) => number): Apply =>
  (client, array, value) =>
    client.set(array, { [key]: parse(value) });

const SETTINGS: Readonly<Record<string, Apply>> = {
  "sync-speed-min": setting("syncSpeedMin", parseSpeed),
  "sync-speed-max": setting("syncSpeedMax", parseSpeed),
  "daemon-sleep": setting("daemonSleepMs", parseDuration),
  "barrier-idle": setting("barrierIdleMs", parseDuration),
  "write-mostly": (client, array, value) => {
    const { member, writeMostly } = parseWriteMostly(value);
    return client.setWriteMostly(array, member, writeMostly);
  },
};

export function addSet(program: Command, context: Context): void {
  const names = Object.keys(SETTINGS);
  program
    .command("set")
    .description("change a setting of a running array, until it stops")
    .argument("<array>")
    .argument("<setting>", names.join(", "))
    .argument("<value>", "bytes a second; seconds, or 500ms; MEMBER or MEMBER=off")
    .addOption(controlOption())
    .addOption(jsonOption())
    .addHelpText("after", HELP)
    .action(
      async (
        array: string,
        name: string,
        value: string,
        options: { control?: string; json?: true },
      ) => {
        const apply = Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : undefined;
        if (apply === undefined)
          throw new NbdRaidError("usage", `no setting "${name}": there are ${names.join(", ")}`);
        await apply(connectControl(context, options), array, value);
        if (options.json) printJson(context.terminal.stdout, { version: 1 });
      },
    );
}

const HELP = `
Speeds are a member's bytes a second, 0 for no limit. write-mostly is kept in the superblock.

Examples:
  nbd-raid set data sync-speed-max 200M
  nbd-raid set data daemon-sleep 30
  nbd-raid set data write-mostly 1=off
`;

/** `MEMBER` or `MEMBER=on` sets the mark, `MEMBER=off` takes it away. */
export function parseWriteMostly(value: string): { member: string; writeMostly: boolean } {
  const [, member = value, mark = "on"] = /^(.+)=(on|off)$/.exec(value) ?? [];
  return { member: runningMember(member), writeMostly: mark === "on" };
}
