import type { Command } from "commander";
import { absoluteMember, type Context, jsonOption } from "../context.ts";
import { EXIT_ERROR } from "../failure.ts";
import { renderExamined } from "../render/examine.ts";
import { printJson } from "../terminal.ts";

export function addExamine(program: Command, context: Context): void {
  const { stdout } = context.terminal;
  program
    .command("examine")
    .description("show superblock, bitmap superblock and region counts of members")
    .argument("<member...>")
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  nbd-raid examine a.img b.img\n")
    .action(async (paths: string[], { json }: { json?: true }) => {
      const { examineMember } = await import("../../array/examine.ts");
      const members = await Promise.all(paths.map((path) => examineMember(absoluteMember(path))));
      if (json) printJson(stdout, { version: 1, members });
      else stdout.write(members.map(renderExamined).join("\n"));
      if (members.some(({ error }) => error !== null)) context.exitCode = EXIT_ERROR;
    });
}
