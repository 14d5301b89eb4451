import { type Command, Option } from "commander";
import { NbdRaidError } from "../../errors.ts";
import { type Context, jsonOption, memberIn } from "../context.ts";
import { printable } from "../render/printable.ts";
import { formatBytes, parseSize } from "../sizes.ts";
import { printJson } from "../terminal.ts";

const LEVELS = ["0", "1", "4", "5", "6", "10", "linear"] as const;
type Level = (typeof LEVELS)[number];
const BITMAPS = ["lockless", "internal", "none"] as const;

interface CreateOptions {
  level: Level;
  size?: number;
  chunk?: number;
  layout?: string;
  bitmap?: (typeof BITMAPS)[number];
  regionSize?: number;
  assumeClean?: true;
  preallocate?: true;
  spares?: number;
  writeMostly?: string[];
  force?: true;
  json?: true;
}

export function addCreate(program: Command, { terminal, directory = "." }: Context): void {
  program
    .command("create")
    .description("make an array of image files; absent ones are made with --size")
    .argument("<name>", "the array's and the export's name, at most 32 bytes")
    .argument("<member...>", '"missing" leaves a slot empty')
    .addOption(new Option("--level <level>").choices(LEVELS).makeOptionMandatory())
    .addOption(
      new Option(
        "--size <size>",
        "usable bytes of a member, rounded up to chunks; level 1: to 64K",
      ).argParser(parseSize),
    )
    .addOption(
      new Option("--chunk <size>", "the striping unit; default: 512K").argParser(parseSize),
    )
    .option("--layout <name>", "how chunks are laid out, by mdadm's name for it")
    .addOption(
      new Option(
        "--bitmap <type>",
        "internal is md's; default: lockless, or none for 0 and linear",
      ).choices(BITMAPS),
    )
    .addOption(
      new Option("--region-size <size>", "what one state of the bitmap covers").argParser(
        parseSize,
      ),
    )
    .option("--assume-clean", "keep the members' data, which is equal already")
    .option("--preallocate", "allocate the members' space")
    .addOption(new Option("--spares <n>", "the last members are spares").argParser(parseCount))
    .addOption(
      new Option(
        "--write-mostly <member>",
        "read from it last (levels 1, 10); may be given again",
      ).argParser((member: string, before: string[] = []) => [
        ...before,
        memberIn(directory, member),
      ]),
    )
    .option("--force", "take members that hold data, and overwrite it")
    .addOption(jsonOption())
    .addHelpText("after", HELP)
    .action(async (name: string, given: string[], options: CreateOptions) => {
      const { createArray } = await import("../../array/create.ts");
      const members = given.map((one) => (one === "missing" ? one : memberIn(directory, one)));
      const created = await createArray({
        name,
        level: options.level,
        members,
        bitmap: options.bitmap ?? defaultBitmap(options.level),
        assumeClean: options.assumeClean ?? false,
        preallocate: options.preallocate ?? false,
        spares: options.spares ?? 0,
        writeMostly: options.writeMostly ?? [],
        force: options.force ?? false,
        ...(options.size === undefined ? {} : { sizeBytes: options.size }),
        ...(options.chunk === undefined ? {} : { chunkBytes: options.chunk }),
        ...(options.layout === undefined ? {} : { layout: options.layout }),
        ...(options.regionSize === undefined ? {} : { regionBytes: options.regionSize }),
      });
      if (options.json) {
        const { uuid, sizeBytes, members } = created;
        printJson(terminal.stdout, { version: 1, name, uuid, size: sizeBytes, members });
      } else {
        const size = `${formatBytes(created.sizeBytes)} (${created.sizeBytes} bytes)`;
        terminal.stdout.write(`${printable(name)}: ${size}, uuid ${created.uuid}\n`);
      }
    });
}

const HELP = `
Examples:
  nbd-raid create data --level 1 --size 10G a.img b.img     two copies of 10 GiB
  nbd-raid create data --level 1 --size 10G a.img missing   one now, the other by add later
  nbd-raid create data --level 5 --size 10G a.img b.img c.img          20 GiB, any one may fail
  nbd-raid create data --level 10 --layout f2 --size 10G a.img b.img c.img   two copies, far apart
  nbd-raid create data --level linear a.img b.img           one behind the other, as they are
--assume-clean keeps the data areas of former members, which start at a data offset (examine shows
it). It does not take over a raw image: copy that in with nbdcopy or qemu-img.
`;

function defaultBitmap(level: Level): "lockless" | "none" {
  return level === "0" || level === "linear" ? "none" : "lockless";
}

function parseCount(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new NbdRaidError("usage", `"${text}" is not a number`);
  return Number(text);
}
