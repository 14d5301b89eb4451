import type { Command } from "commander";
import { connectControl, type Context, controlOption, jsonOption } from "../context.ts";
import { printJson } from "../terminal.ts";

export function addStop(program: Command, context: Context): void {
  program
    .command("stop")
    .description("stop the server; returns when it has marked its arrays clean and exited")
    .addOption(controlOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  nbd-raid stop\n")
    .action(async (options: { control?: string; json?: true }) => {
      await connectControl(context, options).stop();
      if (options.json) printJson(context.terminal.stdout, { version: 1 });
    });
}
