import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, readdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { ControlClient } from "../../src/control/client.ts";
import { FakeArray } from "./fake-array.ts";
import { runControl, temporaryFolder } from "./running.ts";

const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

describe("the control socket", () => {
  test("is private, and so is a folder made for it, whatever the umask", async () => {
    const umask = process.umask(0);
    try {
      const { path } = await runControl({ path: join(await temporaryFolder(), "a/c.sock") });
      expect(await modeOf(path)).toBe(0o600);
      expect(await modeOf(dirname(path))).toBe(0o700);
      expect(process.umask()).toBe(0);
    } finally {
      process.umask(umask);
    }
  });

  test("lies in a folder that exists without changing it", async () => {
    const folder = join(await temporaryFolder(), "open");
    await mkdir(folder);
    await chmod(folder, 0o755);
    const { path } = await runControl({ path: join(folder, "c.sock") });
    expect(await modeOf(folder)).toBe(0o755);
    expect(await readdir(folder)).toEqual(["c.sock"]);
    expect(path).toBe(join(folder, "c.sock"));
  });

  test("replaces a stale one, which a killed server left", async () => {
    const path = join(await temporaryFolder(), "c.sock");
    const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(process.execPath, ["-e", script]);
    expect((await stat(path)).isSocket()).toBe(true);
    await runControl({ path, arrays: [new FakeArray()] });
    expect((await new ControlClient(path).status()).arrays).toHaveLength(1);
  });

  test("of a server that answers is left alone", async () => {
    const { path } = await runControl({ arrays: [new FakeArray({ name: "first" })] });
    await expect(runControl({ path })).rejects.toMatchObject({ code: "control-in-use" });
    const { arrays } = await new ControlClient(path).status();
    expect(arrays.map(({ name }) => name)).toEqual(["first"]);
  });

  test("never replaces a file that is not a socket", async () => {
    const path = join(await temporaryFolder(), "precious");
    await writeFile(path, "data");
    await expect(runControl({ path })).rejects.toMatchObject({ code: "control-in-use" });
    expect(await readFile(path, "utf8")).toBe("data");
  });

  test("is gone after close", async () => {
    const { path, control } = await runControl({});
    await control.close();
    expect(existsSync(path)).toBe(false);
    expect(await readdir(dirname(path))).toEqual([]);
  });

  test("of a later server stays when the earlier one closes", async () => {
    const { path, control } = await runControl({});
    const { rename } = await import("node:fs/promises");
    await rename(path, `${path}.aside`);
    await runControl({ path, arrays: [new FakeArray()] });
    await control.close();
    expect((await new ControlClient(path).status()).arrays).toHaveLength(1);
  });

  test("is not made where more than its folder is missing, which is left to whoever meant it", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "a/b/c.sock");
    await expect(runControl({ path })).rejects.toMatchObject({ code: "usage" });
    expect(await readdir(folder)).toEqual([]);
  });

  test.each(["/proc/nbd-raid/c.sock", "/proc/nbd-raid/a/c.sock"])(
    "is refused at %s, where no folder can be made",
    async (path) => {
      await expect(runControl({ path })).rejects.toMatchObject({
        code: "usage",
        message: expect.stringContaining("the control socket") as string,
      });
    },
    5000,
  );

  test("with a path too long for the system is refused, not cut", async () => {
    const path = join(await temporaryFolder(), "x".repeat(100));
    await expect(runControl({ path })).rejects.toMatchObject({ code: "usage" });
  });
});
