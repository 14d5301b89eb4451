/** The units of contrib/systemd, as systemd's own programs take them. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished } from "vitest";
import { executable, projectRoot } from "../../scripts/project-root.ts";
import { testWith } from "./fixtures.ts";
import { AF, activate, bindToPath, datagram, newSocket, SOCK } from "./passed-sockets.ts";
import { attempt, run } from "./run.ts";
import type { Server } from "./server.ts";

const test = testWith("systemd-analyze", "systemd-socket-activate", "systemd-sysusers", "nbdinfo");
const units = join(projectRoot, "contrib", "systemd");
/** Tenths, as systemd-analyze counts: from there on it says "medium". */
const EXPOSURE_MAX = 20;

/** Instances named "data" of both units, in `folder`; the program is this checkout's. */
async function instances(folder: string): Promise<string[]> {
  const paths = ["service", "socket"].map((kind) => join(folder, `nbd-raid@data.${kind}`));
  const bin = join(folder, "bin");
  await mkdir(bin);
  await symlink(executable, join(bin, "nbd-raid"));
  for (const path of paths) {
    const text = await readFile(join(units, path.replace(/^.*nbd-raid@data/, "nbd-raid@")), "utf8");
    await writeFile(path, text.replace(/^ExecStart=nbd-raid /m, `ExecStart=${bin}/nbd-raid `));
  }
  return paths;
}

/** What the service runs, with its folders moved into the server's, and its configuration. */
async function serviceCommand(server: Server): Promise<{ command: string[]; control: string }> {
  const text = await readFile(join(units, "nbd-raid@.service"), "utf8");
  const [, words = ""] = /^ExecStart=nbd-raid (.*)$/m.exec(text) ?? [];
  const moved = words
    .replaceAll("%i", "data")
    .replaceAll(/(?<= )\/(etc|run)\//g, `${server.folder}/$1/`)
    .split(" ");
  const config = moved[moved.indexOf("--config") + 1] ?? "";
  const control = moved[moved.indexOf("--control") + 1] ?? "";
  await mkdir(dirname(config), { recursive: true });
  // The server makes one folder at most; this one systemd makes.
  const [, runtime = ""] = /^RuntimeDirectory=(.*)$/m.exec(text) ?? [];
  await mkdir(join(server.folder, "run", runtime.replaceAll("%i", "data")), { recursive: true });
  await writeFile(config, `members: [${server.images.join(", ")}]\n`);
  return { command: [process.execPath, executable, ...moved], control };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** True once somebody listens at the path of a Unix socket. */
async function answers(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isSocket() === true;
}

describe("the units", () => {
  test("are valid to systemd-analyze", async ({ create }) => {
    const { folder } = await create();
    const verify = ["verify", "--man=no", ...(await instances(folder))];
    expect(await attempt("systemd-analyze", verify)).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  test("leave the service little to do harm with", async ({ create }) => {
    const { folder } = await create();
    const [service = ""] = await instances(folder);
    const threshold = `--threshold=${EXPOSURE_MAX}`;
    const security = ["security", "--offline=true", threshold, service];
    const { code, stdout } = await attempt("systemd-analyze", security);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.any(String) as string });
  });

  test("find the user that runs the service", async ({ create }) => {
    const { folder } = await create();
    const file = join(units, "nbd-raid.sysusers");
    const { stderr, code } = await attempt("systemd-sysusers", [
      "--dry-run",
      `--root=${folder}`,
      file,
    ]);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining("nbd-raid") as string,
    });
    const service = await readFile(join(units, "nbd-raid@.service"), "utf8");
    expect(service).toMatch(/^User=nbd-raid$/m);
  });
});

describe("the service's command", () => {
  test("tells systemd when it is ready and when it stops", async ({ create }) => {
    const server = await create();
    const { command, control } = await serviceCommand(server);
    const path = join(server.folder, "notify");
    const manager = bindToPath(newSocket(AF.UNIX, SOCK.DGRAM), path);
    const listen = ["--listen", `nbd+unix:///?socket=${server.socket}`];
    const started = activate([...command, ...listen], [], { LISTEN_FDS: "", NOTIFY_SOCKET: path });
    await started.listening(1);
    while (datagram(manager) !== "READY=1") await sleep(10);
    await run(process.execPath, [executable, "stop", "--control", control]);
    expect(await started.ended).toMatchObject({ code: 0 });
    expect(datagram(manager)).toBe("STOPPING=1");
  });

  test("runs on sockets of systemd's, from the first client on, and obeys", async ({ create }) => {
    const server = await create();
    const { command, control } = await serviceCommand(server);
    const port = await freePort();
    const path = join(server.folder, "nbd.sock");
    const names = "--fdname=tcp:unix";
    const listen = ["-l", `127.0.0.1:${port}`, "-l", path, names];
    const activator = spawn("systemd-socket-activate", [...listen, ...command], {
      stdio: "ignore",
    });
    onTestFinished(() => void activator.kill("SIGKILL"));
    while (!(await answers(path))) await sleep(20);
    expect(await answers(control)).toBe(false); // nobody has asked for it yet
    for (const uri of [`nbd://127.0.0.1:${port}`, `nbd+unix:///?socket=${path}`]) {
      expect((await run("nbdinfo", ["--size", uri])).trim()).toBe(String(64 * 1024 * 1024));
    }
    const idle = connect(path);
    onTestFinished(() => void idle.destroy());
    await once(idle, "data");
    const status = await run(process.execPath, [executable, "status", "--control", control]);
    expect(status).toContain("slots: [UU]");
    const closed = once(activator, "close");
    await run(process.execPath, [executable, "stop", "--control", control]);
    await closed;
    expect(activator.exitCode).toBe(0);
  });
});
