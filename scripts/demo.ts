/**
 * `npm start`: a mirror of two sparse image files in ./data, made once, served on the default
 * address in the foreground. Nothing that exists is overwritten: `create` refuses it.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { executable, projectRoot } from "./project-root.ts";

const folder = join(projectRoot, "data");
const members = [join(folder, "mirror-0.img"), join(folder, "mirror-1.img")];
const uri = "nbd://127.0.0.1:10809";

const howToAttach = `
  nbdinfo ${uri}
  qemu-img info ${uri}
  nbdcopy disk.img ${uri}
  nbd-client 127.0.0.1 /dev/nbd0          (as root; the kernel's client)

  ./bin/nbd-raid status                   (from another terminal)
  Control-C stops the server and marks the array clean.
`;

function main(): void {
  if (!members.some((path) => existsSync(path))) createMirror();
  serve();
}

function createMirror(): void {
  mkdirSync(folder, { recursive: true });
  const create = ["create", "data", "--level", "1", "--size", "1G", ...members];
  const { status } = spawnSync(process.execPath, [executable, ...create], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

/** Prints how to attach once the server says that it listens; ends with the server's exit code. */
function serve(): void {
  // Detached: a terminal's Control-C reaches this process alone, which passes it on.
  const server = spawn(process.execPath, [executable, "serve", "--listen", uri, ...members], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  server.stdout.pipe(process.stdout);
  server.stdout.once("data", () => process.stdout.write(howToAttach));
  forwardSignals(server);
  server.on("exit", (code, signal) => {
    if (signal !== null) console.error(`nbd-raid was ended by ${signal}`);
    process.exitCode = code ?? 1;
  });
}

/**
 * The server takes a second signal as "exit at once". One Control-C arrives twice here, from the
 * terminal and from npm, so what follows within half a second counts as the same one.
 */
function forwardSignals(server: ChildProcess): void {
  let last = -Infinity;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      const now = performance.now();
      if (now - last > 500) server.kill(signal === "SIGHUP" ? "SIGTERM" : signal);
      last = now;
    });
  }
}

main();
