import type { Command } from "commander";
import type { SyncVerb } from "../../array/status.ts";
import { connectControl, type Context, controlOption, jsonOption } from "../context.ts";
import { renderSummary } from "../render/status.ts";
import { printJson } from "../terminal.ts";

interface SyncVerbOptions {
  control?: string;
  json?: true;
  wait?: true;
}

/** Names and words are md's (`sync_action`). */
const VERBS: Readonly<Record<SyncVerb, string>> = {
  check: "read everything and count what differs; write only what cannot be read",
  repair: "the same, and make it consistent",
  resync: "the same, but believe no parity of a degraded array that a crash may have torn",
  idle: "stop what runs; what is needed starts again",
  frozen: "stop what runs and let nothing start, until idle, check, repair or resync",
};

/** check, repair, resync, idle, frozen: each shows the array as it is afterwards. */
export function addSyncVerbs(program: Command, context: Context): void {
  for (const [verb, description] of Object.entries(VERBS) as [SyncVerb, string][]) {
    program
      .command(verb)
      .description(description)
      .argument("<array>")
      .option("--wait", "return when no sync runs or is pending; 4 if the last one failed")
      .addOption(controlOption())
      .addOption(jsonOption())
      .addHelpText("after", `\nExample:\n  nbd-raid ${verb} data\n`)
      .action(async (array: string, options: SyncVerbOptions) => {
        const client = connectControl(context, options);
        let status = await client.sync(array, verb);
        // What is frozen stays pending: there is nothing to wait for.
        if (options.wait && verb !== "frozen") {
          await client.wait(array);
          [status = status] = (await client.status(array)).arrays;
        }
        if (options.json) printJson(context.terminal.stdout, { version: 1, arrays: [status] });
        else context.terminal.stdout.write(renderSummary(status));
      });
  }
}
