/** The container engine, reached as scripts/container.sh reaches it. */
import { join } from "node:path";
import { projectRoot } from "../../scripts/project-root.ts";
import { attempt, type CommandResult } from "../interop/run.ts";

const script = join(projectRoot, "scripts", "container.sh");

/** What the Dockerfile is built as. */
export const IMAGE = "nbd-raid:test";

/** A command of scripts/container.sh. */
export function container(...args: string[]): Promise<CommandResult> {
  return attempt(script, args);
}

/** A command of docker's that must succeed; returns its stdout. */
export async function docker(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await container("docker", ...args);
  if (code === 0) return stdout.trim();
  throw new Error(`docker ${args.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
}

/** Runs the image to its end with a folder as /data, and removes the container. */
export function runOnce(
  folder: string,
  args: readonly string[],
  options: readonly string[] = [],
): Promise<CommandResult> {
  return container("run", "--rm", "-v", `${folder}:/data`, ...options, IMAGE, ...args);
}
