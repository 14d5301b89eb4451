import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { bind } from "../../src/platform/libc.ts";
import { setSendBuffer } from "../../src/platform/socket.ts";
import { temporaryFolder } from "../member/temporary.ts";

const folder = temporaryFolder();
afterAll(folder.dispose);

const getsockopt = bind("int getsockopt(int fd, int level, int option, void *value, void *length)");

function sendBuffer(fd: number): number {
  const value = new Int32Array(1);
  getsockopt?.(fd, 1, 7, value, Uint32Array.of(4));
  return value[0] ?? 0;
}

/** The accepted socket's descriptor; Node shows it on its handle only. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

describe.skipIf(getsockopt === null)("setSendBuffer", () => {
  it("sets a socket's send buffer, and minds no wrong descriptor", async () => {
    const server = createServer();
    server.listen(join(folder.path, "socket"));
    await once(server, "listening");
    const client = createConnection(join(folder.path, "socket"));
    const [accepted] = (await once(server, "connection")) as [Socket];
    const fd = descriptorOf(accepted);
    setSendBuffer(fd, 50_000);
    expect(sendBuffer(fd)).toBe(100_000);
    setSendBuffer(fd, 80_000);
    expect(sendBuffer(fd)).toBe(160_000);
    setSendBuffer(9999, 50_000);
    client.destroy();
    accepted.destroy();
    server.close();
  });
});
