import type { Command } from "commander";
import { absoluteMember, type Context, jsonOption } from "../context.ts";
import { EXIT_ERROR } from "../failure.ts";
import { renderAssembly } from "../render/assembly.ts";
import { printJson } from "../terminal.ts";

export function addAssemble(program: Command, context: Context): void {
  const { stdout } = context.terminal;
  program
    .command("assemble")
    .description("show what serve would do with these members, and why; changes nothing")
    .argument("<member...>")
    .requiredOption("--check", "only look")
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  nbd-raid assemble --check a.img b.img\n")
    .action(async (paths: string[], { json }: { json?: true }) => {
      const { checkAssembly } = await import("../../array/check-assembly.ts");
      const arrays = await checkAssembly(paths.map(absoluteMember));
      if (json) printJson(stdout, { version: 1, arrays });
      else stdout.write(arrays.map(renderAssembly).join("\n"));
      if (arrays.some(({ verdict }) => verdict !== "start")) context.exitCode = EXIT_ERROR;
    });
}
