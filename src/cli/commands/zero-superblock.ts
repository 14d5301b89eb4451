import type { Command } from "commander";
import { absoluteMember, type Context, jsonOption } from "../context.ts";
import { printJson } from "../terminal.ts";

export function addZeroSuperblock(program: Command, { terminal }: Context): void {
  program
    .command("zero-superblock")
    .description("make members forget their array; their data stays")
    .argument("<member...>")
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  nbd-raid zero-superblock old.img\n")
    .action(async (paths: string[], { json }: { json?: true }) => {
      const { forgetArrays } = await import("../../array/forget.ts");
      const members = paths.map(absoluteMember);
      await forgetArrays(members);
      if (json) printJson(terminal.stdout, { version: 1, members });
    });
}
