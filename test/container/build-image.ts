/** Builds the image once, before the tests of this project. */
import type { TestProject } from "vitest/node";
import { projectRoot } from "../../scripts/project-root.ts";
import { container, IMAGE } from "./engine.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Why there are no containers here, or null: there are. */
    noContainers: string | null;
  }
}

export async function setup(project: TestProject): Promise<void> {
  const up = await container("up");
  const reason = up.code === 0 ? null : (up.stderr.trim().split("\n").at(-1) ?? "");
  if (reason !== null && process.env["CI"] === "true")
    throw new Error(`the tests of the container need an engine: ${reason}`);
  project.provide("noContainers", reason);
  if (reason !== null) return;
  const { code, stdout, stderr } = await container("build", projectRoot, IMAGE);
  if (code !== 0) throw new Error(`the image cannot be built:\n${stdout}${stderr}`);
}
