import type { Command } from "commander";
import { connectControl, type Context, controlOption, jsonOption } from "../context.ts";
import { printJson } from "../terminal.ts";

export function addWait(program: Command, context: Context): void {
  program
    .command("wait")
    .description("return when no sync runs or is pending; 4 if the last one failed")
    .argument("<array>")
    .addOption(controlOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  nbd-raid wait data && echo in sync\n")
    .action(async (array: string, options: { control?: string; json?: true }) => {
      await connectControl(context, options).wait(array);
      if (options.json) printJson(context.terminal.stdout, { version: 1 });
    });
}
