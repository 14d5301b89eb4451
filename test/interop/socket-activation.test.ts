/** LISTEN_FDS: somebody else makes the listening sockets and starts the server on them. */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, onTestFinished } from "vitest";
import { executable } from "../../scripts/project-root.ts";
import { testWith } from "./fixtures.ts";
import { digest, mdadmExamine } from "./images.ts";
import { activate, AF, bindToPath, bindToPort, listen, newSocket, SOCK } from "./passed-sockets.ts";
import type { Server } from "./server.ts";

const test = testWith("nbdinfo", "nbdsh", "mdadm");
const SIZE = String(64 * 1024 * 1024);

const serveCommand = (server: Server, ...args: string[]) => [
  process.execPath,
  executable,
  "serve",
  ...args,
  ...server.images,
];

describe("libnbd, as activator,", () => {
  test("nbdinfo starts the server", async ({ create }) => {
    const server = await create();
    const output = await server.run("nbdinfo", "--size", "--", "[", ...serveCommand(server), "]");
    // The server shares nbdinfo's stdout.
    expect(output.split("\n")).toContain(SIZE);
  });

  test("finds later what it wrote, and the members clean", async ({ create }) => {
    const server = await create();
    const command = JSON.stringify(serveCommand(server));
    const start = `h.connect_systemd_socket_activation(${command})`;
    const write = `${start}\nh.pwrite(b"activated", 0)\nh.shutdown()`;
    await server.run("nbdsh", "-c", write);
    for (const image of server.images) {
      expect((await mdadmExamine(image)).get("State")).toBe("clean");
    }
    const read = `${start}\nassert h.pread(9, 0) == b"activated"\nh.shutdown()`;
    await server.run("nbdsh", "-c", read);
  });
});

describe("sockets that are passed", () => {
  test("serve by TCP and by Unix together, and are still there for the next server", async ({
    create,
  }) => {
    const server = await create();
    const path = join(server.folder, "passed.sock");
    const sockets = [
      listen(bindToPort(newSocket(AF.INET, SOCK.STREAM))),
      listen(bindToPath(newSocket(AF.UNIX, SOCK.STREAM), path)),
    ];
    for (let turn = 0; turn < 2; turn++) {
      const names = { LISTEN_FDNAMES: "nbd:local" };
      const activated = activate(serveCommand(server), sockets, names);
      const uris = await activated.listening(2);
      expect(uris).toEqual([
        expect.stringMatching(/^nbd:\/\/127\.0\.0\.1:\d+$/),
        `nbd+unix:///?socket=${path}`,
      ]);
      for (const uri of uris) {
        expect((await server.run("nbdinfo", "--size", uri)).trim()).toBe(SIZE);
      }
      expect(await activated.stop()).toMatchObject({ code: 0 });
      expect(existsSync(path)).toBe(true);
    }
  });

  // As under systemd's PrivateNetwork=yes: nothing there tells the socket's path.
  test.skipIf(spawnSync("unshare", ["-rn", "true"]).status !== 0)(
    "serve from within a network namespace that has no other",
    async ({ create }) => {
      const server = await create();
      const path = join(server.folder, "passed.sock");
      const passed = listen(bindToPath(newSocket(AF.UNIX, SOCK.STREAM), path));
      const alone = ["unshare", "-rn", ...serveCommand(server)];
      const activated = activate(alone, [passed]);
      expect(await activated.listening(1)).toEqual(["nbd+unix:///?socket="]);
      const uri = `nbd+unix:///?socket=${path}`;
      expect((await server.run("nbdinfo", "--size", uri)).trim()).toBe(SIZE);
      expect(await activated.stop()).toMatchObject({ code: 0 });
    },
  );

  test("are not for programs that the server starts", async ({ create }) => {
    const server = await create();
    const passed = listen(bindToPort(newSocket(AF.INET, SOCK.STREAM)));
    const activated = activate(serveCommand(server), [passed]);
    await activated.listening(1);
    const info = await readFile(`/proc/${activated.pid}/fdinfo/3`, "utf8");
    const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? "", 8);
    expect(flags & 0o2000000).toBe(0o2000000); // O_CLOEXEC
  });

  test("come with further listeners and a control socket if these are asked for", async ({
    create,
  }) => {
    const server = await create();
    const passed = listen(bindToPort(newSocket(AF.INET, SOCK.STREAM)));
    const own = ["--listen", `nbd+unix:///?socket=${server.socket}`];
    const alone = activate(serveCommand(server), [passed]);
    await alone.listening(1);
    expect((await server.cli("status")).code).toBe(3);
    await alone.stop();
    const command = serveCommand(server, ...own, "--control", server.control);
    const asked = activate(command, [passed]);
    expect((await asked.listening(2))[1]).toBe(`nbd+unix:///?socket=${server.socket}`);
    expect((await server.cli("status")).code).toBe(0);
    await server.ok("stop");
    expect(await asked.ended).toMatchObject({ code: 0 });
  });

  test("for another process are left alone", async ({ create }) => {
    const server = await create();
    const path = join(server.folder, "passed.sock");
    const passed = listen(bindToPath(newSocket(AF.UNIX, SOCK.STREAM), path));
    const uri = `nbd+unix:///?socket=${server.socket}`;
    const command = serveCommand(server, "--listen", uri, "--control", "none");
    const activated = activate(command, [passed], { LISTEN_PID: "1" });
    expect(await activated.listening(1)).toEqual([uri]);
    const client = connect(path);
    onTestFinished(() => void client.destroy());
    await once(client, "connect"); // the kernel's queue takes it
    const greeting = await Promise.race([
      once(client, "data").then(() => "greeted"),
      server.run("nbdinfo", "--size", uri),
    ]);
    expect(greeting.trim()).toBe(SIZE);
    expect(await activated.stop()).toMatchObject({ code: 0 });
  });
});

/** What is no listening stream socket, by what it is. */
const UNFIT: Readonly<Record<string, (folder: string) => number>> = {
  "a file": (folder) => opened(join(folder, "file"), "w"),
  "a device": () => opened("/dev/null", "r+"),
  "a datagram socket": () => bindToPort(newSocket(AF.INET, SOCK.DGRAM)),
  "a Unix datagram socket": (folder) =>
    bindToPath(newSocket(AF.UNIX, SOCK.DGRAM), join(folder, "datagrams")),
  "a socket of packets": (folder) =>
    listen(bindToPath(newSocket(AF.UNIX, SOCK.SEQPACKET), join(folder, "packets"))),
  // Node would listen on it, at a port of every address.
  "a socket that is not bound": () => newSocket(AF.INET, SOCK.STREAM),
  "a socket that does not listen": () => bindToPort(newSocket(AF.INET, SOCK.STREAM)),
};

describe("the server refuses, in one line, and writes nothing, when passed", () => {
  for (const [what, make] of Object.entries(UNFIT)) {
    test(what, async ({ create }) => {
      const server = await create();
      const before = await Promise.all(server.images.map(digest));
      const good = listen(bindToPort(newSocket(AF.INET, SOCK.STREAM)));
      const activated = activate(serveCommand(server), [good, make(server.folder)]);
      const { code, stderr } = await activated.ended;
      expect(code).toBe(4);
      expect(stderr).toMatch(/^nbd-raid: .*descriptor 4.* \(pass listening .*\)\n$/);
      expect(await Promise.all(server.images.map(digest))).toEqual(before);
    });
  }
});

function opened(path: string, flags: string): number {
  const fd = openSync(path, flags);
  onTestFinished(() => closeSync(fd));
  return fd;
}
