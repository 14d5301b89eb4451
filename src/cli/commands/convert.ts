import { type Command, Option } from "commander";
import { absoluteMember, type Context, jsonOption } from "../context.ts";
import { renderConverted } from "../render/convert.ts";
import { parseSize } from "../sizes.ts";
import { printJson } from "../terminal.ts";

const BITMAPS = ["lockless", "internal", "none"] as const;

interface ConvertOptions {
  bitmap: (typeof BITMAPS)[number];
  regionSize?: number;
  json?: true;
}

export function addConvert(program: Command, { terminal }: Context): void {
  program
    .command("convert")
    .description("give an array that is whole, clean and not served another bitmap")
    .argument("<member...>", "all of its members, spares too")
    .addOption(new Option("--bitmap <type>").choices(BITMAPS).makeOptionMandatory())
    .addOption(
      new Option("--region-size <size>", "what one state of the bitmap covers").argParser(
        parseSize,
      ),
    )
    .addOption(jsonOption())
    .addHelpText("after", HELP)
    .action(async (paths: string[], { bitmap, regionSize, json }: ConvertOptions) => {
      const { convertArray } = await import("../../array/convert.ts");
      const converted = await convertArray(paths.map(absoluteMember), {
        bitmap,
        ...(regionSize === undefined ? {} : { regionBytes: regionSize }),
      });
      if (json) printJson(terminal.stdout, { version: 1, ...converted });
      else terminal.stdout.write(renderConverted(converted));
    });
}

const HELP = `
Examples:
  nbd-raid convert a.img b.img --bitmap internal    for kernels without the lockless bitmap
  nbd-raid convert a.img b.img --bitmap lockless --region-size 1M
What clients wrote stays as it is. What the lockless bitmap knows to be unwritten is forgotten.
`;
