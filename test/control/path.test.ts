import { chmod, chown, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { controlPath } from "../../src/control/path.ts";
import { temporaryFolder } from "./running.ts";

// For root the private folder is never asked for: the tests then play another user.
const user = process.getuid?.() || 4711;
const denied = expect.objectContaining({ code: "control-denied" }) as Error;

describe("the control socket's path", () => {
  const env = { NBD_RAID_CONTROL: "/env.sock", XDG_RUNTIME_DIR: "/run/user/7" };
  const nowhere = "/no/such/folder";

  test.each([
    ["as given", "/given.sock", env, 0, "/given.sock"],
    ["$NBD_RAID_CONTROL", undefined, env, 0, "/env.sock"],
    [
      "$XDG_RUNTIME_DIR",
      undefined,
      { XDG_RUNTIME_DIR: "/run/user/7" },
      0,
      "/run/user/7/nbd-raid.sock",
    ],
    ["/run for root", undefined, {}, 0, "/run/nbd-raid.sock"],
    ["a private folder", undefined, {}, 7, "/no/such/folder/nbd-raid-7/control.sock"],
    [
      "empty variables are none",
      undefined,
      { NBD_RAID_CONTROL: "", XDG_RUNTIME_DIR: "" },
      0,
      "/run/nbd-raid.sock",
    ],
  ])("%s", (_what, given, variables, user, expected) => {
    const found = controlPath(given, { env: variables, uid: user, temporaryFolder: nowhere });
    expect(found).toBe(expected);
  });

  test("is in a folder under the temporary one only if that is private", async () => {
    const folder = await temporaryFolder();
    const own = join(folder, `nbd-raid-${user}`);
    const ask = () => controlPath(undefined, { env: {}, uid: user, temporaryFolder: folder });
    await mkdir(own);
    await chown(own, user, -1);
    await chmod(own, 0o700);
    expect(ask()).toBe(join(own, "control.sock"));
    await chmod(own, 0o710);
    expect(ask).toThrowError(denied);
  });

  test("is not in a folder of another user, nor behind a symbolic link", async () => {
    const folder = await temporaryFolder();
    const ask = (asUser: number) => () =>
      controlPath(undefined, { env: {}, uid: asUser, temporaryFolder: folder });
    await mkdir(join(folder, "nbd-raid-4712"), { mode: 0o700 });
    await symlink(await temporaryFolder(), join(folder, `nbd-raid-${user}`));
    expect(ask(4712)).toThrowError(denied);
    expect(ask(user)).toThrowError(denied);
  });
});
