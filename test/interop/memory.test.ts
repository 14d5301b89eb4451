/** What clients can make the real program take, as the kernel counts it, with `--max-memory`. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { COMMAND, encodeRequest, RawClient } from "../nbd/client.ts";
import { testWith } from "./fixtures.ts";
import type { Server } from "./server.ts";

const test = testWith("true");
const KIB = 1024;
const MIB = 2 ** 20;
const MAX_MEMORY = 64 * MIB;
/** One request beyond the limit, small buffers of each, and what V8 has not collected yet. */
const SLACK = (36 + 96) * MIB;

async function residentBytes({ pid }: Server): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * KIB;
}

const GREEDY: [what: string, count: number, request: Buffer][] = [
  [
    "24 clients that ask for 32 MiB",
    24,
    encodeRequest({ command: COMMAND.READ, length: 32 * MIB }),
  ],
  [
    "24 clients that send all but the last byte of 32 MiB",
    24,
    encodeRequest({ command: COMMAND.WRITE, payload: Buffer.alloc(32 * MIB) }).subarray(0, -1),
  ],
];

test.for(GREEDY)(
  "%s cost bounded memory",
  { timeout: 60_000 },
  async ([, count, request], { serve }) => {
    const server = await serve({ serveArgs: ["--max-memory", "64M", "--log-level", "error"] });
    const good = await RawClient.connect(server.socket);
    await good.negotiate("data");
    await good.write(0, Buffer.alloc(4 * MIB, 1));
    await good.read(0, 4 * MIB);
    const before = await residentBytes(server);
    const bad: RawClient[] = [];
    for (let i = 0; i < count; i++) {
      const one = await RawClient.connect(server.socket);
      await one.negotiate("data");
      one.socket.pause();
      one.send(request);
      bad.push(one);
    }
    let most = 0;
    for (let i = 0; i < 30; i++) {
      await good.read(0, 4 * KIB);
      most = Math.max(most, await residentBytes(server));
      await sleep(100);
    }
    for (const one of bad) one.destroy();
    await good.read(0, 4 * MIB);
    good.destroy();
    const grownBytes = most - before;
    console.log(`grown by ${(grownBytes / MIB).toFixed()} MiB`);
    expect(grownBytes).toBeLessThan(MAX_MEMORY + SLACK);
  },
);
