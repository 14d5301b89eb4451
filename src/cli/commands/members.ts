import type { Command } from "commander";
import type { ArrayStatus } from "../../array/status.ts";
import type { ControlClient } from "../../control/client.ts";
import {
  connectControl,
  type Context,
  controlOption,
  jsonOption,
  runningMember,
} from "../context.ts";
import { renderSummary } from "../render/status.ts";
import { printJson } from "../terminal.ts";

interface VerbOptions {
  control?: string;
  json?: true;
  writeMostly?: true;
}

interface Verb {
  readonly name: string;
  readonly description: string;
  readonly example: string;
  run(
    client: ControlClient,
    array: string,
    member: string,
    options: VerbOptions,
  ): Promise<ArrayStatus>;
}

const VERBS: readonly Verb[] = [
  {
    name: "fail",
    description: "eject a member from a running array",
    example: "nbd-raid fail data b.img",
    run: (client, array, member) => client.fail(array, member),
  },
  {
    name: "remove",
    description: "let a failed member or a spare go; its slot is empty then",
    example: "nbd-raid remove data 1",
    run: (client, array, member) => client.remove(array, member),
  },
  {
    name: "re-add",
    description: "take a former member back, copying only what changed meanwhile",
    example: "nbd-raid re-add data b.img",
    run: (client, array, member) => client.reAdd(array, member),
  },
  {
    name: "add",
    description: "take a member in: by bitmap if it may, else in full; or as a spare",
    example: "nbd-raid add data c.img",
    run: (client, array, member, { writeMostly = false }) =>
      client.add(array, member, { writeMostly }),
  },
];

/** fail, remove, re-add, add: each changes the membership and shows the array as it is then. */
export function addMemberVerbs(program: Command, context: Context): void {
  for (const verb of VERBS) {
    const command = program
      .command(verb.name)
      .description(verb.description)
      .argument("<array>")
      .argument("<member>", "a path or a slot number")
      .addOption(controlOption())
      .addOption(jsonOption())
      .addHelpText("after", `\nExample:\n  ${verb.example}\n`)
      .action(async (array: string, member: string, options: VerbOptions) => {
        const client = connectControl(context, options);
        const status = await verb.run(client, array, runningMember(member), options);
        if (options.json) printJson(context.terminal.stdout, { version: 1, arrays: [status] });
        else context.terminal.stdout.write(renderSummary(status));
      });
    if (verb.name === "add") command.option("--write-mostly", "read from it last");
  }
}
