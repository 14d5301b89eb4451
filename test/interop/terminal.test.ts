/** A server started by hand, on a terminal that goes away: a window closed, a connection lost. */
import { expect } from "vitest";
import { executable } from "../../scripts/project-root.ts";
import { testWith } from "./fixtures.ts";
import { mdadmExamine } from "./images.ts";

const test = testWith("python3", "mdadm", "nbdsh");

/** Starts its arguments on a terminal of their own, writes to the server, and takes it away. */
const SCRIPT = `
import os, pty, subprocess, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
said = b""
while b"listening" not in said:
    said += os.read(terminal, 4096)
write = ["nbdsh", "--uri", sys.argv[1], "-c", 'h.pwrite(b"x", 0)']
subprocess.run(write, check=True)
os.close(terminal)
_, status = os.waitpid(pid, 0)
print("exit code", os.WEXITSTATUS(status) if os.WIFEXITED(status) else status)
`;

test("a terminal that is gone stops the server, and the arrays are clean", async ({ create }) => {
  const server = await create();
  const uri = `nbd+unix:///?socket=${server.socket}`;
  const serve = ["serve", "--listen", uri, "--control", server.control, ...server.images];
  const program = [process.execPath, executable, ...serve];
  expect(await server.run("python3", "-c", SCRIPT, uri, ...program)).toBe("exit code 0\n");
  for (const image of server.images) expect((await mdadmExamine(image)).get("State")).toBe("clean");
});
