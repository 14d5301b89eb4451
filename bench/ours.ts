import { rm, stat, truncate, writeFile } from "node:fs/promises";
import { ControlClient } from "../src/control/client.ts";
import type { StripeWrites } from "../src/raid/level.ts";
import { Server } from "../test/interop/server.ts";
import type { Measurement } from "./scenario.ts";
import type { BenchArray, RunningTarget } from "./target.ts";

export interface BenchArrayOptions {
  readonly members: number;
  readonly memberMiB: number;
  /** The level among them. */
  readonly createArgs: readonly string[];
}

export interface OurTarget extends RunningTarget {
  readonly array: BenchArray;
}

/** The name that {@link Server} gives its array. */
const NAME = "data";
/** Whom a rebuild replaces. */
const SLOT = "0";

/** An array of ours on new images in a new folder under `folder`, served by the real program. */
export async function startArray(
  { members, memberMiB, createArgs }: BenchArrayOptions,
  folder: string,
): Promise<OurTarget> {
  const size = `${memberMiB}M`;
  const server = await Server.start({ baseDir: folder, members, size, createArgs });
  // Regions that were written stay Dirty, so that a run does not depend on the pauses before it.
  await server.ok("set", NAME, "daemon-sleep", "3600");
  const { uri, socket, pid, images, control } = server;
  const array = {
    fail: (count: number) => failMembers(control, count),
    stripeWrites: () => stripeWrites(control),
    rebuild: () => rebuild(control, images[Number(SLOT)]!),
  };
  return { uri, socket, pid, images, array, stop: () => server.dispose() };
}

async function failMembers(control: string, count: number): Promise<void> {
  const client = new ControlClient(control);
  for (let slot = 0; slot < count; slot++) await client.fail(NAME, String(slot));
}

async function stripeWrites(control: string): Promise<StripeWrites> {
  const { arrays } = await new ControlClient(control).status(NAME);
  const counts = arrays[0]?.stripeWrites;
  if (counts == null) throw new Error("this level writes no stripes");
  return counts;
}

/** From when the recovery is registered until the member is in sync, durably. */
async function rebuild(control: string, image: string): Promise<Measurement> {
  const client = new ControlClient(control);
  await client.fail(NAME, SLOT);
  await client.remove(NAME, SLOT);
  const { size } = await stat(image);
  await rm(image);
  await writeFile(image, "");
  await truncate(image, size);
  await client.add(NAME, image, { writeMostly: false });
  const startedAt = performance.now();
  await client.wait(NAME);
  const seconds = (performance.now() - startedAt) / 1000;
  const { arrays } = await client.status(NAME);
  const last = arrays[0]?.lastSync;
  if (last?.action !== "recovery" || last.result !== "done") throw new Error("no rebuild was done");
  const bytes = last.readBytes + last.writtenBytes;
  return { value: bytes / 1024 ** 2 / seconds, bytes };
}
