import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { attempt } from "../test/interop/run.ts";
import { startArray } from "./ours.ts";
import type { RunningTarget, Target } from "./target.ts";

/** Ours with our bitmap, with md's classic one and without, one plain copy by nbdkit, two copies by qemu's quorum. */
export const MIRROR_TARGETS = {
  lockless: { title: "ours, lockless", start: (...where) => startMirror("lockless", ...where) },
  internal: { title: "ours, internal", start: (...where) => startMirror("internal", ...where) },
  none: { title: "ours, no bitmap", start: (...where) => startMirror("none", ...where) },
  nbdkit: { title: "nbdkit file", start: (...where) => startPeer(nbdkit, 1, ...where) },
  quorum: { title: "qemu-nbd quorum", start: (...where) => startPeer(quorum, 2, ...where) },
} as const satisfies Readonly<Record<string, Target>>;

function startMirror(bitmap: string, folder: string, sizeMiB: number): Promise<RunningTarget> {
  const createArgs = ["--level", "1", "--bitmap", bitmap];
  return startArray({ members: 2, memberMiB: sizeMiB, createArgs }, folder);
}

type Command = (socket: string, images: readonly string[]) => [program: string, args: string[]];

const nbdkit: Command = (socket, [image = ""]) => [
  "nbdkit",
  ["--foreground", "--exit-with-parent", "--unix", socket, "file", image],
];

const quorum: Command = (socket, images) => {
  const children = images.flatMap((image, index) => [
    `children.${index}.driver=raw`,
    `children.${index}.file.driver=file`,
    `children.${index}.file.filename=${image}`,
  ]);
  const options = ["driver=quorum", "read-pattern=fifo", "vote-threshold=1", ...children];
  const args = ["--socket", socket, "--persistent", "--shared=4", "--image-opts"];
  return ["qemu-nbd", [...args, options.join(",")]];
};

async function startPeer(
  command: Command,
  copies: number,
  parent: string,
  sizeMiB: number,
): Promise<RunningTarget> {
  const folder = await mkdtemp(join(parent, "peer-"));
  const images = Array.from({ length: copies }, (_, index) => join(folder, `copy-${index}.img`));
  for (const image of images) {
    const file = await open(image, "wx");
    await file.truncate(sizeMiB * 1024 * 1024);
    await file.close();
  }
  const socket = join(folder, "nbd.sock");
  const child = spawn(...command(socket, images), { stdio: ["ignore", "ignore", "inherit"] });
  await once(child, "spawn");
  const uri = `nbd+unix:///?socket=${socket}`;
  await serves(uri);
  return {
    uri,
    socket,
    pid: child.pid ?? 0,
    images,
    array: null,
    stop: async () => {
      child.kill("SIGTERM");
      await once(child, "exit");
      await rm(folder, { recursive: true });
    },
  };
}

/** Resolves once the peer serves; it gets ten seconds. */
async function serves(uri: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const { code } = await attempt("nbdinfo", ["--size", uri]);
    if (code === 0) return;
    await delay(50);
  }
  throw new Error(`nothing serves ${uri}`);
}
