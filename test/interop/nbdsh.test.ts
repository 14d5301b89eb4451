/**
 * Requests that a well-behaved client never sends, from libnbd with its own checks switched off:
 * each gets the errno of the NBD specification ("Error values"), the connection lives on where
 * it can, and another client is served as if nothing had happened.
 */
import { expect } from "vitest";
import { ILLEGAL_REQUESTS, REFUSED } from "./clients/illegal-requests.ts";
import { testWith } from "./fixtures.ts";
import { attempt, run } from "./run.ts";

const test = testWith("nbdsh");

const stillConnected = `
h.pwrite(b"still here", 4096)
assert h.pread(10, 4096) == b"still here"
`;
const otherClient = `
h.pwrite(b"other client", 8192)
h.flush()
assert h.pread(12, 8192) == b"other client"
`;

test.for(ILLEGAL_REQUESTS)(
  "%s is refused, and the connection lives",
  async ([, script], { serve }) => {
    const server = await serve();
    await run("nbdsh", ["--uri", server.uri, "-c", REFUSED + script + stillConnected]);
    await run("nbdsh", ["--uri", server.uri, "-c", otherClient]);
  },
);

const zeroLengths = ["h.pread(0, 0)", "h.pwrite(b'', 0)", "h.trim(0, 0)", "h.zero(0, 0)"];

test.for(zeroLengths)("%s succeeds", async (script, { serve }) => {
  const server = await serve();
  await run("nbdsh", ["--uri", server.uri, "-c", `${REFUSED}\n${script}\n${stillConnected}`]);
  await run("nbdsh", ["--uri", server.uri, "-c", otherClient]);
});

test("a write of 65 MiB ends that client at most", async ({ serve }) => {
  const server = await serve();
  const script = "refused(range(200), h.pwrite, bytes(65 << 20), 0)";
  await run("nbdsh", ["--uri", server.uri, "-c", REFUSED + script]);
  await run("nbdsh", ["--uri", server.uri, "-c", otherClient]);
});

test("on a read-only server every way to write is refused with EPERM", async ({ create }) => {
  const server = await create();
  await server.start(server.images, ["--read-only"]);
  const script = `
refused([errno.EPERM], h.pwrite, b"x", 0)
refused([errno.EPERM], h.trim, 512, 0)
refused([errno.EPERM], h.zero, 512, 0)
h.flush()
assert h.pread(512, 0) == bytes(512)
`;
  await run("nbdsh", ["--uri", server.uri, "-c", REFUSED + script]);
});

test("a client that dies with requests under way harms no other", async ({ serve }) => {
  const server = await serve();
  const script = `
import os
for i in range(64):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(1 << 20)), i << 20)
os._exit(7)
`;
  const died = await attempt("nbdsh", ["--uri", server.uri, "-c", REFUSED + script]);
  expect(died.code).toBe(7);
  await run("nbdsh", ["--uri", server.uri, "-c", otherClient]);
});

test("FUA writes, TRIM and WRITE_ZEROES do what they say", async ({ serve }) => {
  const server = await serve();
  const script = `
h.pwrite(b"\\x55" * (1 << 20), 0, flags=nbd.CMD_FLAG_FUA)
h.zero(65536, 4096)
h.zero(65536, 131072, flags=nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(65536, 524288, flags=nbd.CMD_FLAG_FUA)
h.cache(1 << 20, 0)
assert h.pread(4096, 0) == b"\\x55" * 4096
assert h.pread(69632, 0) == b"\\x55" * 4096 + bytes(65536)
assert h.pread(4096, 655360) == b"\\x55" * 4096
`;
  await run("nbdsh", ["--uri", server.uri, "-c", REFUSED + script]);
});
