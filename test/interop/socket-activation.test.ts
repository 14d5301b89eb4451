/** LISTEN_FDS: libnbd makes the listening socket and starts the server on it, as systemd does. */
import { expect } from "vitest";
import { executable } from "../../scripts/project-root.ts";
import { testWith } from "./fixtures.ts";
import { mdadmExamine } from "./images.ts";

const test = testWith("nbdinfo", "nbdsh", "mdadm");

test("nbdinfo starts the server by socket activation", async ({ create }) => {
  const server = await create();
  const command = [process.execPath, executable, "serve", ...server.images];
  const output = await server.run("nbdinfo", "--size", "--", "[", ...command, "]");
  // The server shares nbdinfo's stdout.
  expect(output.split("\n")).toContain(String(64 * 1024 * 1024));
});

test("what a client wrote through an activated server is there later, clean", async ({
  create,
}) => {
  const server = await create();
  const command = [process.execPath, executable, "serve", ...server.images];
  const connect = `h.connect_systemd_socket_activation(${JSON.stringify(command)})`;
  const write = `${connect}\nh.pwrite(b"activated", 0)\nh.shutdown()`;
  await server.run("nbdsh", "-c", write);
  for (const image of server.images) {
    expect((await mdadmExamine(image)).get("State")).toBe("clean");
  }
  const read = `${connect}\nassert h.pread(9, 0) == b"activated"\nh.shutdown()`;
  await server.run("nbdsh", "-c", read);
});
