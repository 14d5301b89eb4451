import { styleText } from "node:util";

/** Where output goes: process.stdout and process.stderr, or what a test catches it with. */
export interface Output {
  readonly writable: boolean;
  readonly isTTY?: boolean;
  write(text: string): unknown;
  /** Resolves when all is written: to what was in the way, or null. Without: nothing can be. */
  readonly failure?: () => Promise<Error | null>;
}

/** All that a command touches of the process it runs in. */
export interface Terminal {
  readonly stdout: Output;
  /** Messages. */
  readonly stderr: Output;
  readonly env: NodeJS.ProcessEnv;
}

export type Colour = "red" | "yellow" | "green" | "bold";
export type Paint = (colour: Colour, text: string) => string;

export const plain: Paint = (_colour, text) => text;
export const coloured: Paint = (colour, text) => styleText(colour, text, { validateStream: false });

/** Colour only on a terminal that can, and not if NO_COLOR is set (no-color.org). */
export function paintFor(output: Output, env: NodeJS.ProcessEnv): Paint {
  return output.isTTY && !env["NO_COLOR"] && env["TERM"] !== "dumb" ? coloured : plain;
}

/** One bare document; humans and line tools can both read it. */
export function printJson(output: Output, document: object): void {
  output.write(`${JSON.stringify(document, null, 2)}\n`);
}
