import { closeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { bind } from "../../src/platform/libc.ts";
import { notify } from "../../src/platform/notify.ts";
import { temporaryFolder } from "../member/temporary.ts";

const folder = temporaryFolder();
afterAll(folder.dispose);

const socket = bind("int socket(int domain, int type, int protocol)");
const bindTo = bind("int bind(int fd, void *address, uint32_t length)");
const receive = bind("int64_t recv(int fd, void *bytes, size_t length, int flags)");
const MSG_DONTWAIT = 0x40;

/** A datagram socket at a sun_path, and what has arrived there. */
function manager(path: string): () => string | null {
  const fd = socket?.(1, 2, 0) ?? -1;
  onTestFinished(() => closeSync(fd));
  const address = Buffer.concat([new Uint8Array(Uint16Array.of(1).buffer), Buffer.from(path)]);
  expect(bindTo?.(fd, address, address.length)).toBe(0);
  return () => {
    const bytes = Buffer.alloc(100);
    const count = receive?.(fd, bytes, bytes.length, MSG_DONTWAIT) ?? -1;
    return count < 0 ? null : bytes.toString("utf8", 0, count);
  };
}

describe.skipIf(socket === null)("notify", () => {
  it("reaches the socket at a path", () => {
    const path = join(folder.path, "notify");
    const received = manager(path);
    expect(notify(path, "READY=1")).toBe(true);
    expect(notify(path, "STOPPING=1")).toBe(true);
    expect([received(), received(), received()]).toEqual(["READY=1", "STOPPING=1", null]);
  });

  it("reaches an abstract socket", () => {
    const name = `nbd-raid-test-${process.pid}`;
    const received = manager(`\0${name}`);
    expect(notify(`@${name}`, "READY=1")).toBe(true);
    expect(received()).toBe("READY=1");
  });
});

describe("notify says that nobody was told", () => {
  it.each([
    ["nobody is there", "/nowhere/at/all"],
    ["nobody is there, in the abstract", "@nbd-raid-nobody"],
    ["the address is of another kind", "vsock:2:1234"],
    ["the address is empty", ""],
    ["the address has no name", "/"],
    ["the path is too long", `/${"x".repeat(108)}`],
  ])("where %s", (_, address) => {
    expect(notify(address, "READY=1")).toBe(false);
  });
});
